"""What a ledger (`app.db.ledger`) has collected about its job and not written yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app import clock
from app.db import journal
from app.domain.decisions import JobMove, StepMove


@dataclass(slots=True)
class Collected:
    """Everything that goes out in one statement.

    `moved` has the steps that only move. `finish` is the outcome of the step that was held, and `passed` are steps that
    were begun and have ended since anything was written; `transitions` names the values of both.
    """

    entries: list[journal.Entry] = field(default_factory=list)
    moved: dict[int, StepMove] = field(default_factory=dict)
    job_moves: list[JobMove] = field(default_factory=list)
    finish: Mapping[str, Any] | None = None
    passed: list[dict[str, Any]] = field(default_factory=list)
    _begun: Mapping[str, Any] | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.entries or self.changes_rows)

    @property
    def changes_rows(self) -> bool:
        """Whether a row that is read before this is written would be another one afterwards."""
        return bool(self.moved or self.job_moves or self.finish or self.passed)

    def begin(self, claim: Mapping[str, Any], began: float) -> None:
        """A step is taken that will have ended before it is written. `began`: on the clock of `app.clock.monotonic`."""
        self._begun = {**claim, "began": began}

    def end(self, outcome: Mapping[str, Any]) -> None:
        """A step has an outcome: the one that was begun, or one that was held."""
        if self._begun is not None and self._begun["step"] == outcome["f_id"]:
            self.passed.append({**self._begun, **outcome, "ended": clock.monotonic()})
            self._begun = None
        else:
            self.finish = outcome

    def writes(self, step_id: int) -> bool:
        """Whether the step's row is written for another reason than that it moves."""
        finishes = self.finish is not None and self.finish["f_id"] == step_id
        return finishes or any(step["step"] == step_id for step in self.passed)

    def split(self) -> tuple[Collected, Collected] | None:
        """What has to go out first, where a row is changed twice, which one statement cannot; events come with the
        second.
        """
        if not any(self.writes(step_id) for step_id in self.moved):
            return None
        return Collected(finish=self.finish, passed=self.passed), Collected(self.entries, self.moved, self.job_moves)
