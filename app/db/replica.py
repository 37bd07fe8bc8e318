"""A copy of the database that queries may be answered by, as long as it is not behind.

Four times a second the primary is asked how far it is, and the copy whether it is there, too. What the copy says within
`STALE_SECONDS` of a question that it could say yes to has everything in it that was committed before that question. So
nobody is shown anything older than that; and a tenant that has written through this process is answered by the primary
for as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

from app import clock
from app.db.answering import Answers, Connect

STALE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.25
# Of a copy that is away: how long it is left alone.
_AWAY_SECONDS: Final = 2.0
_WHERE: Final = "SELECT pg_current_wal_lsn()::text"
# Null where the server is no copy of anything: then it is never asked for anything else.
_THERE: Final = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
# What says that the copy cannot answer, and the primary may: it is away, or has cancelled the statement because what
# that reads was to be removed.
UNANSWERED: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Replica:
    """The connections to the copy, and what is known of it."""

    def __init__(self, primary: Answers, connect: Connect, size: int) -> None:
        self._primary = primary
        self._answers = Answers(connect, size)
        self._good_until = 0.0
        # When tenants have written through this process, the latest last.
        self._wrote: dict[int, float] = {}
        self._watching: asyncio.Task[None] | None = None

    def may_answer(self, tenant_id: int) -> bool:
        """Whether the copy has everything that the tenant has to be shown."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        now = clock.monotonic()
        return now < self._good_until and self._wrote.get(tenant_id, -STALE_SECONDS) + STALE_SECONDS < now

    def wrote(self, tenant_id: int) -> None:
        """The tenant has something committed that it will want to see."""
        self._wrote.pop(tenant_id, None)
        self._wrote[tenant_id] = clock.monotonic()

    async def value(self, sql: str, parameters: Sequence[Any]) -> Any:
        """As `Answers.value`. After what is among `UNANSWERED` it is asked nothing before it has been looked at."""
        try:
            return await self._answers.value(sql, parameters)
        except UNANSWERED:
            self._good_until = 0.0
            raise

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self._answers.close()

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
                pause = _LOOK_SECONDS
            except UNANSWERED:
                pause = _AWAY_SECONDS
            await asyncio.sleep(pause)

    async def _look(self) -> None:
        asked_at = clock.monotonic()
        place = await self._primary.value(_WHERE, ())
        if await self._answers.value(_THERE, (place,)):
            self._good_until = asked_at + STALE_SECONDS
        for tenant_id, at in list(self._wrote.items()):
            if at + STALE_SECONDS >= asked_at:
                break
            del self._wrote[tenant_id]
