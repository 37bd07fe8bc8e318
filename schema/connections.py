"""Lists: edges and nodes, the page they are from, and how many there are, counted only when asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import strawberry
from sqlalchemy import Select

from app.db import pages
from app.db.pages import Order, Page, Window
from app.reads.rows import Relation
from schema import symbols
from schema.context import Context, Info
from schema.scalars import Cursor

T = TypeVar("T")
Row = TypeVar("Row")


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: Cursor | None
    end_cursor: Cursor | None

    @classmethod
    def of(cls, cursors: Sequence[str], *, has_next: bool, has_previous: bool) -> PageInfo:
        return cls(
            has_next_page=has_next,
            has_previous_page=has_previous,
            start_cursor=Cursor(cursors[0]) if cursors else None,
            end_cursor=Cursor(cursors[-1]) if cursors else None,
        )


@strawberry.type(description="Exact up to 1000, then a floor: no unbounded count behind a dashboard.")
class Count:
    value: int
    exact: bool


@strawberry.type
class Edge(Generic[T]):
    node: T
    cursor: Cursor


@strawberry.type
class Connection(Generic[T]):
    edges: list[Edge[T]]
    page_info: PageInfo
    counting: strawberry.Private[Callable[[], Awaitable[pages.Count]]]

    @strawberry.field
    def nodes(self) -> list[T]:
        return [edge.node for edge in self.edges]

    @strawberry.field
    async def total_count(self) -> Count | None:
        number = await self.counting()
        return Count(value=number.value, exact=number.exact)


async def connect(
    info: Info, view: Callable[[Row], T], query: Select[Row], order: Order, window: Window
) -> Connection[T]:
    """A page of a list that stands by itself; `view` makes a row's GraphQL object."""
    context = info.context
    if context.tracing is not None:
        return cast("Connection[T]", symbols.page_of(context.tracing, view, query, order, window))
    window.size()
    async with context.read() as session:
        page = await pages.fetch(session, query, order, window)

    async def counting() -> pages.Count:
        async with context.read() as session:
            return await pages.count(session, query)

    return _connection(page, view, counting)


async def connect_children(
    info: Info, view: Callable[[Row], T], relation: Relation[Row], parent_id: int, window: Window
) -> Connection[T]:
    """A page of a parent's children; all parents that ask alike are answered together."""
    context: Context = info.context
    if context.tracing is not None:
        return cast("Connection[T]", symbols.children_of(context.tracing, view, relation, parent_id, window))
    window.size()
    page = await context.loaders.page(relation, window).load(parent_id)

    async def counting() -> pages.Count:
        return await context.loaders.count(relation).load(parent_id)

    return _connection(page, view, counting)


def _connection(
    page: Page[Row], view: Callable[[Row], T], counting: Callable[[], Awaitable[pages.Count]]
) -> Connection[Any]:
    return Connection(
        edges=[
            Edge(node=view(row), cursor=Cursor(cursor)) for row, cursor in zip(page.rows, page.cursors, strict=True)
        ],
        page_info=PageInfo.of(page.cursors, has_next=page.has_next, has_previous=page.has_previous),
        counting=counting,
    )
