"""Objects of what is executed field by field, each read by a statement of its own selection.

What mutations answer, what a frame of a subscription shows, and what a computed field leads to: objects of a table,
whose selection compiles as a query's does. All objects of one place in the document are read by one statement.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from graphql import (
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLList,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    Undefined,
    VariableNode,
    Visitor,
    visit,
)
from graphql.execution.values import get_variable_values
from strawberry.dataloader import DataLoader
from strawberry.schema import BaseSchema

from app.db.pages import shape_of
from schema.compiling import plain
from schema.compiling.collecting import sets_of
from schema.compiling.compiler import Compiler
from schema.compiling.completing import complete
from schema.compiling.plans import KEYS, TENANT, USER, Plan, entity_plan, name_of, traced
from schema.context import Context
from schema.deadlines import BoundedExecution
from schema.kept import Kept
from schema.loaders import of_type
from schema.nodes import Pointer, load
from schema.symbols import NotExpressible, Slot

_PLANS = 1000
_MOST = 1000
_SLOTS = {"ID", "Cursor"}

_Nodes = tuple[FieldNode, ...]


@dataclass(frozen=True, slots=True)
class _Written:
    """Stands for an execution of which nothing is left to do."""

    result: ExecutionResult

    def execute_operation(self, serially: bool | None = None) -> ExecutionResult:  # noqa: ARG002
        return self.result


@dataclass(frozen=True, slots=True)
class _Found:
    """What reads an object: a plan, the object's number, and the variables of this request."""

    plan: Plan
    number: int
    given: Mapping[str, Any]


