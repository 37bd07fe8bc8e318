"""Rows that are not there: what resolvers are given when a selection is turned into SQL.

A resolver that gives back a column of its row, or an object or a list that a loader fetches, does so for these as well,
and thereby says what it would take. Whatever else a resolver does with one (compares it, counts it, puts it into text)
raises NotExpressible: then the operation is executed in the ordinary way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

from graphql import GraphQLError
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    inspect,
    literal_column,
)
from sqlalchemy.sql import operators, visitors
from sqlalchemy.types import TypeEngine

from app.auth.principal import Principal
from app.db.pages import Order, Window
from app.domain.enums import Permission
from app.reads.rows import Relation

# JSON text, in SQL.
Part = ColumnElement[str]


class NotExpressible(Exception):
    """A selection, or a part of one, is not for SQL alone."""


@contextmanager
def with_valid_values() -> Iterator[None]:
    """What is wrong with the values of variables, such as null where only their default is valid, is for the execution
    to say, in its place.
    """
    try:
        yield
    except GraphQLError as error:
        raise NotExpressible(error.message) from error


class NoColumn(NotExpressible, AttributeError):
    """A row has nothing of that name."""


class Opaque:
    """Refuses everything that would need a value."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotExpressible(type(self).__name__)

    __bool__ = __str__ = __format__ = __len__ = __iter__ = __getitem__ = __contains__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = __int__ = __float__ = _refuse
    __eq__ = __ne__ = _refuse
    __hash__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        raise NotExpressible(name)


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """An object that several rows of `level` may lead to, by its key there, the attribute `column`."""

    alias: str
    level: Level
    column: str

    def key(self, kind: TypeEngine[Any]) -> ColumnElement[Any]:
        """The key where the object is written; `alias` has each once."""
        return literal_column(f'{self.alias}."key"', kind)


@dataclass(eq=False)
class Level:
    """One place in a selection where rows come from: `statement` with an alias of its own.

    `columns` gathers the attributes that the selection turned out to need.
    """

    alias: str
    entity: Any
    statement: Select[Any]
    many: bool = False
    columns: dict[str, None] = field(default_factory=dict)
    # What is made of an attribute where its rows are read, once for each: by the name that it has among the columns.
    made: dict[str, ColumnElement[Any]] = field(default_factory=dict)
    # Whether objects that its rows lead to are written once for all rows that lead to the same.
    shares: bool = False
    # Of an object that is: what its rows are looked for by.
    shared: Shared | None = None

    def column(self, key: str) -> ColumnElement[Any]:
        """An attribute of the entity, as whoever selects from this level names it."""
        self.columns[key] = None
        return literal_column(f'{self.alias}."{key}"', getattr(self.entity, key).type)

    def text(self, key: str, write: Callable[[ColumnElement[Any]], ColumnElement[str]]) -> ColumnElement[str]:
        """`write` of an attribute, the same for all who ask."""
        name = f"{key} text"
        self.made[name] = write(getattr(self.entity, key))
        return literal_column(f'{self.alias}."{name}"', Text())


class Symbol(Opaque):
    """A value of a row: an expression, and the column type that tells how it is written."""

    def __init__(
        self,
        expression: ColumnElement[Any],
        kind: TypeEngine[Any],
        *,
        nullable: bool,
        place: tuple[Level, str] | None = None,
    ) -> None:
        self.expression = expression
        self.kind = kind
        self.nullable = nullable
        # Of an attribute as it is: whose, and which.
        self.place = place

    def written_by(self, write: Callable[[ColumnElement[Any]], ColumnElement[str]]) -> ColumnElement[str]:
        """`write` of it; of an attribute as it is only once for each row, however often that is needed."""
        if self.place is None:
            return write(self.expression)
        level, key = self.place
        return level.text(key, write)


class Written(Opaque):
    """A value that is written as JSON text already; `expression` is never NULL."""

    def __init__(self, expression: ColumnElement[str]) -> None:
        self.expression = expression


class SymbolicRow(Opaque):
    """A row of a level: its attributes are symbols."""

    def __init__(self, level: Level) -> None:
        self.level = level

    def __getattr__(self, name: str) -> Any:
        mapper = inspect(self.level.entity).mapper
        if name not in mapper.column_attrs:
            raise NoColumn(name)
        column = mapper.column_attrs[name].columns[0]
        place = None if column.primary_key else (self.level, name)
        return Symbol(self.level.column(name), column.type, nullable=bool(column.nullable), place=place)


class SymbolicRows(Opaque):
    """Rows of a level: going through them meets one that stands for all."""

    def __init__(self, level: Level) -> None:
        self._level = level

    def __iter__(self) -> Iterator[SymbolicRow]:  # type: ignore[override]
        yield SymbolicRow(self._level)


@dataclass(eq=False)
class SymbolicPage:
    """A page of a list: `level` has all rows of the list; `view` makes a row's GraphQL object."""

    level: Level
    view: Callable[[Any], Any]
    order: Order
    window: Window


@dataclass(eq=False)
class SymbolicValues:
    """An object whose fields are known by name: the JSON text of each, over the one row of `source` if there is one."""

    source: FromClause | None
    fields: Mapping[str, ColumnElement[str]]


@dataclass(eq=False)
class SymbolicChoice:
    """One of several objects: the first whose condition is true, or none. Each with the name of its type."""

    cases: Sequence[tuple[ColumnElement[bool], str, Any]]


class Slot(str):  # noqa: SLOT000  it carries a name
    """A variable of type ID or Cursor: its value is of this request, its place of each that has the same document."""

    name: str

    @classmethod
    def of(cls, name: str, text: str) -> Self:
        slot = cls(text)
        slot.name = name
        return slot


