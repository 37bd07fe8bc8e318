"""Pages in SQL: which rows are on one, in which order, and what is told about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Text, case, cast, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from app.db import pages
from app.db.pages import COUNT_LIMIT, Order
from app.domain.errors import DomainError
from schema.rendering import NULL, joined, page_cursor, truth
from schema.symbols import (
    Level,
    NotExpressible,
    Part,
    PlaceSlot,
    Shared,
    Slot,
    Symbol,
    SymbolicPage,
    SymbolicRow,
    literal,
)

_RANK: ColumnElement[int] = literal_column("rank")
_NEXT: ColumnElement[int] = literal_column("next")
_FOUND: ColumnElement[int] = literal_column("found")
_COUNTED: ColumnElement[int] = literal_column(str(COUNT_LIMIT))
# The fields of a `Count`, over what `Cut.counted` gives.
COUNTED: Mapping[str, Part] = {
    "value": cast(func.least(_FOUND, _COUNTED), Text),
    "exact": truth(_FOUND <= _COUNTED),
}


def rows_of(level: Level, *more: ColumnElement[Any]) -> FromClause:
    """The rows of a level under its alias, with the columns that turned out to be needed."""
    return _needed(level, level.statement, more).subquery(level.alias)


def _needed(level: Level, statement: Select[Any], more: Sequence[ColumnElement[Any]] = ()) -> Select[Any]:
    columns: list[ColumnElement[Any]] = [getattr(level.entity, key).label(key) for key in level.columns]
    columns += [text.label(name) for name, text in level.made.items()]
    return statement.with_only_columns(*columns, *more) if columns or more else statement


def _place(order: Order, cursor: str, argument: str) -> tuple[Any, ...]:
    """The values of a place; those of a slot are read when it is asked."""
    values = pages.decode_cursor(order, cursor, argument)
    if not isinstance(cursor, Slot):
        return values
    name = cursor.name

    def reader(position: int) -> Callable[[Mapping[str, Any]], Any]:
        return lambda given: pages.decode_cursor(order, given[name], argument)[position]

    return tuple(PlaceSlot(reader(at)) for at in range(len(values)))


@dataclass
class Cut:
    """One page of a list, as aggregates over its rows and one row more."""

    page: SymbolicPage
    size: int
    limited: Select[Any]
    # Whether it is told where the page ends, and whether there is more.
    told: bool
    # Whether anything that was asked for needs the rows.
    used: bool = False
    # What is written once for all rows that lead to it.
    shared: list[tuple[Shared, Part]] = field(default_factory=list)

    @classmethod
    def of(cls, page: SymbolicPage, *, told: bool) -> Cut:
        """Raises NotExpressible for a window that makes no sense: the ordinary way says why."""
        try:
            size = page.window.size()
            statement = page.level.statement
            for argument, place in (("after", page.window.after), ("before", page.window.before)):
                if place is not None:
                    values = _place(page.order, place, argument)
                    statement = statement.where(page.order.beyond(values, backwards=argument == "before"))
            anywhere = replace(page.window, after=None, before=None)
            limited = pages.windowed(statement, page.order, anywhere, size)
        except DomainError as error:
            raise NotExpressible(error.message) from error
        # A plan that is made once for many pages has to know how long they are.
        limit: ColumnElement[int] = literal_column(str(size + 1 if told else size))
        return cls(page, size, limited.limit(limit), told)

    def share(self, shared: Shared, text: ColumnElement[str]) -> Part:
        """What a row has that leads to an object whose text is `text`, given its key; NULL without one."""
        self.shared.append((shared, text))
        return literal_column(f'{shared.alias}."text"', Text())

    def rows(self) -> FromClause:
        """The rows of the page, with what they share; if it is told, also one more if there is one.

        Each has its rank where that is of use, and whether another one follows.
        """
        level = self.page.level
        if not self._ranked:
            return _needed(level, self.limited).subquery(level.alias)
        inner = _needed(level, self.limited).subquery("page")
        numbered = [func.row_number().over().label("rank")]
        if self.told:
            # Not how many there are: that is known at the last one only, and all would be kept until then.
            numbered.append(func.lead(literal_column("1")).over().label("next"))
        rows = select(inner, *numbered)
        if not self.shared:
            return rows.subquery(level.alias)
        kept = rows.cte(f"{level.alias}_page")
        found: FromClause = kept.alias(level.alias)
        for shared, text in self.shared:
            column = kept.c[shared.column]
            keys = select(column.label("key")).where(column.is_not(None)).distinct().subquery(shared.alias)
            key = shared.key(column.type)
            written = select(key.label("key"), text.label("text")).select_from(keys).cte(f"{shared.alias}_text")
            texts = written.alias(shared.alias)
            found = found.outerjoin(texts, texts.c.key == level.column(shared.column))
        return found

    def counted(self) -> FromClause:
        """How many rows the list has, counted up to a limit, as `found`."""
        bounded: Select[Any] = self.page.level.statement.with_only_columns(literal_column("1")).order_by(None)
        some = bounded.limit(literal_column(str(COUNT_LIMIT + 1))).subquery("bounded")
        return select(func.count().label("found")).select_from(some).subquery("counted")

    @property
    def cursor(self) -> Part:
        """The place of a row."""
        return page_cursor(self.page.order, self._keys)

    @property
    def _keys(self) -> list[Symbol]:
        row = SymbolicRow(self.page.level)
        return [getattr(row, column.key) for column in self.page.order.keys]

    @property
    def _ranked(self) -> bool:
        """Whether the rows have to be told apart by their ranks: elsewhere they come in order, and are as fast again
        without a window that all of them are kept for.
        """
        return self.page.window.backwards or bool(self.shared)

    def listed(self, item: Sequence[Part]) -> list[Part]:
        """The text of a list of all items of the page. What the rows share is known by then."""
        self.used = True
        together: Any
        if self._ranked:
            rank = _RANK.desc() if self.page.window.backwards else _RANK.asc()
            together = func.string_agg(joined(item), aggregate_order_by(literal(","), rank))
            if self.told:
                together = together.filter(self._within)
        elif self.told:
            # Without the row that only tells that there is more.
            # Of text, also where it is the same for all and nothing says so.
            items = func.array_agg(cast(joined(item), Text))
            together = func.array_to_string(items[literal_column("1") : self._size], literal(","))
        else:
            together = func.string_agg(joined(item), literal(","))
        return [literal("["), func.coalesce(together, literal("")), literal("]")]

    def page_info(self) -> Mapping[str, Part]:
        """The fields of a PageInfo. What the rows share is known by then."""
        self.used = True
        window = self.page.window
        more = truth(func.count() > self._size)
        before, after = (literal("true" if given else "false") for given in (window.before, window.after))
        if self._ranked:
            first = self._cursor_where(literal_column("1") == _RANK)
            last = self._cursor_where(or_(self._size == _RANK, _NEXT.is_(None)))
        else:
            first, last = self._cursor_at(literal_column("1")), self._cursor_at(self._length)
        return {
            "hasNextPage": before if window.backwards else more,
            "hasPreviousPage": more if window.backwards else after,
            "startCursor": last if window.backwards else first,
            "endCursor": first if window.backwards else last,
        }

    @property
    def _size(self) -> ColumnElement[int]:
        return literal_column(str(self.size))

    @property
    def _length(self) -> ColumnElement[int]:
        return func.least(func.count(), self._size)

    @property
    def _within(self) -> ColumnElement[bool]:
        return self._size >= _RANK

    def _cursor_where(self, place: ColumnElement[bool]) -> Part:
        return func.coalesce(func.max(self.cursor).filter(place, self._within), NULL)

    def _cursor_at(self, place: ColumnElement[int]) -> Part:
        keys = [Symbol(func.array_agg(key.expression)[place], key.kind, nullable=key.nullable) for key in self._keys]
        return case((self._length > literal_column("0"), page_cursor(self.page.order, keys)), else_=NULL)
