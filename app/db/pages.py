"""Keyset pages: a place in an ordered list is named by the values of the row there, never by a count of rows.

Rows that appear or vanish while somebody turns pages are neither shown twice nor passed over. The id breaks every tie.
Columns that rows are ordered by are never NULL: those that may be have another in their place (models.base.or_later).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Function,
    Integer,
    Select,
    func,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.domain.errors import Invalid, LimitExceeded
from app.domain.keeping import fault_of

DEFAULT_SIZE = 20
MAX_SIZE = 100
COUNT_LIMIT = 1000
_MAX_CURSOR = 2000

Row = TypeVar("Row")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Order:
    """A total order of a table's rows: by `columns` and then by `id`, all in one direction.

    `name` tells this order from every other one; a cursor made under another name is refused.
    """

    name: str
    columns: tuple[InstrumentedAttribute[Any], ...]
    id: InstrumentedAttribute[int]
    descending: bool = False

    @property
    def keys(self) -> tuple[InstrumentedAttribute[Any], ...]:
        return (*self.columns, self.id)

    def of(self, entity: Any) -> Order:
        """The same order over an alias of the table."""
        columns = tuple(getattr(entity, column.key) for column in self.columns)
        return Order(self.name, columns, getattr(entity, self.id.key), self.descending)

    def values_of(self, row: Any) -> tuple[Any, ...]:
        return tuple(getattr(row, column.key) for column in self.keys)

    def clauses(self, *, backwards: bool = False) -> list[ColumnElement[Any]]:
        """The ORDER BY; `backwards` turns it round."""
        falling = self.descending is not backwards
        return [column.desc() if falling else column.asc() for column in self.keys]

    def beyond(self, values: Sequence[Any], *, backwards: bool = False) -> ColumnElement[bool]:
        """The rows strictly after the place named by `values`, or strictly before it."""
        place = tuple_(*(literal(v, c.type) for v, c in zip(values, self.keys, strict=True)))
        row = tuple_(*self.keys)
        return row > place if self.descending is backwards else row < place


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list: `first` rows after `after`, or the `last` ones before `before`."""

    first: int | None = None
    after: str | None = None
    last: int | None = None
    before: str | None = None

    @property
    def backwards(self) -> bool:
        return self.last is not None

    def size(self, default: int = DEFAULT_SIZE, maximum: int = MAX_SIZE) -> int:
        """How many rows. Raises Invalid for contradictions and LimitExceeded above `maximum`."""
        if self.first is not None and self.last is not None:
            message = "ask for the first or for the last, not for both"
            raise Invalid(message, path=("last",))
        name = "last" if self.backwards else "first"
        size = self.last if self.backwards else self.first
        if size is None:
            return default
        if size < 0:
            message = f"{name} cannot be negative"
            raise Invalid(message, path=(name,))
        if size > maximum:
            message = f"{name} is at most {maximum}"
            raise LimitExceeded(message, path=(name,))
        return size


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows; when not `exact`, there are more than `value`."""

    value: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows of a list, in its order, each with its cursor."""

    rows: list[Row]
    cursors: list[str]
    has_next: bool
    has_previous: bool


def cursor_of(order: Order, row: Any) -> str:
    """The opaque name of the place of `row` in `order`."""
    values = [v.isoformat() if isinstance(v, datetime) else v for v in order.values_of(row)]
    return base64.urlsafe_b64encode(orjson.dumps([order.name, *values])).decode().rstrip("=")


def decode_cursor(order: Order, cursor: str, argument: str = "after") -> tuple[Any, ...]:
    """The values in a cursor of `order`. Raises Invalid with the path of `argument` for anything else."""
    try:
        return _values_in(cursor, order)
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        message = "this cursor does not belong to this list in this order"
        raise Invalid(message, path=(argument,)) from error


def shape_of(cursor: Any) -> Any:
    """What cursors of the same order have in common; itself for what is no cursor."""
    try:
        name, *values = _parts(cursor)
    except (ValueError, TypeError, AttributeError, binascii.Error):
        return cursor
    return [name, len(values)]


def windowed(query: Select[Any], order: Order, window: Window, size: int) -> Select[Any]:
    """`query` cut down to the window and one row more, which tells whether the list goes on."""
    if window.after is not None:
        query = query.where(order.beyond(decode_cursor(order, window.after, "after")))
    if window.before is not None:
        query = query.where(order.beyond(decode_cursor(order, window.before, "before"), backwards=True))
    return query.order_by(*order.clauses(backwards=window.backwards)).limit(size + 1)


