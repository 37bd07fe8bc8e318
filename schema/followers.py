"""One operation that goes along with a group: a place, and a way to the client.

While the socket takes what comes, a follower has no task and no generator: the group sends in its own turn. Only what
the socket does not take waits, and a task of the operation's sends it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from app.domain.cursors import BEGINNING, Place
from app.web.sockets import Push
from schema.encoded import Encoded

if TYPE_CHECKING:
    from schema.sharing import Group

WAITING_FRAMES = 64
WAITING_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """What all members of a group are sent, and the place that they are at with it."""

    encoded: Encoded
    place: Place
    last: bool = False


class After(Enum):
    """How things stand when nothing waits any more."""

    TOGETHER = auto()
    ALONE = auto()
    OVER = auto()


class Follower:
    """`push` puts a message on the wire if that has room, `send` waits for it, `wake` starts a task that drains.

    A message is the operation's own beginning `head` and what `form` makes of the result, which is the same for all of
    its kind.
    """

    __slots__ = ("_bytes", "_fallen", "_form", "_head", "_push", "_send", "_waiting", "_wake", "group", "place")

    def __init__(
        self,
        head: bytes,
        form: Callable[[Encoded], bytes],
        push: Push | None,
        send: Callable[[bytes, bytes], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._head = head
        self._form = form
        self._push = push
        self._send = send
        self._wake = wake
        self.place = BEGINNING
        self.group: Group | None = None
        # None as long as there is no task.
        self._waiting: deque[Frame] | None = None
        self._bytes = 0
        self._fallen = False

    def offer(self, frame: Frame) -> bool:
        """A frame of the group. False: this one reads too slowly, and leaves the group."""
        rest = self._form(frame.encoded)
        if self._waiting is None and not frame.last and self._push is not None and self._push(self._head, rest):
            self.place = frame.place
            return True
        waiting = self._waiting or ()
        if len(waiting) >= WAITING_FRAMES or self._bytes + len(rest) > WAITING_BYTES:
            self.fall_out()
            return False
        self._bytes += len(rest)
        self._need_task().append(frame)
        return True

    async def send(self, encoded: Encoded) -> None:
        """A message of its own, from its task."""
        rest = self._form(encoded)
        if self._push is None or not self._push(self._head, rest):
            await self._send(self._head, rest)

    def fall_out(self) -> None:
        """There will be nothing more from the group; it goes on from its place."""
        self._fallen = True
        self._need_task()

    async def drain(self) -> After:
        """Send what waits; the task that does may end afterwards."""
        waiting = self._need_task()
        while waiting:
            frame = waiting.popleft()
            rest = self._form(frame.encoded)
            self._bytes -= len(rest)
            await self._send(self._head, rest)
            self.place = frame.place
            if frame.last:
                return After.OVER
        # Nothing is awaited from here on: the next frame is pushed, or finds that there is no task.
        self._waiting = None
        if self._fallen:
            self._fallen = False
            return After.ALONE
        return After.TOGETHER

    def _need_task(self) -> deque[Frame]:
        if self._waiting is None:
            self._waiting = deque()
            self._wake()
        return self._waiting
