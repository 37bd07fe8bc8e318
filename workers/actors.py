"""One actor for each message of the catalogue; declared on a given broker, never at import."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dramatiq

from app.messages import StepDue

Handler = Callable[[Sequence[StepDue]], None]


def declare_actors(broker: dramatiq.Broker, on_steps_due: Handler | None = None) -> None:
    """Declare every actor on `broker`. A process that only rings needs no handler."""

    def step_due(tenant_id: int, job_id: int, step_run_id: int, more: Sequence[Sequence[int]] = ()) -> None:
        """`more`: others that were rung for together with it, each as the first three."""
        if on_steps_due is None:
            message = "this process rings doorbells; it does not answer them"
            raise RuntimeError(message)
        on_steps_due([StepDue(tenant_id, job_id, step_run_id), *(StepDue(*other) for other in more)])

    declare = dramatiq.actor(broker=broker, actor_name=StepDue.actor, queue_name=StepDue.queue)
    declare(step_due)
