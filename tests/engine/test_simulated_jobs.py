"""Simulated jobs: what a real job would do is shown, by the same engine, and nothing is done."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from app.db.models import OrchestrationJob, ProviderConnection
from app.db.places import connection_place
from app.domain.enums import FailureStrategy, PlanType
from app.domain.errors import IllegalState
from app.domain.statuses import JobStatus, PlanStatus
from app.domain.values import Secret
from app.providers.base import ErrorKind, ProviderError
from app.providers.postgres.provider import PostgresProvider
from app.providers.registry import Registry
from app.services import jobs, plans
from app.services.plans import CreatePlan, ExecutePlan
from tests.engine.harness import SEALER, Workshop, note
from tests.engine.test_pausing import act, begun, locks
from tests.engine.test_recovery import die_at, notice

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


# Nobody who acts for a tenant can read it.
UNREADABLE = {"platform_administrator", "user_password"}


async def contents(workshop: Workshop) -> dict[str, str]:
    """A digest of every table that a simulated job must leave as it is, and of every file."""
    tables = await workshop.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    digests = {}
    for (table,) in tables:
        if table not in ITS_OWN | BESIDE | UNREADABLE:
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


def refuse(workshop: Workshop, name: str) -> None:
    """Let the provider really refuse to make, or to change, the note of this name."""
    notes = workshop.provider.notes
    create, update = notes.create, notes.update

    async def refused_create(context: Any, properties: Any) -> Any:
        if properties["name"] == name:
            raise ProviderError(ErrorKind.ACCESS_DENIED, "no")
        return await create(context, properties)

    async def refused_update(context: Any, prior: Any, properties: Any, difference: Any) -> Any:
        if properties["name"] == name:
            raise ProviderError(ErrorKind.ACCESS_DENIED, "no")
        return await update(context, prior, properties, difference)

    notes.create, notes.update = refused_create, refused_update  # type: ignore[method-assign]


async def really(workshop: Workshop, plan_id: int) -> OrchestrationJob:
    """The real job of a plan, at its end."""
    (plan,) = await workshop.rows("SELECT preview_hash FROM deployment_plan WHERE id = :id", id=plan_id)
    job = await act(workshop, plans.execute, ExecutePlan(plan_id, plan.preview_hash))
    return await workshop.settle(job.id)


async def assert_alike(workshop: Workshop, rehearsed: OrchestrationJob, real: OrchestrationJob) -> None:
    assert await workshop.steps(real.id) == await workshop.steps(rehearsed.id)
    assert await told(workshop, real.id) == await told(workshop, rehearsed.id)


@pytest.mark.parametrize("key", ["a", "b", "c", "d"])
async def test_a_failure_is_undone_as_that_of_a_provider_would_be(workshop: Workshop, key: str) -> None:
    plan_id = await planned(workshop, {"resources": DIAMOND})
    before = await contents(workshop)
    rehearsed = await simulated(workshop, plan_id, key)
    assert await contents(workshop) == before
    assert rehearsed.status is JobStatus.ROLLED_BACK
    assert rehearsed.error is not None
    assert (rehearsed.error["stepKey"], rehearsed.error["code"]) == (key, "SIMULATED")
    refuse(workshop, key)
    real = await really(workshop, plan_id)
    assert real.status is JobStatus.ROLLED_BACK
    await assert_alike(workshop, rehearsed, real)


STOOD = {"changed": note("changed", "old"), "replaced": note("one"), "kept": note("kept"), "gone": note("gone")}
WANTED = {
    "changed": note("changed", "new"),
    "replaced": note("two", needs=["changed"]),
    "kept": note("kept"),
    "more": note("more", needs=["replaced"]),
}


@pytest.mark.parametrize("key", [None, "changed", "more", "gone"])
async def test_what_stands_already_is_changed_replaced_and_deleted_in_the_same_way(
    workshop: Workshop, key: str | None
) -> None:
    """A predecessor is retired and what is gone is deleted in COMMIT, where a failure does not roll back."""
    await workshop.settle(await workshop.submit(await workshop.template({"resources": STOOD}, "stood")))
    plan_id = await planned(workshop, {"resources": WANTED})
    before = await contents(workshop)
    rehearsed = await simulated(workshop, plan_id, *([key] if key else []))
    assert await contents(workshop) == before
    if key == "gone":
        assert rehearsed.status is JobStatus.PARTIALLY_SUCCEEDED
        return
    if key is not None:
        refuse(workshop, key)
    real = await really(workshop, plan_id)
    assert rehearsed.status is (JobStatus.SUCCEEDED if key is None else JobStatus.ROLLED_BACK)
    await assert_alike(workshop, rehearsed, real)


async def test_what_removes_a_predecessor_can_be_asked_to_fail(workshop: Workshop) -> None:
    await workshop.settle(await workshop.submit(await workshop.template({"resources": STOOD}, "stood")))
    plan_id = await planned(workshop, {"resources": WANTED})
    job = await simulated(workshop, plan_id, "retire:replaced")
    assert job.status is JobStatus.PARTIALLY_SUCCEEDED
    assert (await workshop.steps(job.id))["retire:replaced"] == "FAILED"


async def test_a_failed_undoing_holds_back_what_it_depends_on_and_cannot_be_continued(workshop: Workshop) -> None:
    plan_id = await planned(workshop, {"resources": DIAMOND})
    before = await contents(workshop)
    job = await simulated(workshop, plan_id, "d", "b:undo")
    assert job.status is JobStatus.ROLLBACK_FAILED
    assert await workshop.steps(job.id) == {
        "a": "SUCCEEDED", "b": "COMPENSATION_FAILED", "c": "COMPENSATED", "d": "COMPENSATED",
    }  # fmt: skip
    (tries,) = await workshop.rows("SELECT count(*) AS n FROM step_attempt WHERE direction = 'ROLLBACK'"
                                   " AND step_run_id = (SELECT id FROM step_run WHERE step_key = 'b')")  # fmt: skip
    assert tries.n == 5
    with pytest.raises(IllegalState) as refused:
        await act(workshop, jobs.continue_rollback, jobs.ContinueRollback(job.id))
    assert "only simulated" in refused.value.message
    assert await contents(workshop) == before


@pytest.mark.parametrize("strategy", [FailureStrategy.HALT, FailureStrategy.CONTINUE, FailureStrategy.PAUSE])
async def test_the_strategy_decides_and_a_pause_is_given_up_at_once(
    workshop: Workshop, strategy: FailureStrategy
) -> None:
    plan_id = await planned(workshop, {"resources": DIAMOND}, failure_strategy=strategy)
    job = await simulated(workshop, plan_id, "b")
    wanted = JobStatus.PARTIALLY_SUCCEEDED if strategy is FailureStrategy.CONTINUE else JobStatus.FAILED
    assert job.status is wanted
    steps = await workshop.steps(job.id)
    assert (steps["a"], steps["b"], steps["d"]) == ("SUCCEEDED", "FAILED", "BLOCKED")


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_lost_workers_step_is_made_again(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    plan_id = await planned(workshop, {"resources": DIAMOND})
    before = await contents(workshop)
    job = await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True))
    await die_at(workshop, monkeypatch, place, workshop.rung.pop(0))
    await notice(workshop, job.id, "a")
    ended = await workshop.settle(job.id)
    assert (ended.status, ended.recoveries) == (JobStatus.SUCCEEDED, 1)
    assert await contents(workshop) == before


async def test_a_worker_lost_while_undoing_is_replaced(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_id = await planned(workshop, {"resources": DIAMOND})
    command = ExecutePlan(plan_id, simulate=True, simulate_failure_at=("d",))
    job = await act(workshop, plans.execute, command)
    runner = workshop.runners[0]
    runner.draining = True
    while (await workshop.steps(job.id))["d"] != "COMPENSATING":
        await runner.run(workshop.rung.pop(0))
    await die_at(workshop, monkeypatch, "after", workshop.rung.pop(0))
    assert (await workshop.settle(job.id)).status is JobStatus.ROLLED_BACK
    assert await workshop.steps(job.id) == dict.fromkeys("abcd", "COMPENSATED")


async def test_real_and_simulated_jobs_of_a_stack_do_not_wait_for_each_other(workshop: Workshop) -> None:
    plan_id = await planned(workshop, {"resources": DIAMOND})
    real_id, finish = await begun(workshop, "a")
    other = await workshop.hire()
    rehearsed = await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True))
    while workshop.rung:
        await other.run(workshop.rung.pop(0))
    assert ((await workshop.job(rehearsed.id)).status, await locks(workshop)) == (JobStatus.SUCCEEDED, [real_id])
    await finish()
    assert (await workshop.settle(real_id)).status is JobStatus.SUCCEEDED
    assert set(workshop.notes()) == {"a", "b", "c"}
    again = await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True))
    assert (again.status, await locks(workshop)) == (JobStatus.DISPATCHED, [])
    next_id = await workshop.submit(await workshop.template({"resources": {"z": note("z")}}, "next"))
    assert ((await workshop.job(next_id)).status, await locks(workshop)) == (JobStatus.DISPATCHED, [next_id])
    assert (await workshop.settle(next_id)).status is JobStatus.SUCCEEDED
    assert (await workshop.settle(again.id)).status is JobStatus.SUCCEEDED


def task(key: str, name: str, **inputs: Any) -> dict[str, Any]:
    return {"key": key, "type": "CUSTOM", "configuration": {"task": name}, "inputs": inputs}


async def test_tasks_gates_and_checks_take_no_time_and_nobodys_answer(workshop: Workshop) -> None:
    form = {"type": "object", "properties": {"size": {"type": "integer", "minimum": 3}}, "required": ["size"]}
    workflow = await workshop.workflow(
        {"key": "all", "type": "RESOURCE_CREATE", "configuration": {"resource": "*"}},
        task("slow", "core.wait", seconds=3000),
        {"key": "ask", "type": "CUSTOM", "gate": {"kind": "INPUT", "prompt": "how large?", "inputSchema": form}},
        {"key": "agree", "type": "CUSTOM", "gate": {"kind": "APPROVAL", "prompt": "sure?"}},
        {"key": "later", "type": "CUSTOM", "gate": {"kind": "TIMER", "deadline": "P30D"}},
        task("given", "core.pass", outputs={"size": "${steps.ask.outputs.size}", "yes": "${steps.agree.outputs}"}),
        # What rests on made-up values is not held against the plan.
        task("judged", "core.assert", that='${resources.a.outputs.path == "/real"}'),
    )
    checks = {"verification": {"monitorFor": "PT1H", "checks": [{"resource": "a", "that": '${live.id == "real"}'}]}}
    plan_id = await planned(workshop, {"resources": {"a": note("a")}}, workflow_id=workflow, configuration=checks)
    before = await contents(workshop)
    job = await simulated(workshop, plan_id)
    assert (job.status, set((await workshop.steps(job.id)).values())) == (JobStatus.SUCCEEDED, {"SUCCEEDED"})
    assert await contents(workshop) == before
    (given,) = await workshop.rows("SELECT outputs FROM step_run WHERE step_key = 'given'")
    assert given.outputs == {"size": 3, "yes": {"approved": True}}
    for key in ("slow", "ask", "verify:a"):
        failed = await simulated(workshop, plan_id, key)
        assert failed.error is not None
        assert (failed.status, failed.error["stepKey"]) == (JobStatus.ROLLED_BACK, key)
    moved = await workshop.rows(
        "SELECT data->>'reason' AS reason FROM event_log WHERE stream_id = :job AND stream = 'JOB'"
        " AND kind = 'JobStatusChanged' AND data->>'status' = 'ROLLING_BACK'",
        job=failed.id,
    )
    assert [row.reason for row in moved] == ["VERIFICATION_FAILED"]


@pytest.mark.parametrize("key", ["one", "two"])
async def test_a_step_that_would_run_ahead_fails_as_planned_too(workshop: Workshop, key: str) -> None:
    passing = [
        {"key": name, "type": "CUSTOM", "order": order, "configuration": {"task": "core.pass"}}
        for order, name in enumerate(("one", "two"))
    ]
    command = CreatePlan(
        name="pure", type=PlanType.MANUAL, workflow_id=await workshop.workflow(*passing), stack="stack"
    )
    plan = await act(workshop, plans.create, command)
    failed = await simulated(workshop, plan.id, key)
    assert failed.error is not None
    assert (failed.status, failed.error["stepKey"]) == (JobStatus.ROLLED_BACK, key)


async def test_an_assertion_about_what_is_known_fails_as_it_would(workshop: Workshop) -> None:
    workflow = await workshop.workflow(task("wrong", "core.assert", that=False))
    plan_id = await planned(workshop, {"resources": {}}, workflow_id=workflow)
    job = await simulated(workshop, plan_id)
    assert job.error is not None
    assert (job.status, job.error["code"]) == (JobStatus.ROLLED_BACK, "ASSERTION_FAILED")


async def test_a_simulated_job_can_be_cancelled(workshop: Workshop) -> None:
    plan_id = await planned(workshop, {"resources": DIAMOND})
    before = await contents(workshop)
    job = await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True))
    await act(workshop, jobs.cancel, jobs.CancelJob(job.id))
    assert (await workshop.settle(job.id)).status is JobStatus.CANCELLED
    assert await contents(workshop) == before


async def test_a_real_server_is_not_asked(workshop: Workshop, database_url: str) -> None:
    """The connection leads to a server that would do all of it."""
    registry = Registry([workshop.provider, PostgresProvider()])
    workshop.registry, workshop.runners, workshop.workers = registry, [], []
    await workshop.hire()
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        config = SEALER.seal({"url": Secret(database_url)}, workshop.tenant_id, connection_place("postgres", "pg"))
        transaction.session.add(
            ProviderConnection(
                tenant_id=workshop.tenant_id, name="pg", provider="postgres", config=config, is_default=True
            )
        )
    resources = {
        "role": {"type": "postgres.role", "properties": {"name": "rehearsed_role"}},
        "db": {
            "type": "postgres.database",
            "properties": {"name": "rehearsed_db", "owner": "${resources.role.id}"},
        },
    }
    plan_id = await planned(workshop, {"resources": resources})
    objects = "SELECT datname::text AS name FROM pg_database UNION ALL SELECT rolname::text FROM pg_roles ORDER BY 1"
    before, sessions = await workshop.rows(objects), workshop.runners[0]._connections._pool
    job = await simulated(workshop, plan_id)
    assert (job.status, await workshop.rows(objects)) == (JobStatus.SUCCEEDED, before)
    assert len(sessions) == 0
