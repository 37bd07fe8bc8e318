"""One execution for all who follow the same stream with the same document: a frame is read and encoded once.

A follower first comes up to where the group is, by itself and from its own place. There it joins, in the same moment in
which it finds that it is there, so that nothing is missing and nothing comes twice. One that does not read falls out of
the group and comes up again from its place, with fewer and larger frames: a follower is a place, never a growing queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Hashable
from contextlib import aclosing
from functools import partial
from typing import Any

import structlog

from app import clock
from schema.openings import Entry, Makings, Opening
from schema.pace import SWEEP_SECONDS

_WAITING_FRAMES = 64
_WAITING_BYTES = 256 * 1024
# How many are sent to before others get a turn.
_SLICE = 200
_LONG_SECONDS = 0.005

_logger = structlog.get_logger("windlass.live")

Send = Callable[[str], Coroutine[Any, Any, None]]


class Course:
    """What whoever follows a stream has arranged with others: by itself, nothing."""

    # Where to begin, in place of what the document says.
    start: int | None = None

    def bound(self, head: int) -> int:
        """How far to read now, at most."""
        return head

    def joins(self, place: int) -> bool:
        """Whether it goes on with others from `place`. What comes after this moment comes from them."""
        del place
        return False

    async def let_catch_up(self, place: int) -> None:
        """Until the others are no longer behind `place`, or for a moment."""

    def passed(self, place: int, *, delivering: bool, last: bool) -> None:
        """Everything up to `place` is in what is being delivered, or was before it, or is for nobody here."""


class Leading(Course):
    """The course of a group's own follower."""

    def __init__(self, group: Group, start: int) -> None:
        self.start = start
        self._group = group

    def passed(self, place: int, *, delivering: bool, last: bool) -> None:
        self._group.coming, self._group.ending = place, last
        if not delivering:
            self._group.arrive()


class Joining(Course):
    """The course of one who would rather go on with a group. `place` is what it has come to."""

    def __init__(
        self,
        groups: Groups,
        entry: Entry,
        follower: Follower,
        lead: Lead,
        *,
        start: int | None = None,
    ) -> None:
        self.start = start
        # Said when its first frame is there for others as well, or is not.
        self.made: Callable[[], None] | None = None
        # Whoever has left a group finds out by itself what the next frame is: that may be why it left.
        self._alone = start is not None
        self._groups = groups
        self._entry = entry
        self._key = entry.key
        self._follower = follower
        self._lead = lead
        self._frames = 0
        self._opening: Opening | None = None
        self.joined: Group | None = None

    def bound(self, head: int) -> int:
        group = self._groups.get(self._key)
        return head if group is None or self._alone else max(min(head, group.place), self._follower.place)

    def joins(self, place: int) -> bool:
        self._follower.place = place
        joined = not self._alone and self._join(place)
        if self._frames and self.made is not None:
            self.made()
        return joined

    def _join(self, place: int) -> bool:
        group = self._groups.get(self._key)
        if group is None:
            group = self._groups.found(self._key, place, self._lead)
        if group.place != place:
            return False
        group.members.add(self._follower)
        self.joined = group
        if self._opening is not None and self._opening.place == place:
            group.openings[self._entry.beginning] = self._opening
        return True

    @property
    def is_opening(self) -> bool:
        """Whether what is being sent is the first frame of somebody who begins."""
        return self._frames == 1 and self.start is None

    def opened(self, text: str, points: int) -> None:
        """What that first frame is, which others may be sent as well."""
        self._opening = Opening(text, self._follower.place, points, clock.monotonic())

    async def let_catch_up(self, place: int) -> None:
        group = self._groups.get(self._key)
        if group is not None and group.place < place and not self._alone:
            await group.move(SWEEP_SECONDS)

    def passed(self, place: int, *, delivering: bool, last: bool) -> None:
        del last
        self._alone = self._alone and not delivering
        if delivering:
            self._frames += 1
            self._follower.place = place


# Executes the document on a course: frames as text.
Lead = Callable[[Course], AsyncGenerator[str, None]]


class Follower:
    """One operation of one connection. `send` puts a payload on the wire, and waits while that is full."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.place = 0
        self._waiting: deque[tuple[str, int, bool]] = deque()
        self._bytes = 0
        self._rest: Awaitable[None] | None = None
        self._busy = False
        self._fallen = False
        self._changed = asyncio.Event()

    def offer(self, text: str, place: int, *, last: bool) -> bool:
        """A frame of the group. False: this one reads too slowly, and leaves the group."""
        if not self._busy and not last and not self._waiting:
            return self._send_now(text, place)
        if len(self._waiting) >= _WAITING_FRAMES or self._bytes + len(text) > _WAITING_BYTES:
            self.fall_out()
            return False
        self._waiting.append((text, place, last))
        self._bytes += len(text)
        self._changed.set()
        return True

    def fall_out(self) -> None:
        """There will be nothing more from the group; it goes on from its place."""
        self._fallen = True
        self._changed.set()

    async def drain(self) -> bool:
        """Send what the group offers. Returns whether it was the end; if not, it has fallen out."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._rest is not None:
                rest, self._rest = self._rest, None
                await rest
                self._busy = False
            while self._waiting:
                text, place, last = self._waiting.popleft()
                self._bytes -= len(text)
                self._busy = True
                await self._send(text)
                self._busy = False
                self.place = place
                if last:
                    return True
            if self._fallen:
                self._fallen = False
                return False

    def _send_now(self, text: str, place: int) -> bool:
        """Send in the group's own turn. Only where the socket is full a task has to wait for it."""
        sending = self._send(text)
        try:
            blocked = sending.send(None)
        except StopIteration:
            self.place = place
        except Exception:  # whoever is gone leaves by itself
            self.fall_out()
            return False
        else:
            self._busy = True
            self._rest = _Rest(sending, blocked)
            self.place = place
            self._changed.set()
        return True


