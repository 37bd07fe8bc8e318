"""How long steps usually take, and when jobs that are under way will be over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.db.models import OrchestrationJob, StepRun
from app.domain.enums import ChangeAction, JobDirection
from app.domain.estimating import Usual, in_rounds, seconds_of
from app.domain.operations import OperationKind
from app.domain.statuses import STEP, JobStatus, StepStatus

_JOBS = 50
_STEPS = 2_000
_ENDED = {
    JobDirection.FORWARD: (JobStatus.SUCCEEDED, JobStatus.PARTIALLY_SUCCEEDED),
    JobDirection.ROLLBACK: (JobStatus.ROLLED_BACK, JobStatus.ROLLBACK_FAILED),
}
# By way of the latest jobs, which an index finds: the tries of all tenants lie in one table.
_USUAL = text(
    "SELECT coalesce(s.spec->>'type', s.spec->>'task') AS kind, s.change,"
    " percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM a.ended_at - a.started_at)) AS seconds"
    " FROM (SELECT s.id, s.spec, s.change FROM unnest(CAST(:statuses AS text[])) AS w(status)"
    "  CROSS JOIN LATERAL (SELECT j.id FROM orchestration_job j WHERE j.tenant_id = :tenant AND j.status = w.status"
    "    AND NOT j.simulated ORDER BY j.id DESC LIMIT :jobs) j"
    "  JOIN step_run s ON s.tenant_id = :tenant AND s.job_id = j.id ORDER BY j.id DESC LIMIT :steps) s"
    " JOIN step_attempt a ON a.tenant_id = :tenant AND a.step_run_id = s.id AND a.direction = :direction"
    " WHERE a.ended_at IS NOT NULL AND a.error IS NULL"
    " AND coalesce(s.spec->>'type', s.spec->>'task') IS NOT NULL GROUP BY 1, 2"
)
_ADVANCING = (JobStatus.DISPATCHED, JobStatus.RUNNING)


async def usual_seconds(session: AsyncSession, tenant_id: int, direction: JobDirection) -> Usual:
    """The medians of the tenant's latest jobs, without those that were only simulated."""
    found = await session.execute(
        _USUAL,
        {
            "tenant": tenant_id,
            "statuses": list(_ENDED[direction]),
            "direction": direction,
            "jobs": _JOBS,
            "steps": _STEPS,
        },
    )
    return {(row.kind, ChangeAction(row.change)): float(row.seconds) for row in found}


async def usual_of_tenants(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, Usual]:
    """The seconds that the tenant's steps take forward; nobody sees another's."""
    return {tenant_id: await usual_seconds(session, tenant_id, JobDirection.FORWARD)} if tenant_id in ids else {}


async def completions(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, datetime]:
    """When each of the jobs that go forward will be over, if nothing fails.

    None of those with a step that was never done before, or that waits for people.
    """
    kind = func.coalesce(StepRun.spec["type"].astext, StepRun.spec["task"].astext)
    rows = await session.execute(
        select(
            StepRun.job_id,
            StepRun.phase,
            StepRun.wave,
            StepRun.operation,
            StepRun.change,
            StepRun.status,
            StepRun.started_at,
            kind.label("kind"),
        )
        .join(
            OrchestrationJob,
            (OrchestrationJob.tenant_id == StepRun.tenant_id) & (OrchestrationJob.id == StepRun.job_id),
        )
        .where(
            StepRun.tenant_id == tenant_id,
            StepRun.job_id.in_(ids),
            OrchestrationJob.status.in_(_ADVANCING),
            StepRun.status.not_in(STEP.closed | STEP.settled),
        )
    )
    ahead: dict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        ahead[row.job_id].append(row)
    if not ahead:
        return {}
    usual = await usual_seconds(session, tenant_id, JobDirection.FORWARD)
    now = clock.utc_now()
    found: dict[int, datetime] = {}
    for job_id, steps in ahead.items():
        seconds = in_rounds(((step.phase, step.wave), _left(step, usual, now)) for step in steps)
        if seconds is not None:
            found[job_id] = now + timedelta(seconds=seconds)
    return found


def _left(step: Row[Any], usual: Usual, now: datetime) -> float | None:
    if step.operation is OperationKind.GATE or step.kind is None:
        return None
    seconds = seconds_of(step.kind, step.change, usual)
    if seconds is None or step.status is not StepStatus.RUNNING or step.started_at is None:
        return seconds
    gone: timedelta = now - step.started_at
    return max(seconds - gone.total_seconds(), 0.0)
