"""One actor for each message of the catalogue; declared on a given broker, never at import."""

from __future__ import annotations

from collections.abc import Callable

import dramatiq

from app.messages import StepDue

Handler = Callable[[StepDue], None]


def declare_actors(broker: dramatiq.Broker, on_step_due: Handler | None = None) -> None:
    """Declare every actor on `broker`. A process that only rings needs no handler."""

    def step_due(tenant_id: int, job_id: int, step_run_id: int) -> None:
        if on_step_due is None:
            message = "this process rings doorbells; it does not answer them"
            raise RuntimeError(message)
        on_step_due(StepDue(tenant_id, job_id, step_run_id))

    declare = dramatiq.actor(broker=broker, actor_name=StepDue.actor, queue_name=StepDue.queue)
    declare(step_due)
