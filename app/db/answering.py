"""Connections for queries of one statement: lent and taken back without ceremony.

The driver's own pool wraps, checks and resets a connection whenever it changes hands, which takes longer than many a
query. Here a statement enters its tenant itself, and leaves nothing behind, so that nothing has to be reset.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from app import clock

# The server gives up by itself a little earlier (statement_timeout).
ANSWER_SECONDS: Final = 6.0
STATEMENT_SECONDS: Final = 5.0
STATEMENT_TIMEOUT: Final = f"{STATEMENT_SECONDS:g}s"
_LOOK_SECONDS: Final = 0.5
_CLOSING_SECONDS: Final = 5.0
# So many statements are under way as long as they come back: docs/decisions/0081-few-at-a-time.md.
_FEW: Final = 3
# Where none has come back for so long and somebody waits, one more is sent.
_STALL_SECONDS: Final = 0.001
# A statement that stays prepared takes up to a third of a megabyte of the server's memory, on each connection.
_PREPARED: Final = 100

Connect = Callable[[], Awaitable[Any]]


@dataclass(slots=True, eq=False)
class _Line:
    """A connection, and the statements that are prepared on it: the driver looks longer for one than we do."""

    connection: Any
    prepared: OrderedDict[str, Any] = field(default_factory=OrderedDict)

    async def value(self, sql: str, parameters: Sequence[Any]) -> Any:
        statement = self.prepared.get(sql)
        if statement is None:
            statement = self.prepared[sql] = await self.connection.prepare(sql)
            if len(self.prepared) > _PREPARED:
                self.prepared.popitem(last=False)
        else:
            self.prepared.move_to_end(sql)
        return await statement.fetchval(*parameters)


class Answers:
    """At most `size` connections, opened when they are needed. Whoever finds none waits, in turn.

    Few are used while statements come back fast, and more where they take long.
    """

    def __init__(self, connect: Connect, size: int) -> None:
        self._connect = connect
        self._size = size
        self._few = min(_FEW, size)
        self._open = 0
        # The one that was used last is used next: its memory is warm, and plans are made on few of them.
        self._free: list[_Line] = []
        self._waiting: deque[tuple[asyncio.Future[_Line | None], float]] = deque()
        # Since when each of the others is at work.
        self._busy: dict[_Line, float] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        # How many statements have come back, and when the last one did.
        self._back = 0
        self._back_at = 0.0
        self._stall: asyncio.TimerHandle | None = None
        # One look at all deadlines now and then: a timer for each statement would take longer than its parsing.
        self._look: asyncio.TimerHandle | None = None

    async def value(self, sql: str, parameters: Sequence[Any]) -> Any:
        """The one value of a statement's first row.

        Raises the driver's errors: also where the answer does not come within ANSWER_SECONDS; and TimeoutError where no
        connection was to be had in that time.
        """
        line = await self._lent()
        self._busy[line] = clock.monotonic()
        if self._look is None:
            self._look_soon()
        try:
            found = await line.value(sql, parameters)
        except asyncpg.PostgresError:
            # The server has refused the statement, and is ready for another unless it has gone.
            line.prepared.pop(sql, None)
            self._give_back(line)
            raise
        except BaseException:
            # It may still be at work on this one.
            self._retire(line)
            raise
        self._give_back(line)
        return found

    async def close(self) -> None:
        """Close those that nobody has."""
        for timer in (self._look, self._stall):
            if timer is not None:
                timer.cancel()
        while self._free:
            self._retire(self._free.pop())
        if self._retiring:
            await asyncio.wait(self._retiring)

    @property
    def _in_use(self) -> int:
        return self._open - len(self._free)

    async def _lent(self) -> _Line:
        found = self._take() if self._in_use < self._few else await self._turn()
        if found is not None:
            return found
        # One more may be open, and is counted already.
        try:
            return _Line(await self._connect())
        except BaseException:
            self._pass_on(None)
            raise

    def _take(self) -> _Line | None:
        """A connection that is free, or None for the leave to open one: there are fewer than there may be."""
        while self._free:
            line = self._free.pop()
            if not line.connection.is_closed():
                return line
            self._open -= 1
        self._open += 1
        return None

    async def _turn(self) -> _Line | None:
        """A connection that somebody gives back, or None for the leave to open one."""
        turn: asyncio.Future[_Line | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, clock.monotonic()))
        if self._look is None:
            self._look_soon()
        self._watch()
        try:
            return await turn
        except asyncio.CancelledError:
            # Whoever was given it and does not come any more lets the next one have it.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise

    def _watch(self) -> None:
        """See whether statements come back, as long as somebody waits and one more could be sent."""
        if self._stall is None and self._waiting and self._in_use < self._size:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(_STALL_SECONDS, self._send_one_more, self._back)

    def _send_one_more(self, back: int) -> None:
        self._stall = None
        while back == self._back and self._waiting and self._in_use < self._size:
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._take())
                break
        self._watch()

    def _look_soon(self) -> None:
        self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._end_what_is_late)

    def _end_what_is_late(self) -> None:
        late = clock.monotonic() - ANSWER_SECONDS
        for line, since in self._busy.items():
            if since < late:
                # Whoever waits for it is told that the connection has gone.
                line.connection.terminate()
        while self._waiting and (self._waiting[0][1] < late or self._waiting[0][0].done()):
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(TimeoutError("no connection was free"))
        self._look = None
        if self._busy or self._waiting:
            self._look_soon()

    def _give_back(self, line: _Line) -> None:
        del self._busy[line]
        now, before = clock.monotonic(), self._back_at
        self._back, self._back_at = self._back + 1, now
        if line.connection.is_closed():
            self._pass_on(None)
        elif self._in_use > self._few and now - before < _STALL_SECONDS / 2:
            # They come back fast again: who waits has one of those that are under way.
            self._free.append(line)
        else:
            self._pass_on(line)

    def _retire(self, line: _Line) -> None:
        self._busy.pop(line, None)

        async def close() -> None:
            with suppress(Exception):  # it is cut off in any case
                await line.connection.close(timeout=_CLOSING_SECONDS)
            self._pass_on(None)

        task = asyncio.get_running_loop().create_task(close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _pass_on(self, line: _Line | None) -> None:
        """To who has waited longest; where nobody waits, a connection is kept, and the leave to open one given up."""
        while self._waiting:
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_result(line)
                return
        if line is None:
            self._open -= 1
        else:
            self._free.append(line)
