"""Lets what many ask at the same moment go out together.

A statement costs more on its way, and in being set up by the server, than in its work on one row. Who asks alone is
sent at once; what is asked while others of the tenant are on their way waits until they are back, or until as many wait
as are on their way, and goes out with all else that has come together by then. So the busier a process is the fewer
statements it needs, and neither it nor the server stands still while the other is at work.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")
# More would make them smaller; with one, this process and the server wait for each other in turn.
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Together(Generic[Ask, Answer]):
    """Something that can be asked together: `send` takes a connection that is a tenant's, and the asks.

    It gives an answer for each, in their order.
    """

    send: Callable[[Any, int, Sequence[Ask]], Awaitable[Sequence[Answer]]]

    def __hash__(self) -> int:
        return id(self)


class Gathering(Generic[Ask, Answer]):
    """Sends what is asked for one tenant together. Must be used from one event loop.

    Two statements of a tenant are under way at most, and `senders` of all tenants; each has `most` asks at most.
    `send` takes a tenant and its asks, and gives an answer for each in their order; what it raises everybody hears
    whose ask was among them.
    """

    def __init__(
        self,
        send: Callable[[int, Sequence[Ask]], Awaitable[Sequence[Answer]]],
        *,
        senders: int,
        most: int,
    ) -> None:
        self._send = send
        self._senders = senders
        self._most = most
        self._asked: defaultdict[int, deque[tuple[Ask, asyncio.Future[Answer]]]] = defaultdict(deque)
        # A dict for its order: each tenant once.
        self._turns: dict[int, None] = {}
        # How many asks each statement of a tenant has that is under way.
        self._under_way: defaultdict[int, list[int]] = defaultdict(list)
        # Counted where a sender begins and gives up: a task that is not yet known to be done sends nothing any more.
        self._sending = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, tenant_id: int, ask: Ask) -> Answer:
        """The answer to `ask`. A cancelled ask may have been sent all the same."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[tenant_id].append((ask, future))
        self._line_up(tenant_id)
        if self._turns and self._sending < self._senders:
            self._sending += 1
            task = asyncio.create_task(self._go())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _go(self) -> None:
        """Send until nobody asks any more, one tenant after the other."""
        try:
            # Whoever was woken by the same answers asks in the same turn of the loop.
            await asyncio.sleep(0)
            while self._turns:
                del self._turns[tenant_id := next(iter(self._turns))]
                asked = self._asked[tenant_id]
                taken = [asked.popleft() for _ in range(min(len(asked), self._most))]
                under_way = self._under_way[tenant_id]
                under_way.append(len(taken))
                try:
                    await self._answer(tenant_id, taken)
                finally:
                    under_way.remove(len(taken))
                self._line_up(tenant_id)
        finally:
            self._sending -= 1

    def _line_up(self, tenant_id: int) -> None:
        """Give the tenant a turn if what it asks may go; forget it if it asks nothing and nothing is under way."""
        asked, under_way = self._asked[tenant_id], self._under_way[tenant_id]
        if not asked:
            if not under_way:
                del self._asked[tenant_id], self._under_way[tenant_id]
        elif not under_way or (len(under_way) < _AT_ONCE and len(asked) >= min(under_way[0], self._most)):
            self._turns[tenant_id] = None

    async def _answer(self, tenant_id: int, taken: Sequence[tuple[Ask, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send(tenant_id, [ask for ask, _ in taken])
        except Exception as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        except BaseException:
            for _, future in taken:
                future.cancel()
            raise
        for (_, future), answer in zip(taken, answers, strict=True):
            if not future.done():
                future.set_result(answer)
