"""Looks into the database from outside, over one connection that is made anew when it was lost.

A connection for each look would cost the server a process each: at many looks a second, as much as the work that is
looked at.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from app.db.away import DATABASE_AWAY

UNREACHABLE = (*DATABASE_AWAY, asyncpg.PostgresError, TimeoutError)
_SECONDS = 5.0
# For looks that go through everything, when all is over.
_LONGEST_SECONDS = 60.0


@dataclass
class Eyes:
    """One look at a time. Raises one of UNREACHABLE while nobody answers."""

    url: str
    _connection: Any = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def rows(self, query: str, *arguments: Any) -> list[Any]:
        async with self._lock:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(
                        self.url, timeout=_SECONDS, server_settings={"application_name": "chaos-eyes"}
                    )
                found: list[Any] = await self._connection.fetch(query, *arguments, timeout=_LONGEST_SECONDS)
                return found
            except BaseException:
                self._forget()
                raise

    async def number(self, query: str, *arguments: Any) -> float:
        """The first value of the first row; 0 when there is none."""
        rows = await self.rows(query, *arguments)
        return float(rows[0][0] or 0) if rows else 0.0

    async def close(self) -> None:
        self._forget()

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()
