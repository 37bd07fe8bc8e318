"""From a selection to one SQL statement whose answer is the JSON text that goes out.

The schema is not written twice: each field's own resolver is asked with symbols (schema.symbols) what it would take.
"""

from __future__ import annotations

import inspect as inspection
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLField,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    is_leaf_type,
)
from graphql.execution.values import VariableValues, get_argument_values
from sqlalchemy import BigInteger, Select, case, func, literal_column, select, true
from strawberry.schema import BaseSchema
from strawberry.schema.schema_converter import GraphQLCoreConverter, get_arguments
from strawberry.types.base import has_object_definition
from strawberry.types.field import StrawberryField

from schema.compiling.collecting import Collector, sets_of
from schema.compiling.completing import Completion, Inputs
from schema.compiling.cuts import COUNTED, Cut, rows_of
from schema.context import Context
from schema.fields import reads_of
from schema.nodes import load
from schema.rendering import NULL, braced, constant_of, joined, listed, text_of, written
from schema.symbols import (
    Level,
    NotExpressible,
    Part,
    Symbol,
    SymbolicChoice,
    SymbolicPage,
    SymbolicRow,
    SymbolicValues,
    Written,
    finished,
    literal,
    with_valid_values,
)

# What the statement of an object looks for it by.
KEY = 'k."key"'
# On fewer rows there is too little to be saved.
_SHARED_FROM = 4


class _Info:
    """What a resolver may ask of its info while it is traced."""

    def __init__(self, context: Context) -> None:
        self.context = context


