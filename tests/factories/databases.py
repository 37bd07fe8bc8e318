"""Databases beside the one that a test is given."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import make_url


def elsewhere(url: str, **parts: Any) -> str:
    """The URL with another database, user or password."""
    return make_url(url).set(**parts).render_as_string(hide_password=False)


@asynccontextmanager
async def empty_database(url: str, owner: str | None = None) -> AsyncIterator[str]:
    """The URL of a database without tables, on the server of `url`; gone afterwards."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    await run(url, f"CREATE DATABASE {name}" + (f" OWNER {owner}" if owner else ""))
    try:
        yield elsewhere(url, database=name)
    finally:
        await run(url, f"DROP DATABASE {name} WITH (FORCE)")


async def run(url: str, *statements: str) -> None:
    """Run statements one after the other, each in a transaction of its own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def fetch(url: str, query: str, *arguments: Any) -> Sequence[Any]:
    """The rows of a query, asked as the login role."""
    connection = await asyncpg.connect(url)
    try:
        rows: Sequence[Any] = await connection.fetch(query, *arguments)
        return rows
    finally:
        await connection.close()
