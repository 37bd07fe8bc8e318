"""Failures that a rehearsal is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.domain.enums import ErrorClass
from app.domain.simulation import Simulation
from app.engine.context import StepContext
from app.engine.executor import Executor
from app.engine.work import Failed, Mode, Outcome, Work

INJECTED = "INJECTED"


@dataclass(frozen=True)
class InjectingExecutor(Executor):
    """An executor that lets the steps of some jobs fail before anybody is asked. `injected` is by the id of the job."""

    injected: dict[int, Simulation] = field(default_factory=dict)

    async def execute(self, work: Work, context: StepContext) -> Outcome:
        wanted = self.injected.get(work.job_id)
        undoes = work.mode is Mode.UNDO
        if wanted is None or work.mode not in (Mode.RUN, Mode.UNDO) or not wanted.fails(work.key, undo=undoes):
            return await super().execute(work, context)
        what = "taking it back" if undoes else "it"
        return Failed(ErrorClass.PERMANENT, INJECTED, f"{what} fails because the rehearsal was asked to let it fail")