class Compiler:
    """Compiles one operation with the variables of one request. Everything raises NotExpressible."""

    def __init__(
        self,
        schema: BaseSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: VariableValues,
        context: Context,
    ) -> None:
        self._schema = schema
        self._core: GraphQLSchema = schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
        self._variables = variables
        self._fields = Collector(self._core, fragments, variables).fields
        self._info: Any = _Info(context)
        # The levels that what is being compiled is below of, and the pages whose rows share what they lead to.
        self._outer: list[Level] = []
        self._sharing: dict[Level, Cut] = {}
        # Where in the answer what is being compiled will be, and what has to be put in there afterwards.
        self._path: list[str] = []
        self.completions: list[Completion] = []

    @with_valid_values()
    def operation(self, operation: OperationDefinitionNode) -> Select[Any]:
        """The statement whose one value is the text of `{"data": …}`."""
        root = self._core.query_type
        if root is None or operation.directives:
            message = "no query"
            raise NotExpressible(message)
        with self._at("data"):
            parts = self._object(root, None, [operation.selection_set])
        text = joined([literal('{"data":'), *parts, literal("}")])
        if self.completions and constant_of(text) is not None:
            message = "nothing to ask the database"
            raise NotExpressible(message)
        return select(text.label("answer"))

    @with_valid_values()
    def entity(self, kind: GraphQLObjectType, loader: str, sets: Sequence[SelectionSetNode]) -> Select[Any]:
        """The statement whose one value is the text of the object of KEY; NULL where it is not there."""
        key = Symbol(literal_column(KEY, BigInteger), BigInteger(), nullable=False)
        view = finished(load(getattr(self._info.context.loaders, loader), key, kind.name))
        return select(self._row(kind, view, sets))

    # ── objects ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _object(self, kind: GraphQLObjectType, source: Any, sets: Sequence[SelectionSetNode]) -> list[Part]:
        """The text of an object that is there, in parts."""
        found = {}
        for name, nodes in self._fields(kind, sets).items():
            with self._at(name):
                found[name] = self._field_or_inputs(kind, source, nodes)
        return braced(found)

    @contextmanager
    def _at(self, name: str) -> Iterator[None]:
        self._path.append(name)
        try:
            yield
        finally:
            self._path.pop()

    # ── fields ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _field_or_inputs(self, kind: GraphQLObjectType, source: Any, nodes: list[FieldNode]) -> list[Part]:
        """The text of a field, or of what Python will make it of."""
        completions = len(self.completions)
        shared = {level: len(cut.shared) for level, cut in self._sharing.items()}
        try:
            return self.field(kind, source, nodes)
        except NotExpressible:
            inputs, text, view = self._inputs(kind, source, nodes[0])
        # What was begun is not used.
        del self.completions[completions:]
        for level, cut in self._sharing.items():
            del cut.shared[shared.get(level, 0) :]
        number = len(self.completions)
        self.completions.append(Completion.of(self._path, kind, nodes, inputs, view))
        # The number tells it from a field of another type under the same name.
        return [literal(f"[{number},"), text, literal("]")]

    def _inputs(self, kind: GraphQLObjectType, source: Any, node: FieldNode) -> tuple[Inputs | None, Part, Any]:
        name = node.name.value
        if source is None and not name.startswith("__"):
            # At the root: the field is asked for beside the statement.
            return None, NULL, None
        reads = None if name.startswith("__") else reads_of(kind.fields[name])
        if reads is None:
            raise NotExpressible(name)
        level = _level_of(source)
        inputs = Inputs.of(level.entity, reads)
        return inputs, inputs.text(level), type(source)

    def field(self, kind: GraphQLObjectType, source: Any, nodes: list[FieldNode]) -> list[Part]:
        name = nodes[0].name.value
        if name == "__typename":
            return [literal(f'"{kind.name}"')]
        if name.startswith("__"):
            raise NotExpressible(name)
        defined = kind.fields[name]
        value = self._resolved(defined, source, nodes[0])
        if value is None and source is None and not isinstance(defined.type, GraphQLNonNull):
            # An id of nothing. Deeper, it may be what became of a row that is none.
            return [NULL]
        return self._value(defined.type, value, nodes)

    def _resolved(self, defined: GraphQLField, source: Any, node: FieldNode) -> Any:
        """What the field's resolver says for symbols."""
        field: StrawberryField | None = (defined.extensions or {}).get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if field is not None and field.base_resolver is None and not hasattr(source, "row"):
            return getattr(source, field.python_name)
        if field is None or field.base_resolver is None or field.permission_classes or field.extensions:
            raise NotExpressible(node.name.value)
        given = get_argument_values(defined, node, self._variables)
        try:
            arguments, named = get_arguments(
                field=field,
                source=source,
                info=self._info,
                kwargs=given,
                config=self._schema.config,
                scalar_registry=self._schema.schema_converter.scalar_registry,
            )
            resolver: Any = field.base_resolver.wrapped_func
            value = resolver(*arguments, **named)
            return finished(value) if inspection.iscoroutine(value) else value
        except NotExpressible:
            raise
        except Exception as error:
            # What does not work with symbols works with values, or says what is wrong, in the ordinary way.
            raise NotExpressible(node.name.value) from error

    def _value(
        self, kind: GraphQLOutputType, value: Any, nodes: list[FieldNode], *, required: bool = False
    ) -> list[Part]:
        if isinstance(value, Written):
            return [value.expression]
        if isinstance(kind, GraphQLNonNull):
            return self._value(kind.of_type, value, nodes, required=True)
        if isinstance(kind, GraphQLList):
            return [self._list(kind, value, nodes)]
        named = get_named_type(kind)
        if is_leaf_type(named):
            return [written(named, value) if isinstance(value, StrEnum) else text_of(value, named)]
        sets = sets_of(nodes)
        if isinstance(value, SymbolicChoice):
            cases = [
                (condition, self._of_kind(name, one, sets, required=False)) for condition, name, one in value.cases
            ]
            return [case(*cases, else_=NULL)]
        if not isinstance(named, GraphQLObjectType):
            # Of whatever type the object is that somebody looked for.
            return [self._of_kind(type(value).__name__, value, sets, required=required)]
        if isinstance(value, SymbolicPage):
            return [self._page(named, value, sets)]
        if not self._outer and has_object_definition(type(value)) and not hasattr(value, "row"):
            return self._object(named, value, sets)
        return [self._of_kind(named.name, value, sets, required=required)]

    def _of_kind(self, name: str, value: Any, sets: Sequence[SelectionSetNode], *, required: bool) -> Part:
        kind: Any = self._core.get_type(name)
        if not isinstance(value, SymbolicValues):
            return self._one(kind, value, sets, required=required)
        text = joined(self._named(kind, sets, value.fields))
        return text if value.source is None else select(text).select_from(value.source).scalar_subquery()

    def _row(self, kind: GraphQLObjectType, view: Any, sets: Sequence[SelectionSetNode]) -> Part:
        """The text of an object of a row; NULL where there is no row."""
        level = _level_of(view)
        if level.many:
            message = "one of many"
            raise NotExpressible(message)
        with self._within(level):
            text = joined(self._object(kind, view, sets))
        return select(text).select_from(rows_of(level)).scalar_subquery()

    def _one(self, kind: GraphQLObjectType, view: Any, sets: Sequence[SelectionSetNode], *, required: bool) -> Part:
        found, level = self._row(kind, view, sets), _level_of(view)
        if required and not self._outer:
            # Without it there is no answer at all, which the ordinary way explains.
            return found
        if level.shared is not None:
            return func.coalesce(self._sharing[level.shared.level].share(level.shared, found), NULL)
        return func.coalesce(found, NULL)

    def _list(self, kind: GraphQLList[Any], value: Any, nodes: list[FieldNode]) -> Part:
        named: Any = get_named_type(kind)
        if not isinstance(value, list) or not value:
            # Nothing may be left of rows that have been looked at, which are none.
            raise NotExpressible(named.name)
        if is_leaf_type(named) and all(isinstance(one, StrEnum) for one in value):
            # What who asks may do is the same for all who are answered by the same statement.
            return joined(listed([written(named, one) for one in value]))
        sets = sets_of(nodes)
        if not self._outer and all(_is_one(one) for one in value):
            return joined(listed([self._of_kind(named.name, one, sets, required=True) for one in value]))
        if len(value) != 1 or not isinstance(named, GraphQLObjectType):
            raise NotExpressible(named.name)
        level = _level_of(value[0])
        if not level.many:
            message = "many of one"
            raise NotExpressible(message)
        with self._within(level):
            text = joined(self._object(named, value[0], sets))
        # Aggregates take the rows of an ordered subquery in its order.
        all_of_them = func.coalesce(func.string_agg(text, literal(",")), literal(""))
        found = select(joined([literal("["), all_of_them, literal("]")])).select_from(rows_of(level))
        return found.scalar_subquery()

    @contextmanager
    def _within(self, level: Level) -> Iterator[None]:
        self._outer.append(level)
        try:
            yield
        finally:
            self._outer.pop()

    # ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _page(self, kind: GraphQLObjectType, page: SymbolicPage, sets: Sequence[SelectionSetNode]) -> Part:
        """A connection. One row more than asked for is read: it tells whether there are more."""
        selected = self._fields(kind, sets)
        cut = Cut.of(page, told=any(nodes[0].name.value == "pageInfo" for nodes in selected.values()))
        # What a page within another leads to is looked for from there: it has no rows before that one has.
        page.level.shares = not self._outer and cut.size >= _SHARED_FROM
        self._sharing[page.level] = cut
        source = page.view(SymbolicRow(page.level))
        items = {}
        with self._within(page.level):
            for name, nodes in selected.items():
                with self._at(name):
                    items[name] = self._item(kind, cut, source, nodes)
        # How rows are told apart depends on all that they lead to.
        found = {
            name: self._about(kind, cut, selected[name]) if item is None else cut.listed(item)
            for name, item in items.items()
        }
        whole = select(joined(braced(found)))
        if not cut.used:
            return whole.scalar_subquery()
        # One answer for all rows, also where nothing in it is about them.
        return whole.select_from(cut.rows()).having(true()).scalar_subquery()

    def _item(self, kind: GraphQLObjectType, cut: Cut, source: Any, nodes: list[FieldNode]) -> list[Part] | None:
        """What a row of the page is in a field of the connection; None for a field about the page."""
        name = nodes[0].name.value
        if name not in ("nodes", "edges"):
            return None
        named: Any = get_named_type(kind.fields[name].type)
        if name == "nodes":
            return self._object(named, source, sets_of(nodes))
        return self._edge(named, source, sets_of(nodes), cut)

    def _about(self, kind: GraphQLObjectType, cut: Cut, nodes: list[FieldNode]) -> list[Part]:
        name = nodes[0].name.value
        if name == "__typename":
            return [literal(f'"{kind.name}"')]
        inner = sets_of(nodes)
        named: Any = get_named_type(kind.fields[name].type)
        match name:
            case "pageInfo":
                return self._named(named, inner, cut.page_info())
            case "totalCount":
                total = select(joined(self._named(named, inner, COUNTED))).select_from(cut.counted())
                return [total.scalar_subquery()]
        raise NotExpressible(name)

    def _edge(self, kind: GraphQLObjectType, source: Any, sets: Sequence[SelectionSetNode], cut: Cut) -> list[Part]:
        node: Any = get_named_type(kind.fields["node"].type)
        found: dict[str, list[Part]] = {}
        for name, nodes in self._fields(kind, sets).items():
            inner = sets_of(nodes)
            match nodes[0].name.value:
                case "__typename":
                    found[name] = [literal(f'"{kind.name}"')]
                case "cursor":
                    found[name] = [cut.cursor]
                case _:
                    with self._at(name):
                        found[name] = self._object(node, source, inner)
        return braced(found)

    def _named(
        self, kind: GraphQLObjectType, sets: Sequence[SelectionSetNode], values: Mapping[str, Part]
    ) -> list[Part]:
        """An object whose fields are known by name."""
        known = {**values, "__typename": literal(f'"{kind.name}"')}
        return braced({name: [known[nodes[0].name.value]] for name, nodes in self._fields(kind, sets).items()})


def _is_one(view: Any) -> bool:
    row = getattr(view, "row", None)
    return isinstance(row, SymbolicRow) and not row.level.many


def _level_of(view: Any) -> Level:
    row = getattr(view, "row", None)
    if not isinstance(row, SymbolicRow):
        raise NotExpressible(type(view).__name__)
    return row.level