def page_of(rows: Sequence[Row], order: Order, window: Window, size: int) -> Page[Row]:
    """The page in what a `windowed` query answered."""
    more = len(rows) > size
    kept = list(rows[:size])
    if window.backwards:
        kept.reverse()
    return Page(
        rows=kept,
        cursors=[cursor_of(order, row) for row in kept],
        has_next=window.before is not None if window.backwards else more,
        has_previous=more if window.backwards else window.after is not None,
    )


async def fetch(session: AsyncSession, query: Select[Row], order: Order, window: Window) -> Page[Row]:
    """One page of the rows that `query` selects."""
    size = window.size()
    rows = (await session.scalars(windowed(query, order, window, size))).all()
    return page_of(rows, order, window, size)


async def fetch_nested(
    session: AsyncSession,
    query: Select[Row],
    parent: ColumnElement[int] | InstrumentedAttribute[Any],
    parent_ids: Sequence[int],
    order: Order,
    window: Window,
) -> dict[int, Page[Row]]:
    """A page for each parent in one statement: the limit holds per parent, and only that many rows are read."""
    size = window.size()
    parents = unnested(parent_ids).column_valued("asked_id")
    child = windowed(query.where(parent == parents), order, window, size).lateral("child")
    entity = aliased(query.column_descriptions[0]["entity"], child)
    # The lateral part is ordered and a nested loop keeps that order, but only an ORDER BY promises it.
    statement = (
        select(parents, entity)
        .join(entity, true())
        .order_by(parents, *order.of(entity).clauses(backwards=window.backwards))
    )
    found: dict[int, list[Any]] = {parent_id: [] for parent_id in parent_ids}
    for parent_id, row in await session.execute(statement):
        found[parent_id].append(row)
    return {parent_id: page_of(rows, order, window, size) for parent_id, rows in found.items()}


async def count(session: AsyncSession, query: Select[Any]) -> Count:
    """How many rows `query` selects, counted up to a limit: no dashboard makes the database walk a whole table."""
    bounded = query.with_only_columns(literal(1)).order_by(None).limit(COUNT_LIMIT + 1).subquery()
    value = await session.scalar(select(func.count()).select_from(bounded)) or 0
    return Count(min(value, COUNT_LIMIT), exact=value <= COUNT_LIMIT)


def unnested(ids: Sequence[int]) -> Function[int]:
    """`ids` as a set of rows."""
    return func.unnest(literal(list(ids), ARRAY(BigInteger)), type_=BigInteger)


async def count_nested(
    session: AsyncSession,
    query: Select[Any],
    parent: ColumnElement[Any] | InstrumentedAttribute[Any],
    values: Sequence[Value],
) -> dict[Value, Count]:
    """`count` of the rows for each of the values that `parent` may have, in one statement."""
    parents = func.unnest(literal(list(values), ARRAY(parent.type)), type_=parent.type).column_valued("asked")
    bounded = (
        query.where(parent == parents)
        .with_only_columns(literal(1).label("one"))
        .order_by(None)
        .limit(COUNT_LIMIT + 1)
        .lateral("bounded")
    )
    statement = select(parents, func.count(bounded.c.one)).join(bounded, true(), isouter=True).group_by(parents)
    return {
        value: Count(min(number, COUNT_LIMIT), exact=number <= COUNT_LIMIT)
        for value, number in await session.execute(statement)
    }


def _parts(cursor: str) -> list[Any]:
    """What is in a cursor: the name of its order, and values. Raises ValueError and the like."""
    if len(cursor) > _MAX_CURSOR:
        raise ValueError(cursor)
    padded = cursor + "=" * (-len(cursor) % 4)
    parts: list[Any] = orjson.loads(base64.b64decode(padded.encode(), altchars=b"-_", validate=True))
    return parts


def _values_in(cursor: str, order: Order) -> tuple[Any, ...]:
    name, *values = _parts(cursor)
    if name != order.name:
        raise ValueError(name)
    return tuple(_restored(column, value) for column, value in zip(order.keys, values, strict=True))


def _restored(column: InstrumentedAttribute[Any], value: Any) -> Any:
    """The value as the column has it. Raises TypeError, ValueError or OverflowError when a column cannot have it."""
    kind = column.type.python_type
    restored = datetime.fromisoformat(value) if kind is datetime else value
    if not isinstance(restored, kind) or isinstance(restored, bool):
        raise TypeError(column.key)
    if isinstance(restored, datetime):
        if restored.tzinfo is None:
            # It would be another moment on another server.
            raise ValueError(column.key)
        return restored.astimezone(UTC)
    bits = 31 if type(column.type) is Integer else 63
    if fault_of(restored, ()) is not None or (isinstance(restored, int) and not -(2**bits) <= restored < 2**bits):
        raise ValueError(column.key)
    return restored
