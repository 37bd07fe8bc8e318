"""How much of the installation one tenant may take."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.statuses import JobStatus

RUNNING, QUEUED, SIMULATED = "jobs.running", "jobs.queued", "jobs.simulated"
RESOURCES, PLANS = "resources", "plans"
# No tenant can be given more than this.
HIGHEST = 100_000
# A job that is paused has nothing under way; to go on it is queued again.
UNDER_WAY = (
    JobStatus.DISPATCHED,
    JobStatus.RUNNING,
    JobStatus.PAUSING,
    JobStatus.CANCELLING,
    JobStatus.ROLLING_BACK,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one tenant. The defaults are those of a tenant that nobody gave any.

    `max_resources` that are there, `max_plans` that are not over; None: as many as it likes.
    """

    max_running_jobs: int = 100
    max_queued_jobs: int = 1000
    max_resources: int | None = None
    max_plans: int | None = None


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a limit is used; what was started before the limit was lowered may be more than it."""

    key: str
    limit: int
    used: int