class Executor(BoundedExecution):
    """Executes field by field, but for objects that a statement reads, and lists of what only shows what it holds."""

    entities: ClassVar[Entities]
    # Of a subscription, all of whose frames are written in the same way.
    _write_frame: plain.FrameWriter | None = None

    def build_per_event_executor(self, payload: Any) -> Any:
        """What executes one frame: nothing, where it is plain, but what has been written already."""
        if self._write_frame is None:
            self._write_frame = plain.frame_writer(self)
        data = self._write_frame(payload)
        if data is not None:
            return _Written(ExecutionResult(data, None))
        executor = super().build_per_event_executor(payload)
        # graphql-core's memory of subfields is for one execution: it would keep something of each.
        executor._relevant_sub_fields = {}  # noqa: SLF001
        return executor

    def complete_list_value(
        self,
        return_type: GraphQLList[GraphQLOutputType],
        field_details_list: Any,
        info: Any,
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        listed = plain.written(self, return_type.of_type, field_details_list, result)
        if listed is not None:
            return listed
        return super().complete_list_value(return_type, field_details_list, info, path, result, position_context)

    def complete_object_value(
        self,
        return_type: GraphQLObjectType,
        field_details_list: Any,
        info: Any,
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        found = self.entities.found(self, return_type, field_details_list, result)
        if found is not None or isinstance(result, Pointer):
            place = (field_details_list, info, path)
            return self._read(found, self.context_value, return_type, place, result, position_context)
        return super().complete_object_value(return_type, field_details_list, info, path, result, position_context)

    async def _read(
        self,
        found: _Found | None,
        context: Context,
        kind: GraphQLObjectType,
        place: tuple[Any, Any, Any],
        result: Any,
        position_context: Any,
    ) -> Any:
        """What the object's statement says; where it cannot, the ordinary execution, which says why."""
        if found is not None:
            text = await self.entities.read(found, context)
            if text is not None:
                data = orjson.loads(text)
                if await complete(super().build_per_event_executor(self.root_value), found.plan.completions, data):
                    return data
            elif isinstance(result, Pointer):
                return None
        if isinstance(result, Pointer):
            result = await load(getattr(context.loaders, result.loader), result.number, result.kind)
            if result is None:
                return None
        completed = super().complete_object_value(kind, *place, result, position_context)
        return await completed if self.is_awaitable(completed) else completed


class Entities:
    """The plans of a process for objects. At most a thousand, the least recently used go first."""

    def __init__(self, schema: BaseSchema) -> None:
        self._schema = schema
        self._core: GraphQLSchema = schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
        # With the nodes themselves: while they are kept, nothing else is known by their numbers.
        self._plans = Kept[Hashable, tuple[_Nodes, Plan | None]](_PLANS)
        self._used = Kept[Hashable, tuple[_Nodes, frozenset[str]]](_PLANS)

    def found(self, executor: Executor, kind: GraphQLObjectType, details: Sequence[Any], result: Any) -> _Found | None:
        """How an object is read; None where it is to be executed in the ordinary way.

        That is so of a selection that does not compile, and of one that asks for no more than a row that is there has.
        """
        if isinstance(result, Pointer):
            loader, number = result.loader, result.number
        else:
            row, name = getattr(result, "row", None), of_type(kind.name)
            if name is None or row is None:
                return None
            loader, number = name, row.id
        nodes = tuple(one.node for one in details)
        given = self._given(executor, nodes)
        plan = self._plan(executor, (kind, loader), nodes, given)
        if plan is None or (plan.alone and not isinstance(result, Pointer)):
            return None
        return _Found(plan, number, given)

    def read(self, found: _Found, context: Context) -> Awaitable[str | None]:
        """The text of an object, read together with others; None for what is not there."""

        async def read(numbers: list[int]) -> list[str | None]:
            given = {**found.given, KEYS: numbers, TENANT: context.tenant_id, USER: context.principal.user_id}
            return await context.database.answers(found.plan.sql, [one(given) for one in found.plan.parameters])

        loader = context.loaders.made(found.plan, lambda: DataLoader(load_fn=read, max_batch_size=_MOST))
        return loader.load(found.number)

    def _given(self, executor: Executor, nodes: _Nodes) -> Mapping[str, Any]:
        """The variables that a selection uses, as they were sent."""
        same = tuple(map(id, nodes))
        _, used = self._used.get(same, lambda: (nodes, _variables_in(nodes, executor.fragment_definitions)))
        sources = executor.variable_values.sources
        return {name: sources[name].value for name in used if name in sources and sources[name].value is not Undefined}

    def _plan(
        self, executor: Executor, wanted: tuple[GraphQLObjectType, str], nodes: _Nodes, given: Mapping[str, Any]
    ) -> Plan | None:
        declared = executor.operation.variable_definitions or ()
        kinds = {one.variable.name.value: name_of(one.type) for one in declared} if given else {}
        slots = frozenset(name for name in given if kinds.get(name) in _SLOTS and isinstance(given[name], str))
        rest = {name: value for name, value in given.items() if name not in slots}
        rest |= {name: shape_of(given[name]) for name in slots if kinds[name] == "Cursor"}
        try:
            shape = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS) if rest else b""
        except TypeError:
            return None
        kind, loader = wanted
        same = (kind.name, loader, tuple(map(id, nodes)), slots, shape, executor.context_value.principal.permissions)
        variables = {**given, **{name: Slot.of(name, given[name]) for name in slots}}
        _, plan = self._plans.get(same, lambda: (nodes, self._compiled(executor, wanted, nodes, variables)))
        return plan

    def _compiled(
        self, executor: Executor, wanted: tuple[GraphQLObjectType, str], nodes: _Nodes, variables: dict[str, Any]
    ) -> Plan | None:
        declared = executor.operation.variable_definitions or ()
        used = [one for one in declared if one.variable.name.value in variables or one.default_value is not None]
        values = get_variable_values(self._core, used, variables)
        if isinstance(values, list):
            return None
        compiler = Compiler(self._schema, executor.fragment_definitions, values, traced(executor.context_value))
        sets = sets_of(nodes)
        try:
            return entity_plan(compiler.entity(*wanted, sets), compiler.completions)
        except NotExpressible:
            return None


class _Variables(Visitor):
    """Gathers the variables of a selection, by fragments as well."""

    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode]) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._fragments = fragments
        self._seen: set[str] = set()

    def enter_variable(self, node: VariableNode, *_: Any) -> None:
        self.names.add(node.name.value)

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_: Any) -> None:
        name = node.name.value
        if name not in self._seen:
            self._seen.add(name)
            visit(self._fragments[name], self)


def _variables_in(nodes: _Nodes, fragments: Mapping[str, FragmentDefinitionNode]) -> frozenset[str]:
    visitor = _Variables(fragments)
    for node in nodes:
        visit(node, visitor)
    return frozenset(visitor.names)


def executor_of(schema: BaseSchema) -> type[Executor]:
    """The executor of a schema, which has the plans of its objects."""
    return type("SchemaExecutor", (Executor,), {"entities": Entities(schema)})
