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

from app import clock

# The server gives up by itself a little earlier (statement_timeout).
ANSWER_SECONDS: Final = 6.0
STATEMENT_TIMEOUT: Final = "5s"
_LOOK_SECONDS: Final = 0.5
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
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        # Since when each of the others is at work.
        self._busy: dict[Any, float] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        # One look at all deadlines now and then: a timer for each statement would take longer than its parsing.
        self._look: asyncio.TimerHandle | None = None

    async def value(self, sql: str, parameters: Sequence[Any]) -> Any:
        """The one value of a statement's first row.

        Raises the driver's errors: also where the answer does not come within ANSWER_SECONDS; and TimeoutError where no
        connection was to be had in that time.
        """
        connection = await self._lent()
        self._busy[connection] = clock.monotonic()
        if self._look is None:
            self._look_soon()
        try:
            found = await connection.fetchval(sql, *parameters)
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
        if self._look is not None:
            self._look.cancel()
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
        self._waiting.append((turn, clock.monotonic()))
        if self._look is None:
            self._look_soon()
        try:
            return await turn
        except asyncio.CancelledError:
            # Whoever was given it and does not come any more lets the next one have it.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise

    def _look_soon(self) -> None:
        self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._end_what_is_late)

    def _end_what_is_late(self) -> None:
        late = clock.monotonic() - ANSWER_SECONDS
        for connection, since in self._busy.items():
            if since < late:
                # Whoever waits for it is told that the connection has gone.
                connection.terminate()
        while self._waiting and (self._waiting[0][1] < late or self._waiting[0][0].done()):
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(TimeoutError("no connection was free"))
        self._look = None
        if self._busy or self._waiting:
            self._look_soon()

    def _give_back(self, connection: Any) -> None:
        del self._busy[connection]
        self._pass_on(None if connection.is_closed() else connection)

    def _retire(self, connection: Any) -> None:
        self._busy.pop(connection, None)

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
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is None:
            self._open -= 1
        else:
            self._free.append(connection)
