"""Simulated jobs: what a real job would do is shown, by the same engine, and nothing is done."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from app.db.models import OrchestrationJob
from app.domain.enums import FailureStrategy, Permission, PlanType, RollbackScope
from app.domain.errors import Forbidden, IllegalState, Invalid, UnknownReference
from app.domain.statuses import JobStatus, PlanStatus
from app.engine.ticking import tick
from app.providers.base import ErrorKind
from app.providers.faults import Fault, FaultKind
from app.services import jobs, plans
from app.services.plans import CreatePlan, ExecutePlan
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.test_pausing import act
from tests.engine.test_recovery import die_at

DIAMOND = {
    "a": note("a"),
    "b": note("b", "${resources.a.outputs.checksum}"),
    "c": note("c", "${resources.a.outputs.path}", needs=["a"]),
    "d": note("d", "${resources.b.outputs.path}", needs=["c"]),
}
# What a simulated job may write, and what is about processes or credentials and not about the tenant's work.
ITS_OWN = {"orchestration_job", "step_run", "step_attempt", "step_effect", "event_log", "job_log", "simulated_resource"}
BESIDE = {"worker", "alembic_version"}


async def planned(workshop: Workshop, content: dict[str, Any], name: str = "rehearsed", **more: Any) -> int:
    """A plan that waits to be executed."""
    template = await workshop.template(content, name)
    given: dict[str, Any] = {"name": name, "type": PlanType.MANUAL, "template_revision_id": template, "stack": "stack"}
    plan = await act(workshop, plans.create, CreatePlan(**{**given, **more}))
    assert plan.status is PlanStatus.READY
    return int(plan.id)


async def simulated(workshop: Workshop, plan_id: int, *fail_at: str) -> OrchestrationJob:
    """The simulated job of a plan, at its end."""
    command = ExecutePlan(plan_id, simulate=True, simulate_failure_at=fail_at)
    job = await act(workshop, plans.execute, command)
    return await workshop.settle(job.id)


async def contents(workshop: Workshop) -> dict[str, str]:
    """A digest of every table that a simulated job must leave as it is, and of every file."""
    tables = await workshop.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    digests = {}
    for (table,) in tables:
        if table not in ITS_OWN | BESIDE:
            rows = await workshop.rows(f"SELECT to_jsonb(t)::text AS row FROM {table} t ORDER BY 1")
            digests[table] = hashlib.sha256("\n".join(row.row for row in rows).encode()).hexdigest()
    files = sorted((str(path), path.read_text()) for path in workshop.folder.rglob("*") if path.is_file())
    return {**digests, "files": json.dumps(files)}


async def told(workshop: Workshop, job_id: int, *, without: tuple[str, ...] = ("jobId", "planId", "stepRunId")) -> Any:
    """What the journal says of a job: per step and resource in order, and of the job; without ids.

    Steps beside each other may be told of in any order.
    """
    rows = await workshop.rows(
        "SELECT kind, data FROM event_log WHERE stream = 'JOB' AND stream_id = :job AND kind <> 'StepProgressed'"
        " ORDER BY seq",
        job=job_id,
    )
    found: dict[Any, list[Any]] = {}
    for row in rows:
        about = row.data.get("stepKey") or row.data.get("key")
        said = {name: value for name, value in row.data.items() if name not in (*without, "resourceId", "error")}
        found.setdefault((row.kind, about), []).append(said)
    return found


async def test_all_steps_succeed_and_nothing_is_touched(workshop: Workshop) -> None:
    outputs = {"where": {"value": "${resources.d.outputs.path}"}}
    plan_id = await planned(workshop, {"resources": DIAMOND, "outputs": outputs})
    before = await contents(workshop)
    job = await simulated(workshop, plan_id)
    assert (job.status, job.simulated, job.error) == (JobStatus.SUCCEEDED, True, None)
    assert await workshop.steps(job.id) == dict.fromkeys("abcd", "SUCCEEDED")
    assert job.outputs == {"where": "simulated-path"}
    assert await contents(workshop) == before
    assert workshop.provider.notes.calls == []
    assert await workshop.rows("SELECT 1 FROM simulated_resource") == []
    assert await workshop.rows("SELECT 1 FROM event_log WHERE stream = 'JOB' AND feed IS NOT NULL") == []
    texts = await workshop.rows("SELECT step_key, inputs->>'text' AS text FROM step_run ORDER BY 1")
    assert [tuple(row) for row in texts][1:] == [
        ("b", "simulated-checksum"), ("c", "simulated-path"), ("d", "simulated-path"),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["a", "b", "c", "d"])
async def test_a_failure_is_undone_as_that_of_a_provider_would_be(open_workshop: Open, key: str) -> None:
    refusal = Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)
    workshop = await open_workshop({})
    original = workshop.provider.notes.create

    async def create(context: Any, properties: Any) -> Any:
        if properties["name"] == key:
            workshop.provider.notes._plan["create"].append(refusal)
        return await original(context, properties)

    plan_id = await planned(workshop, {"resources": DIAMOND})
    rehearsed = await simulated(workshop, plan_id, key)
    assert rehearsed.status is JobStatus.ROLLED_BACK
    assert rehearsed.error is not None
    assert (rehearsed.error["stepKey"], rehearsed.error["code"]) == (key, "SIMULATED")
    workshop.provider.notes._plan.setdefault("create", __import__("collections").deque())
    workshop.provider.notes.create = create  # type: ignore[method-assign,assignment]
    plan = await workshop.plan_of(rehearsed.id)
    real = await act(workshop, plans.execute, ExecutePlan(plan_id, plan.preview_hash))
    ended = await workshop.settle(real.id)
    assert ended.status is JobStatus.ROLLED_BACK
    assert await workshop.steps(real.id) == await workshop.steps(rehearsed.id)
    assert await told(workshop, real.id) == await told(workshop, rehearsed.id)
