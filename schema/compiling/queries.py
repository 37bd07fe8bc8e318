"""Queries that are one SQL statement: found again by their text, or compiled when they are asked for the first time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import structlog
from asyncpg import QueryCanceledError
from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    OperationDefinitionNode,
    get_operation_ast,
    validate,
)
from graphql import OperationType as CoreOperation
from graphql.execution.values import get_variable_values
from strawberry.execution import optimized_is_awaitable

from app.auth.principal import Principal
from app.db.answering import STATEMENT_SECONDS
from app.db.pages import shape_of
from app.domain.enums import Permission
from app.domain.errors import Invalid
from schema.compiling.compiler import Compiler
from schema.compiling.completing import complete
from schema.compiling.plans import TENANT, USER, Plan, name_of, query_plan, traced
from schema.context import Context
from schema.deadlines import late
from schema.kept import Kept
from schema.limits import points_of, refusals
from schema.masking import MaskingSchema
from schema.nodes import kind_in
from schema.parsed import fields_at_root, has_too_many_tokens
from schema.symbols import NotExpressible, Slot

_PLANS = 1000
_OF_VIEWER = {"viewer", "tenant"}


@dataclass(frozen=True, slots=True)
class _Known:
    """A document that is valid: its operation, and those of its variables that are ids or cursors."""

    document: DocumentNode
    operation: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    ids: frozenset[str]
    cursors: frozenset[str]
    # Whether what an id is of tells what is asked for, and whether it depends on who asks.
    by_kind: bool
    by_viewer: bool

    def shape(self, variables: Mapping[str, Any], principal: Principal) -> tuple[frozenset[str], bytes | None]:
        """Which variables may have other values in another request, and what else of them is the same for all requests
        that a plan is good for; None where that cannot be said.
        """
        slots: list[str] = []
        rest: dict[str, Any] = {}
        for key, value in variables.items():
            if isinstance(value, str) and (key in self.ids or key in self.cursors):
                slots.append(key)
                if key in self.cursors:
                    rest[key] = shape_of(value)
                elif self.by_kind:
                    rest[key] = kind_in(value)
            else:
                rest[key] = value
        if self.by_viewer:
            # No variable is called so.
            rest["$viewer"] = [principal.tenant_id, principal.kind, principal.role]
        try:
            return frozenset(slots), orjson.dumps(rest, option=orjson.OPT_SORT_KEYS) if rest else b""
        except TypeError:
            return frozenset(slots), None


class Asking(NamedTuple):
    """A statement that is yet to be asked for an operation, with its parameters."""

    queries: CompiledQueries
    plan: Plan
    parameters: Sequence[Any]
    text: str
    variables: Mapping[str, Any] | None
    name: str | None

    async def answer(self, context: Context) -> bytes | None:
        """The whole answer; None where the operation has to be executed. Raises what the driver does."""
        try:
            answer = await context.database.answer(context.tenant_id, self.plan.sql, self.parameters)
        except QueryCanceledError:
            # All of it is one statement, and the server has given it up.
            return self.queries.late(self.text, self.name)
        if answer is None:
            # Something is not there that has to be.
            return None
        if self.plan.completions:
            return await self.queries.completed(self.plan, answer, self.text, self.variables, self.name, context)
        return answer.encode()


class _TooLarge(Exception):
    """A document that is refused with these variables."""


class CompiledQueries:
    """The plans of a process. At most a thousand, the least recently used go first."""

    def __init__(self, schema: MaskingSchema) -> None:
        self._schema = schema
        # The ordinary way looks there, too: whatever is left to it has been parsed.
        self._documents = schema.documents
        self._core = schema._schema  # noqa: SLF001  Strawberry keeps the executable schema there
        self._known = Kept[tuple[str, str | None], _Known | None](_PLANS)
        self._plans = Kept[Hashable, Plan | None](_PLANS)

    def begun(
        self, text: str, variables: Mapping[str, Any] | None, name: str | None, context: Context
    ) -> bytes | Asking | None:
        """The whole answer as JSON, or what has to be asked for it; None where the operation has to be executed in the
        ordinary way. It is paid for.

        Whoever may not read, or asks for too much, or for what is not valid, is told so there. Raises RateLimited.
        """
        plan = self.plan(text, variables or {}, name, context)
        if plan is None:
            return None
        context.charge(plan.points)
        if plan.constant is not None:
            return plan.constant
        given = {**(variables or {}), TENANT: context.tenant_id, USER: context.principal.user_id}
        try:
            parameters = [read(given) for read in plan.parameters]
        except Invalid:
            # A place that this list does not have: the ordinary way says so.
            return None
        return Asking(self, plan, parameters, text, variables, name)

    def late(self, text: str, name: str | None) -> bytes | None:
        """The answer where the database has given up."""
        known = self._known.kept((text, name))
        if known is None:
            return None
        errors = late(known.operation, known.fragments, STATEMENT_SECONDS)
        return orjson.dumps({"errors": [error.formatted for error in errors], "data": None})

    async def completed(
        self,
        plan: Plan,
        answer: str,
        text: str,
        variables: Mapping[str, Any] | None,
        name: str | None,
        context: Context,
    ) -> bytes | None:
        """The answer with what Python puts in; None where that fails: the ordinary way says in which place and why."""
        executor = self._schema.execution_context_class.build(
            self._core,
            self._documents.get(text).document,
            None,
            context,
            dict(variables or {}),
            name,
            is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
        )
        data = orjson.loads(answer)
        with structlog.contextvars.bound_contextvars(request_id=context.request_id):
            done = not isinstance(executor, list) and await complete(executor, plan.completions, data)
        return orjson.dumps(data) if done else None

    def plan(self, text: str, variables: Mapping[str, Any], name: str | None, context: Context) -> Plan | None:
        """The plan of an operation for such variables and such a principal; None where there cannot be one."""
        known = self._known.kept((text, name))
        if known is None:
            try:
                known = self._known.get((text, name), lambda: self._look_at(text, name, variables))
            except _TooLarge:
                return None
        if known is None:
            return None
        slots, shape = known.shape(variables, context.principal)
        if shape is None:
            return None
        wanted = (text, name, slots, shape, context.principal.permissions)
        found = self._plans.kept(wanted)
        if found is not None:
            return found
        return self._plans.get(wanted, lambda: self._compiled(known, text, variables, slots, context))

    def _look_at(self, text: str, name: str | None, variables: Mapping[str, Any]) -> _Known | None:
        if has_too_many_tokens(text):
            raise _TooLarge
        try:
            document = self._documents.get(text).document
            operation = get_operation_ast(document, name)
            if operation is None or operation.operation is not CoreOperation.QUERY:
                return None
            # Before validation, which takes long for what is too large; with other variables it may not be.
            if refusals(self._core, document, text, variables):
                raise _TooLarge
            if validate(self._core, document, max_errors=1):
                return None
        except (GraphQLError, RecursionError):
            return None
        nodes = document.definitions
        fragments = {node.name.value: node for node in nodes if isinstance(node, FragmentDefinitionNode)}
        declared = operation.variable_definitions or ()
        kinds = {variable.variable.name.value: name_of(variable.type) for variable in declared}
        ids, cursors = (
            frozenset(name for name, kind in kinds.items() if kind == wanted) for wanted in ("ID", "Cursor")
        )
        roots = {node.name.value for node in fields_at_root(operation.selection_set, fragments)}
        return _Known(document, operation, fragments, ids, cursors, "node" in roots, bool(roots & _OF_VIEWER))

    def _compiled(
        self, known: _Known, text: str, variables: Mapping[str, Any], slots: frozenset[str], context: Context
    ) -> Plan | None:
        if not context.principal.may(Permission.READ):
            return None
        given = {**variables, **{key: Slot.of(key, variables[key]) for key in slots}}
        values = get_variable_values(self._core, known.operation.variable_definitions or (), given)
        if isinstance(values, list) or refusals(self._core, known.document, text, variables):
            return None
        compiler = Compiler(self._schema, known.fragments, values, traced(context, as_viewer=known.by_viewer))
        try:
            statement = compiler.operation(known.operation)
        except NotExpressible:
            return None
        points = points_of(self._core, known.document, known.operation, variables)
        return query_plan(statement, points, compiler.completions)
