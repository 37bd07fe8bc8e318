"""Runs a job ahead of what is written of it: steps that touch nothing outside are written together when they are over.

Nothing has to be known of such a step before it has ended: whoever finds it not begun runs it again, which does no
harm. So they cost one statement together where each would cost two. Who watches shall not notice, hence the bounds. A
step that waits for anything is not run ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from app import clock
from app.engine.context import StepContext
from app.engine.executor import Executor
from app.engine.work import Outcome, Work

# How long, and over how many steps, one turn may run ahead.
_SECONDS = 0.1
_STEPS = 32


@dataclass(slots=True)
class Ahead:
    """How far one turn has run ahead."""

    began: float = field(default_factory=clock.monotonic)
    steps: int = 0

    @property
    def has_room(self) -> bool:
        return self.steps < _STEPS and clock.monotonic() - self.began < _SECONDS

    def run(self, executor: Executor, work: Work, context: StepContext) -> Outcome | None:
        """What came of the work; None if it waits for something, and has to be run again."""
        self.steps += 1
        call = executor.call(work, context)
        try:
            # Neither a task, in which others would come in between at each step, nor a timer, which nobody would hear.
            call.send(None)
        except StopIteration as done:
            outcome: Outcome = done.value
            return outcome
        call.close()
        return None
