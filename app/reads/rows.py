"""What the questions about every noun share: rows by their ids, and children by their parents' ids."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.db.pages import Order
from app.reads.filters import DateRange, TagFilter, TextFilter

Row = TypeVar("Row")


async def by_ids(session: AsyncSession, query: Select[Row], ids: Sequence[int]) -> dict[int, Row]:
    """The rows of `query` with these ids."""
    entity = query.column_descriptions[0]["entity"]
    rows: Sequence[Any] = (await session.scalars(query.where(entity.id.in_(ids)))).all()
    return {row.id: row for row in rows}


async def grouped(
    session: AsyncSession, query: Select[Row], parent: InstrumentedAttribute[Any], parent_ids: Sequence[int]
) -> dict[int, list[Row]]:
    """The rows of `query` by the parent that `parent` names, in the order of the query; for lists bounded by design."""
    found: dict[int, list[Row]] = {parent_id: [] for parent_id in parent_ids}
    for row in await session.scalars(query.where(parent.in_(parent_ids))):
        found[getattr(row, parent.key)].append(row)
    return found


def text_conditions(column: InstrumentedAttribute[str], wanted: TextFilter | None) -> list[ColumnElement[bool]]:
    """What `wanted` says about a text column; letters' case does not matter to `contains` and `starts_with`."""
    if wanted is None:
        return []
    conditions: list[ColumnElement[bool]] = []
    if wanted.equal is not None:
        conditions.append(column == wanted.equal)
    if wanted.one_of is not None:
        conditions.append(column.in_(wanted.one_of))
    if wanted.contains is not None:
        conditions.append(column.icontains(wanted.contains, autoescape=True))
    if wanted.starts_with is not None:
        conditions.append(column.istartswith(wanted.starts_with, autoescape=True))
    return conditions


def range_conditions(column: InstrumentedAttribute[Any], wanted: DateRange | None) -> list[ColumnElement[bool]]:
    """From `start` inclusive to `end` exclusive."""
    if wanted is None:
        return []
    conditions: list[ColumnElement[bool]] = []
    if wanted.start is not None:
        conditions.append(column >= wanted.start)
    if wanted.end is not None:
        conditions.append(column < wanted.end)
    return conditions


def tag_conditions(column: InstrumentedAttribute[Any], wanted: Sequence[TagFilter] | None) -> list[ColumnElement[bool]]:
    """Every tag must be there, and its value be as wanted."""
    conditions: list[ColumnElement[bool]] = []
    for tag in wanted or ():
        conditions.append(column.has_key(tag.key))
        if tag.value is not None:
            conditions.extend(text_conditions(column[tag.key].astext, tag.value))
    return conditions


def one_of(column: InstrumentedAttribute[Any], wanted: Sequence[Any] | None) -> list[ColumnElement[bool]]:
    return [] if wanted is None else [column.in_(wanted)]


def exactly(column: InstrumentedAttribute[Any], wanted: Any) -> list[ColumnElement[bool]]:
    return [] if wanted is None else [column == wanted]


def readable(entity: Any, tenant_id: int) -> ColumnElement[bool]:
    """A tenant's own rows, and public ones of others that row-level security lets through."""
    return or_(entity.tenant_id == tenant_id, entity.is_public)


def of_tenant(entity: type[Row], tenant_id: int, *, deleted: bool = False) -> Select[Row]:
    """The tenant's rows; without the deleted ones unless asked."""
    table: Any = entity
    query = select(entity).where(table.tenant_id == tenant_id)
    return query if deleted or not hasattr(entity, "is_deleted") else query.where(~table.is_deleted)


@dataclass(frozen=True, slots=True)
class Relation(Generic[Row]):
    """The children of many parents, as pages.

    `query` selects children of any parent, `parent` is the column that names it. `key` tells this relation, with its
    filter, from every other one: pages are fetched together for all parents that ask for the same.
    """

    key: Hashable
    query: Select[Row]
    parent: InstrumentedAttribute[Any]
    order: Order
