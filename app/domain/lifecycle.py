"""A state machine as data: statuses, events, and where each event leads; checked when declared."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Generic, TypeVar

from app.domain.errors import IllegalState

Status = TypeVar("Status", bound=StrEnum)


class Lifecycle(Generic[Status]):
    """The permitted ways through a set of statuses.

    `closed` statuses are never left. `settled` ones rest until somebody acts. From every other status some way leads
    to one of these; a declaration that breaks this, is ambiguous, or has a status nobody can reach, is refused with
    ValueError when it is made.
    """

    def __init__(
        self,
        name: str,
        *,
        initial: Status,
        closed: AbstractSet[Status],
        settled: AbstractSet[Status],
        edges: Iterable[tuple[Status, str, Status]],
    ) -> None:
        self.name = name
        self.initial = initial
        self.closed = frozenset(closed)
        self.settled = frozenset(settled)
        self.edges = tuple(edges)
        self._target: dict[tuple[Status, str], Status] = {}
        self._next: dict[Status, set[Status]] = {}
        for source, event, target in self.edges:
            if (source, event) in self._target:
                self._refuse(f"{event} from {source} leads to two statuses")
            self._target[source, event] = target
            self._next.setdefault(source, set()).add(target)
        self._check()

    @property
    def statuses(self) -> frozenset[Status]:
        return frozenset({self.initial, *(e[0] for e in self.edges), *(e[2] for e in self.edges)})

    def after(self, status: Status, event: str) -> Status:
        """Where `event` leads from `status`. Raises IllegalState when it leads nowhere."""
        target = self._target.get((status, event))
        if target is None:
            message = f"a {self.name} that is {status} does not take '{event}'"
            raise IllegalState(message, status=status)
        return target

    def permits(self, status: Status, event: str) -> bool:
        """Whether `event` may happen in `status`."""
        return (status, event) in self._target

    def connects(self, status: Status, target: Status) -> bool:
        """Whether some event leads from `status` straight to `target`."""
        return target in self._next.get(status, ())

    def events_from(self, status: Status) -> tuple[str, ...]:
        """The events that `status` takes, in the order declared."""
        return tuple(event for source, event, _ in self.edges if source == status)

    def _reach(self, start: Status) -> set[Status]:
        seen = {start}
        frontier = [start]
        while frontier:
            for status in self._next.get(frontier.pop(), ()):
                if status not in seen:
                    seen.add(status)
                    frontier.append(status)
        return seen

    def _check(self) -> None:
        unreachable = self.statuses - self._reach(self.initial)
        if unreachable:
            self._refuse(f"nothing leads to {sorted(unreachable)}")
        for status in self.statuses:
            if status in self.closed:
                if self._next.get(status):
                    self._refuse(f"{status} is closed but is left")
            elif not self._next.get(status, set()) - {status}:
                self._refuse(f"{status} is never left and not closed")
            elif not self._reach(status) & (self.closed | self.settled):
                self._refuse(f"{status} is a trap")

    def _refuse(self, fault: str) -> None:
        message = f"the {self.name} lifecycle is unsound: {fault}"
        raise ValueError(message)
