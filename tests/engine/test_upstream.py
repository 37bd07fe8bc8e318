"""Plans that depend on plans: they wait, read what the others have put out, and never wait in circles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from app.db.models import DeploymentPlan
from app.domain.enums import PlanType, StatusReason
from app.domain.errors import Conflict, Cyclic, IllegalState, Invalid, NotFound
from app.domain.statuses import JobStatus, PlanStatus
from app.engine.ticking import tick
from app.services import plans
from app.services.plans import CreatePlan, ExecutePlan, PlanAction, UpdatePlan
from tests.engine.harness import Workshop, note
from tests.engine.test_rollback import ALL, FAILING

NETWORK: dict[str, Any] = {
    "parameters": {
        "type": "object",
        "properties": {
            "range": {"type": "string", "default": "10.0.0.0"},
            "key": {"type": "string", "writeOnly": True},
        },
    },
    "resources": {"vpc": note("vpc", "${parameters.range}")},
    "outputs": {
        "range": {"value": "${resources.vpc.properties.text}"},
        "key": {"value": "${default(parameters.key, null)}"},
    },
}
READER: dict[str, Any] = {
    "resources": {"app": note("app", 'in ${plans["network"].outputs.range}')},
    "outputs": {"where": {"value": '${plans["network"].outputs.range}'}},
}
WAIT: dict[str, Any] = {
    "key": "wait",
    "type": "CUSTOM",
    "configuration": {"task": "core.wait"},
    "inputs": {"seconds": 0},
}


async def plan(
    workshop: Workshop,
    name: str,
    content: dict[str, Any] | None = None,
    *,
    upstream: Sequence[int] = (),
    kind: PlanType = PlanType.IMMEDIATE,
    submit: bool = True,
    steps: Sequence[dict[str, Any]] = (),
    **parameters: Any,
) -> DeploymentPlan:
    template = None if content is None else await workshop.template(content, uuid4().hex)
    workflow = await workshop.workflow(*steps, name=name) if steps else None
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        command = CreatePlan(
            name=name,
            type=kind,
            template_revision_id=template,
            workflow_id=workflow,
            parameters=parameters,
            upstream_ids=upstream,
            submit=submit,
        )
        return await plans.create(transaction, workshop.principal, command, workshop.dependencies)


async def act(workshop: Workshop, verb: Any, command: Any) -> Any:
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        return await verb(transaction, workshop.principal, command, workshop.dependencies)


async def change(workshop: Workshop, made: DeploymentPlan, **columns: Any) -> None:
    """As if it had gone another way."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        row = await transaction.session.get_one(DeploymentPlan, made.id)
        for column, value in columns.items():
            setattr(row, column, value)


async def job_of(workshop: Workshop, made: DeploymentPlan) -> int:
    ((job_id,),) = await workshop.rows(f"SELECT last_job_id FROM deployment_plan WHERE id = {made.id}")
    return int(job_id)


async def settled(workshop: Workshop, made: DeploymentPlan) -> JobStatus:
    return (await workshop.settle(await job_of(workshop, made))).status


async def test_a_plan_reads_what_another_has_put_out(workshop: Workshop) -> None:
    network = await plan(workshop, "network", NETWORK, range="10.7.0.0")
    assert await settled(workshop, network) is JobStatus.SUCCEEDED
    reader = await plan(workshop, "app", READER)
    (change,) = reader.preview["changes"]  # type: ignore[index]
    text = next(found for found in change["properties"] if found["path"] == ["text"])
    assert (text["after"], text["source"], text["cause"]) == ("in 10.7.0.0", "REFERENCE", "plans.network.outputs.range")
    assert await settled(workshop, reader) is JobStatus.SUCCEEDED
    assert workshop.notes() == {"vpc": "10.7.0.0", "app": "in 10.7.0.0"}
    assert (await workshop.job(await job_of(workshop, reader))).outputs == {"where": "10.7.0.0"}


async def test_it_waits_for_one_that_is_not_done_and_begins_with_it(workshop: Workshop) -> None:
    network = await plan(workshop, "network", NETWORK, kind=PlanType.MANUAL)
    reader = await plan(workshop, "app", READER)
    (change,) = reader.preview["changes"]  # type: ignore[index]
    assert next(found for found in change["properties"] if found["path"] == ["text"])["afterUnknown"]
    assert [found["code"] for found in reader.diagnostics or ()] == ["UPSTREAM_PENDING"]
    waiting = await job_of(workshop, reader)
    for _ in range(3):
        await tick(workshop.database, ring_again_seconds=0)
    job = await workshop.job(waiting)
    assert (job.status, job.status_reason) == (JobStatus.QUEUED, StatusReason.DEPENDENCY_PENDING)
    assert workshop.notes() == {}
    await act(workshop, plans.execute, ExecutePlan(network.id, network.preview_hash))
    assert await settled(workshop, network) is JobStatus.SUCCEEDED
    done = await workshop.settle(waiting)
    assert (done.status, done.status_reason) == (JobStatus.SUCCEEDED, StatusReason.NONE)
    assert workshop.notes() == {"vpc": "10.0.0.0", "app": "in 10.0.0.0"}


async def test_one_that_is_only_declared_is_waited_for_too(workshop: Workshop) -> None:
    """Others of the same stack go first meanwhile; what failed may be retried."""
    first = await plan(workshop, "first", NETWORK, steps=[ALL, FAILING])
    second = await plan(workshop, "second", {"resources": {"b": note("b", "two")}}, upstream=[first.id])
    assert await settled(workshop, first) is JobStatus.ROLLED_BACK
    for _ in range(3):
        await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.job(await job_of(workshop, second))).status is JobStatus.QUEUED
    other = await plan(workshop, "other", {"resources": {"c": note("c", "three")}})
    assert await settled(workshop, other) is JobStatus.SUCCEEDED
    assert (await workshop.job(await job_of(workshop, second))).status is JobStatus.QUEUED
    with pytest.raises(Conflict, match="'second'"):
        await act(workshop, plans.delete, PlanAction(first.id))


