"""Queries that are one SQL statement: found again by their text, or compiled when they are asked for the first time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    get_operation_ast,
    validate,
)
from graphql import OperationType as CoreOperation
from graphql.execution.values import get_variable_values
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import asyncpg
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from app.db.pages import shape_of
from app.domain.enums import Permission
from app.domain.errors import Invalid
from schema.compiling.compiler import Compiler
from schema.compiling.completing import Completion, complete
from schema.compiling.rendering import constant_of
from schema.context import Context
from schema.kept import Kept
from schema.limits import points_of, refusals
from schema.loaders import TracingLoaders
from schema.masking import MaskingSchema
from schema.parsed import has_too_many_tokens
from schema.symbols import NotExpressible, NumberSlot, PlaceSlot, Slot, SymbolicPrincipal, Tracing

_PLANS = 1000
_TENANT, _USER = "$tenant", "$user"
_DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]

Reader = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """One statement, and where each of its parameters comes from; or the answer, where that is always the same."""

    sql: str
    parameters: Sequence[Reader]
    points: int
    constant: bytes | None = None
    # What Python puts in afterwards.
    completions: Sequence[Completion] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    """A document that is valid: its operation, and those of its variables that are ids or cursors."""

    document: DocumentNode
    operation: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    ids: frozenset[str]
    cursors: frozenset[str]


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

    async def answer(
        self, text: str, variables: Mapping[str, Any] | None, name: str | None, context: Context
    ) -> bytes | None:
        """The whole answer as JSON, or None where the operation has to be executed in the ordinary way.

        Whoever may not read, or asks for too much, or for what is not valid, is told so there. Raises RateLimited.
        """
        plan = self.plan(text, variables or {}, name, context)
        if plan is None:
            return None
        context.charge(plan.points)
        if plan.constant is not None:
            return plan.constant
        given = {**(variables or {}), _TENANT: context.tenant_id, _USER: context.principal.user_id}
        try:
            parameters = [read(given) for read in plan.parameters]
        except Invalid:
            # A place that this list does not have: the ordinary way says so.
            return None
        answer = await context.database.answer(plan.sql, parameters)
        if plan.completions:
            return await self._completed(plan, answer, text, variables, name, context)
        return answer.encode()

    async def _completed(
        self,
        plan: Plan,
        answer: str,
        text: str,
        variables: Mapping[str, Any] | None,
        name: str | None,
        context: Context,
    ) -> bytes | None:
        """The answer with what Python puts in; None where that fails: the ordinary way says in which place and why."""
        executor = StrawberryGraphQLCoreExecutionContext.build(
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
        # What of them is the same for all requests that the plan is good for.
        slots, rest = list[str](), dict[str, Any]()
        for key, value in variables.items():
            if isinstance(value, str) and (key in known.ids or key in known.cursors):
                slots.append(key)
                if key in known.cursors:
                    rest[key] = shape_of(value)
            else:
                rest[key] = value
        try:
            shape = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS) if rest else b""
        except TypeError:
            return None
        given = frozenset(slots)
        wanted = (text, name, given, shape, context.principal.permissions)
        found = self._plans.kept(wanted)
        if found is not None:
            return found
        return self._plans.get(wanted, lambda: self._compiled(known, text, variables, given, context))

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
        kinds = {variable.variable.name.value: _named(variable.type) for variable in declared}
        ids, cursors = (
            frozenset(name for name, kind in kinds.items() if kind == wanted) for wanted in ("ID", "Cursor")
        )
        return _Known(document, operation, fragments, ids, cursors)

    def _compiled(
        self, known: _Known, text: str, variables: Mapping[str, Any], slots: frozenset[str], context: Context
    ) -> Plan | None:
        if not context.principal.may(Permission.READ):
            return None
        given = {**variables, **{key: Slot.of(key, variables[key]) for key in slots}}
        values = get_variable_values(self._core, known.operation.variable_definitions or (), given)
        if isinstance(values, list) or refusals(self._core, known.document, text, variables):
            return None
        tenant = NumberSlot.of(context.tenant_id, lambda given: given[_TENANT])
        user = NumberSlot.of(context.principal.user_id, lambda given: given[_USER])
        tracing = Tracing(tenant)
        principal: Any = SymbolicPrincipal(context.principal, tenant, user)
        traced = Context(context.services, principal, context.request_id, TracingLoaders(tracing), tracing)
        try:
            compiler = Compiler(self._schema, known.fragments, values, traced, tracing)
            statement = compiler.operation(known.operation)
        except NotExpressible:
            return None
        points = points_of(self._core, known.document, known.operation, variables)
        return _plan(statement, tenant, points, compiler.completions)


def _named(kind: Any) -> str | None:
    """The name of a variable's type; None for a list."""
    named = kind.type if isinstance(kind, NonNullTypeNode) else kind
    return named.name.value if isinstance(named, NamedTypeNode) else None


def _plan(statement: Select[Any], tenant: NumberSlot, points: int, completions: Sequence[Completion]) -> Plan:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    names = compiled.positiontup or []
    readers = [_reader(compiled.params[name], _bound(compiled, name)) for name in names]
    # The tenant is known to row-level security before anything is read, in the same round trip.
    sql = (
        f"SELECT q.answer FROM (SELECT set_config('app.tenant_id', ${len(names) + 1}, true) AS entered) AS s"  # noqa: S608
        f" CROSS JOIN LATERAL (SELECT ({compiled.string}) AS answer WHERE s.entered IS NOT NULL) AS q"
    )
    return Plan(sql, [*readers, lambda given: str(tenant.read(given))], points, _constant(statement), completions)


def _constant(statement: Select[Any]) -> bytes | None:
    """What a statement without a table says."""
    text = constant_of(statement.selected_columns[0])
    return None if text is None or statement.get_final_froms() else text.encode()


def _bound(compiled: Any, name: str) -> Any:
    """The parameter of that name, or the list that it is one of."""
    found = compiled.binds.get(name)
    return compiled.binds[name.rpartition("_")[0]] if found is None else found


def _reader(value: Any, bound: Any) -> Reader:
    if isinstance(value, NumberSlot):
        return value.read
    processor = bound.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    if isinstance(value, PlaceSlot):
        read = value.read
        return read if processor is None else lambda given: processor(read(given))
    stored = value if processor is None else processor(value)
    return lambda _: stored