class NumberSlot(int):
    """A number that is another in the next request: `read` finds it in what that brings.

    It can be looked for, and not be written: text made of it would be right for this request only.
    """

    read: Callable[[Mapping[str, Any]], int]

    @classmethod
    def of(cls, number: int, read: Callable[[Mapping[str, Any]], int]) -> Self:
        slot = cls(number)
        slot.read = read
        return slot

    def __str__(self) -> NoReturn:
        message = "a number of this request"
        raise NotExpressible(message)

    def __format__(self, _: str) -> NoReturn:
        self.__str__()


class PlaceSlot:
    """A value of the place that a page begins at: another in the next request, and of the same type."""

    def __init__(self, read: Callable[[Mapping[str, Any]], Any]) -> None:
        self.read = read


class _Captured(Exception):
    def __init__(self, statement: Select[Any]) -> None:
        super().__init__()
        self.statement = statement


class _Capturing:
    """Stands where a fetch expects a session, and keeps the first statement."""

    async def scalars(self, statement: Select[Any]) -> NoReturn:
        raise _Captured(statement)

    async def execute(self, statement: Select[Any]) -> NoReturn:
        raise _Captured(statement)


class SymbolicPrincipal(Opaque):
    """Whoever asks, as far as two who ask the same have it in common; who and where they are is of each request.

    `as_viewer`: what the two have in common is also their tenant, and what they are there.
    """

    def __init__(self, principal: Principal, tenant_id: int, user_id: int, *, as_viewer: bool = False) -> None:
        if as_viewer:
            self.tenant_slug, self.role, self.kind = principal.tenant_slug, principal.role, principal.kind
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.permissions = principal.permissions

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions


@dataclass(eq=False)
class SymbolicLoader:
    """A loader of rows: asked for a key, it answers with a row (or rows) of a level that depends on the key."""

    tracing: Tracing
    fetch: Callable[..., Awaitable[Any]]
    many: bool

    async def load(self, key: Any) -> Any:
        # Told from every other number by identity.
        wanted = NumberSlot(-1)
        try:
            await self.fetch(_Capturing(), self.tracing.tenant_id, [wanted])
        except _Captured as captured:
            shared = None if self.many else self.tracing.shared(key)
            expression = key_expression(key) if shared is None else shared.key(key.kind)
            statement = _dependent(captured.statement, wanted, expression)
        else:
            message = "a fetch without a statement"
            raise NotExpressible(message)
        level = self.tracing.level(statement, many=self.many)
        level.shared = shared
        return SymbolicRows(level) if self.many else SymbolicRow(level)


class Tracing:
    """One tracing of one operation: who asks, in which tenant, and the levels found so far."""

    def __init__(self, tenant_id: int) -> None:
        self.tenant_id = tenant_id
        self._levels = 0
        self._shared = 0

    def level(self, statement: Select[Any], *, many: bool) -> Level:
        self._levels += 1
        # What else is selected tells a fetch for many whose each row is.
        entities = [found["entity"] for found in statement.column_descriptions if found["expr"] is found["entity"]]
        entity = entities[0] if entities else None
        # The rows of a subquery are of that, which is another one once its statement was made to depend on a key.
        if entity is None or not isinstance(getattr(inspect(entity).selectable, "element", None), Table | None):
            message = "rows of no table"
            raise NotExpressible(message)
        return Level(f"t{self._levels}", entity, statement, many)

    def shared(self, key: Any) -> Shared | None:
        """How an object is shared that rows lead to by this key; None where it is not."""
        if not isinstance(key, Symbol) or key.place is None or not key.place[0].shares:
            return None
        self._shared += 1
        return Shared(f"k{self._shared}", *key.place)


def page_of(tracing: Tracing, view: Callable[[Any], Any], query: Select[Any], order: Order, window: Window) -> Any:
    """What a list that stands by itself would be."""
    return SymbolicPage(tracing.level(query, many=True), view, order, window)


def children_of(
    tracing: Tracing, view: Callable[[Any], Any], relation: Relation[Any], parent_id: Any, window: Window
) -> Any:
    """What a parent's children would be."""
    query = relation.query.where(relation.parent == key_expression(parent_id))
    return SymbolicPage(tracing.level(query, many=True), view, relation.order, window)


def finished(coroutine: Any) -> Any:
    """What a coroutine comes to that has nothing to wait for. Raises NotExpressible when it would wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    message = "it waits"
    raise NotExpressible(message)


def literal(text: str) -> ColumnElement[str]:
    """Text of ours, as it is, in a statement."""
    return literal_column("'" + text.replace("'", "''") + "'", Text())


def key_expression(key: Any) -> Any:
    """What rows are looked for by: a column of an outer row, or a number. Raises NotExpressible."""
    if isinstance(key, Symbol):
        return key.expression
    # What is neither of a row nor of the request stands in the document.
    if isinstance(key, int):
        return key
    message = "a key that is no number"
    raise NotExpressible(message)


def _holds(values: Any, wanted: NumberSlot) -> bool:
    held = getattr(values, "value", None)
    return isinstance(held, (list, tuple)) and len(held) == 1 and held[0] is wanted


def _dependent(statement: Select[Any], wanted: NumberSlot, key: Any) -> Select[Any]:
    """`statement` for one key in place of a list of them."""
    met = 0

    def replace(element: Any) -> None:
        nonlocal met
        if element.operator is operators.in_op and _holds(element.right, wanted):
            met += 1
            replaced = element.left == key
            element.operator, element.right = operators.eq, replaced.right
            element.expand_op = None

    found: Select[Any] = visitors.cloned_traverse(statement, {}, {"binary": replace})
    if met != 1:
        message = "a fetch that does not look for its keys in one place"
        raise NotExpressible(message)
    return found