async def test_a_secret_that_was_put_out_stays_one(workshop: Workshop) -> None:
    network = await plan(workshop, "network", NETWORK, key="kept-quiet")
    assert await settled(workshop, network) is JobStatus.SUCCEEDED
    content = {"resources": {"app": note("app", 'with ${plans["network"].outputs.key}')}}
    reader = await plan(workshop, "app", content)
    assert await settled(workshop, reader) is JobStatus.SUCCEEDED
    assert workshop.notes()["app"] == "with kept-quiet"
    for table in ("deployment_plan", "orchestration_job", "step_run", "cloud_resource", "event_log", "job_log"):
        rows = await workshop.rows(f"SELECT t::text FROM {table} t")
        assert not [row for row in rows if "kept-quiet" in row[0]], table


async def test_a_plan_with_nothing_to_do_puts_out_what_the_one_before_it_did(workshop: Workshop) -> None:
    assert await settled(workshop, await plan(workshop, "network", NETWORK)) is JobStatus.SUCCEEDED
    again = await plan(workshop, "network", NETWORK)
    assert (again.status, again.status_reason) == (PlanStatus.SUCCEEDED, StatusReason.NO_CHANGES)
    assert await settled(workshop, await plan(workshop, "app", READER)) is JobStatus.SUCCEEDED
    assert workshop.notes()["app"] == "in 10.0.0.0"


async def test_a_workflow_and_a_constraint_may_read_as_well(workshop: Workshop) -> None:
    assert await settled(workshop, await plan(workshop, "network", NETWORK)) is JobStatus.SUCCEEDED
    step = {**WAIT, "inputs": {"seconds": '${plans["network"].outputs.range == "10.0.0.0" ? 0 : 600}'}}
    reader = await plan(workshop, "app", steps=[step])
    assert await settled(workshop, reader) is JobStatus.SUCCEEDED


async def test_one_that_was_declared_is_preferred_to_one_that_is_newer(workshop: Workshop) -> None:
    old = await plan(workshop, "network", NETWORK, range="old")
    assert await settled(workshop, old) is JobStatus.SUCCEEDED
    new = await plan(workshop, "network", NETWORK, range="new")
    assert await settled(workshop, new) is JobStatus.SUCCEEDED
    reader = await plan(workshop, "app", READER, upstream=[old.id])
    assert await settled(workshop, reader) is JobStatus.SUCCEEDED
    assert workshop.notes()["app"] == "in old"
    rows = await workshop.rows("SELECT plan_id, upstream_id, declared, read_as FROM plan_dependency")
    assert [tuple(row) for row in rows] == [(reader.id, old.id, True, "network")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"resources": {"a": note("a", '${plans["netwrok"].outputs.x}')}}, "did you mean 'network'"),
        ({"resources": {"a": note("a", '${plans["app"].outputs.x}')}}, "cannot read its own outputs"),
        ({"resources": {"a": note("a", '${plans["network"].status}')}}, "outputs can be read and nothing else"),
        ({"resources": {"a": note("a", "${plans}")}}, "has to name it"),
        ({"resources": {"a": note("a", '${plans["network"].outputs.x}')}}, "'x'"),
    ],
)
async def test_what_is_not_there_is_refused(workshop: Workshop, content: dict[str, Any], said: str) -> None:
    assert await settled(workshop, await plan(workshop, "network", NETWORK)) is JobStatus.SUCCEEDED
    with pytest.raises(Invalid, match=said):
        await plan(workshop, "app", content)


async def test_a_circle_is_shown_and_refused(workshop: Workshop) -> None:
    first = await plan(workshop, "first", NETWORK, submit=False)
    second = await plan(workshop, "second", NETWORK, upstream=[first.id], submit=False)
    third = await plan(workshop, "third", NETWORK, upstream=[second.id], submit=False)
    command = UpdatePlan(id=first.id, expected_version=first.version, upstream_ids=[third.id])
    with pytest.raises(Cyclic) as refused:
        await act(workshop, plans.update, command)
    (circle,) = refused.value.cycles
    assert len(circle) == 3
    assert {edge.path for edge in circle} == {"dependsOnPlanIds"}
    rows = await workshop.rows(f"SELECT 1 FROM plan_dependency WHERE plan_id = {first.id}")
    assert rows == []


async def test_what_can_never_succeed_is_not_waited_for(workshop: Workshop) -> None:
    standing = await plan(workshop, "first", NETWORK, submit=False)
    with pytest.raises(NotFound):
        await plan(workshop, "second", NETWORK, upstream=[standing.id + 1000])
    await change(workshop, standing, status=PlanStatus.REJECTED)
    with pytest.raises(Invalid, match="never succeed"):
        await plan(workshop, "second", NETWORK, upstream=[standing.id])
    await change(workshop, standing, status=PlanStatus.WAITING, plan_type=PlanType.AUTOMATED)
    with pytest.raises(Invalid, match="makes runs"):
        await plan(workshop, "second", NETWORK, upstream=[standing.id])


async def test_what_is_not_known_is_not_simulated(workshop: Workshop) -> None:
    await plan(workshop, "network", NETWORK, kind=PlanType.MANUAL)
    reader = await plan(workshop, "app", READER, kind=PlanType.MANUAL)
    with pytest.raises(IllegalState, match="before network has succeeded"):
        await act(workshop, plans.execute, ExecutePlan(reader.id, None, simulate=True))
