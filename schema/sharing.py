"""One execution for all who follow the same stream with the same document: a frame is read and encoded once.

A follower first comes up to where the group is, by itself and from its own place. There it joins, in the same moment in
which it finds that it is there, so that nothing is missing and nothing comes twice. One that does not read falls out of
the group and comes up again from its place, with fewer and larger frames: a follower is a place, never a growing queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import aclosing
from functools import partial

import structlog

from app import clock
from app.domain.cursors import Place
from schema.encoded import Encoded
from schema.followers import Follower, Frame
from schema.openings import Entry, Makings, Opening
from schema.pace import SWEEP_SECONDS

# How many are sent to before others get a turn.
_SLICE = 200
_LONG_SECONDS = 0.005

_logger = structlog.get_logger("windlass.live")


class Course:
    """What whoever follows a stream has arranged with others: by itself, nothing."""

    # Where to begin, in place of what the document says.
    start: Place | None = None
    # Whether it is what others go along with: where there are several, they may see the same of the database.
    leads = False

    def bound(self, head: Place) -> Place:
        """How far to read now, at most."""
        return head

    def joins(self, place: Place) -> bool:
        """Whether it goes on with others from `place`. What comes after this moment comes from them."""
        del place
        return False

    async def let_catch_up(self, place: Place) -> None:
        """Until the others are no longer behind `place`, or for a moment."""

    def passed(self, place: Place, *, delivering: bool, last: bool) -> None:
        """Everything up to `place` is in what is being delivered, or was before it, or is for nobody here."""


class Leading(Course):
    """The course of a group's own follower."""

    leads = True

    def __init__(self, group: Group, start: Place) -> None:
        self.start = start
        self._group = group

    def passed(self, place: Place, *, delivering: bool, last: bool) -> None:
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
        start: Place | None = None,
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
        self.joined = False

    def bound(self, head: Place) -> Place:
        group = self._groups.get(self._key)
        return head if group is None or self._alone else max(min(head, group.place), self._follower.place)

    def joins(self, place: Place) -> bool:
        self._follower.place = place
        joined = not self._alone and self._join(place)
        if self._frames and self.made is not None:
            self.made()
        return joined

    def _join(self, place: Place) -> bool:
        group = self._groups.get(self._key)
        if group is None:
            group = self._groups.found(self._key, place, self._lead)
        if group.place != place:
            return False
        group.members.add(self._follower)
        self._follower.group = group
        self.joined = True
        if self._opening is not None and self._opening.place == place:
            group.openings[self._entry.beginning] = self._opening
        return True

    @property
    def is_opening(self) -> bool:
        """Whether what is being sent is the first frame of somebody who begins."""
        return self._frames == 1 and self.start is None

    def opened(self, encoded: Encoded, points: int) -> None:
        """What that first frame is, which others may be sent as well."""
        self._opening = Opening(self._entry, encoded, self._follower.place, points, clock.monotonic())

    async def let_catch_up(self, place: Place) -> None:
        group = self._groups.get(self._key)
        if group is not None and group.place < place and not self._alone:
            await group.move(SWEEP_SECONDS)

    def passed(self, place: Place, *, delivering: bool, last: bool) -> None:
        del last
        self._alone = self._alone and not delivering
        if delivering:
            self._frames += 1
            self._follower.place = place


# Executes the document on a course.
Lead = Callable[[Course], AsyncGenerator[Encoded, None]]


class Group:
    """Those who follow the same stream with the same document, all at the same `place`."""

    def __init__(self, place: Place) -> None:
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

    async def lead(self, frames: AsyncGenerator[Encoded, None], over: Callable[[], None]) -> None:
        """Hand every frame to every member. Whatever goes wrong, they go on by themselves and find out what it is."""
        try:
            async with aclosing(frames):
                async for encoded in frames:
                    self.executions += 1
                    await self._hand_out(encoded, last=self.ending)
        except Exception:
            _logger.warning("a shared stream failed; its followers go on alone", exc_info=True)
        finally:
            # Nobody joins any more.
            over()
            members, self.members = self.members, set()
            for member in members:
                member.fall_out()

    async def _hand_out(self, encoded: Encoded, *, last: bool) -> None:
        # Who joins from now on joins at the new place: this frame is for those who are here.
        present, began = list(self.members), clock.monotonic()
        self.arrive()
        frame = Frame(encoded, self.place, last)
        for number, member in enumerate(present, 1):
            if member in self.members and not member.offer(frame):
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

    async def coming(self, entry: Entry) -> Opening | None:
        """The first frame that is being made for somebody else; None: make your own."""
        return self.opening(entry) if await self.makings.over(entry) else None

    def opening(self, entry: Entry) -> Opening | None:
        """The first frame that somebody else was sent a moment ago."""
        group = self._groups.get(entry.key)
        found = None if group is None else group.openings.get(entry.beginning)
        return found if found is not None and found.is_fresh(clock.monotonic()) else None

    def enter(self, follower: Follower, opening: Opening) -> bool:
        """Begin with that first frame in the group; False where the group has gone on since."""
        group = self._groups.get(opening.entry.key)
        if group is None or group.place != opening.place:
            return False
        group.members.add(follower)
        follower.group = group
        if not follower.offer(Frame(opening.encoded, opening.place)):
            group.members.discard(follower)
        return True

    def found(self, key: Hashable, place: Place, lead: Lead) -> Group:
        """A new group, which begins at `place`."""
        group = self._groups[key] = Group(place)
        over = partial(self._over, key, group)
        group.end = over
        group.task = asyncio.create_task(group.lead(lead(Leading(group, place)), over))
        return group

    def leave(self, follower: Follower) -> None:
        """Be in no group any more. Whoever is the last ends it."""
        group, follower.group = follower.group, None
        if group is None:
            return
        group.members.discard(follower)
        if not group.members and group.task is not None:
            group.end()
            group.task.cancel()

    def _over(self, key: Hashable, group: Group) -> None:
        if self._groups.get(key) is group:
            del self._groups[key]
