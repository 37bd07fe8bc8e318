"""Connections for queries of one statement: lent and taken back without ceremony.

The driver's own pool wraps, checks and resets a connection whenever it changes hands, which takes longer than many a
query. Here a statement enters its tenant itself, and leaves nothing behind, so that nothing has to be reset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncpg

ANSWER_SECONDS: Final = 5.0
_CLOSING_SECONDS: Final = 5.0

Connect = Callable[[], Awaitable[Any]]


class Answers:
    """At most `size` connections, opened when they are needed. Whoever finds none waits, in turn."""

    def __init__(self, connect: Connect, size: int) -> None:
        self._connect = connect
        self._size = size
        self._open = 0
        # The one that was used last is used next: its memory is warm, and plans are made on few of them.
        self._free: list[Any] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._retiring: set[asyncio.Task[None]] = set()

    async def value(self, sql: str, parameters: Sequence[Any]) -> Any:
        """The one value of a statement's first row. Raises the driver's errors, and TimeoutError after five seconds."""
        connection = await self._lent()
        try:
            found = await connection.fetchval(sql, *parameters, timeout=ANSWER_SECONDS)
        except asyncpg.PostgresError:
            # The server has refused the statement, and is ready for another unless it has gone.
            self._give_back(connection)
            raise
        except BaseException:
            # It may still be at work on this one.
            self._retire(connection)
            raise
        self._give_back(connection)
        return found

    async def close(self) -> None:
        """Close those that nobody has."""
        while self._free:
            self._retire(self._free.pop())
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def _lent(self) -> Any:
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
            self._open -= 1
        if self._open >= self._size:
            connection = await self._turn()
            if connection is not None:
                return connection
        else:
            self._open += 1
        # One more may be open, and is counted already.
        try:
            return await self._connect()
        except BaseException:
            self._pass_on(None)
            raise

    async def _turn(self) -> Any:
        """A connection that somebody gives back, or None for the leave to open one."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await turn
        except BaseException:
            # Whoever was given it and does not come any more lets the next one have it.
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())
            raise

    def _give_back(self, connection: Any) -> None:
        self._pass_on(None if connection.is_closed() else connection)

    def _retire(self, connection: Any) -> None:
        async def close() -> None:
            with suppress(Exception):  # it is cut off in any case
                await connection.close(timeout=_CLOSING_SECONDS)
            self._pass_on(None)

        task = asyncio.get_running_loop().create_task(close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _pass_on(self, connection: Any) -> None:
        """To who has waited longest; where nobody waits, a connection is kept, and the leave to open one given up."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is None:
            self._open -= 1
        else:
            self._free.append(connection)