class _Rest:
    """What is left of a coroutine that was begun without a task."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], waited: Any) -> None:
        self._coroutine = coroutine
        self._waited = waited

    def __await__(self) -> Generator[Any, Any, None]:
        waited = self._waited
        while True:
            try:
                value = yield waited
            except BaseException as error:  # cancellation reaches what is waited for
                resume = partial(self._coroutine.throw, error)
            else:
                resume = partial(self._coroutine.send, value)
            try:
                waited = resume()
            except StopIteration:
                return


class Group:
    """Those who follow the same stream with the same document, all at the same `place`."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.coming = place
        self.ending = False
        self.members: set[Follower] = set()
        self.openings: dict[Hashable, Opening] = {}
        self.executions = 0
        self._moved = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.end: Callable[[], None] = self.members.clear

    def arrive(self) -> None:
        """The group is where its follower has come to."""
        if self.place != self.coming:
            # Whoever began with them was at another place.
            self.openings.clear()
        self.place = self.coming
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def move(self, timeout: float) -> None:  # noqa: ASYNC109  an answer, not an error
        """Until the group goes on, or for a while."""
        moved = self._moved
        try:
            async with asyncio.timeout(timeout):
                await moved.wait()
        except TimeoutError:
            return

    async def lead(self, frames: AsyncGenerator[str, None], over: Callable[[], None]) -> None:
        """Hand every frame to every member. Whatever goes wrong, they go on by themselves and find out what it is."""
        try:
            async with aclosing(frames):
                async for text in frames:
                    self.executions += 1
                    await self._hand_out(text, last=self.ending)
        except Exception:
            _logger.warning("a shared stream failed; its followers go on alone", exc_info=True)
        finally:
            # Nobody joins any more.
            over()
            for member in self.members:
                member.fall_out()
            self.members.clear()

    async def _hand_out(self, text: str, *, last: bool) -> None:
        # Who joins from now on joins at the new place: this frame is for those who are here.
        present, began = list(self.members), clock.monotonic()
        self.arrive()
        for number, member in enumerate(present, 1):
            if member in self.members and not member.offer(text, self.place, last=last):
                self.members.discard(member)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        if last:
            self.members.difference_update(present)
        elif (took := clock.monotonic() - began) > _LONG_SECONDS:
            # Whatever comes meanwhile comes in one frame: half of the time is for everything else.
            await asyncio.sleep(took)


class Groups:
    """All groups of a process."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, Group] = {}
        self.makings = Makings()

    def __len__(self) -> int:
        return len(self._groups)

    def get(self, key: Hashable) -> Group | None:
        return self._groups.get(key)

    async def opening(self, entry: Entry) -> Opening | None:
        """The first frame that somebody else was sent a moment ago, or is being made; None: make your own."""
        found = self._fresh(entry)
        if found is None and await self.makings.over(entry):
            found = self._fresh(entry)
        return found

    def enter(self, entry: Entry, follower: Follower, opening: Opening) -> Group | None:
        """Begin with that first frame in the group; None where the group has gone on since."""
        group = self._groups.get(entry.key)
        if group is None or group.place != opening.place:
            return None
        group.members.add(follower)
        if not follower.offer(opening.text, opening.place, last=False):
            group.members.discard(follower)
        return group

    def _fresh(self, entry: Entry) -> Opening | None:
        group = self._groups.get(entry.key)
        found = None if group is None else group.openings.get(entry.beginning)
        return found if found is not None and found.is_fresh(clock.monotonic()) else None

    def found(self, key: Hashable, place: int, lead: Lead) -> Group:
        """A new group, which begins at `place`."""
        group = self._groups[key] = Group(place)
        over = partial(self._over, key, group)
        group.end = over
        group.task = asyncio.create_task(group.lead(lead(Leading(group, place)), over))
        return group

    def leave(self, group: Group, follower: Follower) -> None:
        """Whoever is the last ends the group."""
        group.members.discard(follower)
        if not group.members and group.task is not None:
            group.end()
            group.task.cancel()

    def _over(self, key: Hashable, group: Group) -> None:
        if self._groups.get(key) is group:
            del self._groups[key]
