"""Plans about some resources of their stack only, jobs of few steps at a time, and steps that are run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from app.domain.enums import FailureStrategy, PlanType, RetryMode
from app.domain.errors import DomainError, Invalid, NotFound, UnknownReference
from app.domain.statuses import JobStatus
from app.services import plans
from app.services.plans import CreatePlan, RetryPlan
from tests.engine.harness import Workshop, note


def content(text: str, *keys: str) -> dict[str, Any]:
    """b needs a; c and d stand alone."""
    needs = {"b": ["a"]}
    return {"resources": {key: note(key, text, needs=needs.get(key, [])) for key in keys or ("a", "b", "c", "d")}}


async def made(
    workshop: Workshop,
    document: dict[str, Any] | None,
    *keys: str,
    steps: Sequence[dict[str, Any]] = (),
    stack: str = "stack",
    strategy: FailureStrategy = FailureStrategy.ROLLBACK,
    **configuration: Any,
) -> int:
    """A plan about these resources, or about all of them; the id of its job."""
    revision = None if document is None else await workshop.template(document, uuid4().hex)
    workflow = await workshop.workflow(*steps, name=uuid4().hex) if steps else None
    rows = await workshop.rows("SELECT id, resource_key FROM cloud_resource WHERE NOT is_deleted")
    numbers = {row.resource_key: row.id for row in rows}
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        command = CreatePlan(
            name="plan",
            type=PlanType.IMMEDIATE,
            template_revision_id=revision,
            workflow_id=workflow,
            stack=stack,
            failure_strategy=strategy,
            resource_ids=[numbers.get(key, 999) for key in keys],
            configuration=configuration or None,
        )
        plan = await plans.create(transaction, workshop.principal, command, workshop.dependencies)
        assert plan.last_job_id is not None, plan.status
        return plan.last_job_id


async def test_only_what_was_named_and_what_it_needs_is_brought_about(workshop: Workshop) -> None:
    assert (await workshop.settle(await made(workshop, content("one")))).status is JobStatus.SUCCEEDED
    assert (await workshop.settle(await made(workshop, content("two"), "b"))).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"a": "two", "b": "two", "c": "one", "d": "one"}


async def test_only_what_was_named_and_what_needs_it_goes_away(workshop: Workshop) -> None:
    assert (await workshop.settle(await made(workshop, content("one")))).status is JobStatus.SUCCEEDED
    job = await workshop.settle(await made(workshop, content("two", "d"), "a"))
    assert job.status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"c": "one", "d": "one"}
    plan = await workshop.plan_of(job.id)
    assert [found["code"] for found in plan.diagnostics or ()] == ["NARROWED"]


@pytest.mark.parametrize(
    ("key", "stack", "steps", "refusal"),
    [
        ("x", "stack", (), NotFound),
        ("a", "other", (), Invalid),
        ("a", "stack", ({"key": "all", "type": "RESOURCE_CREATE", "configuration": {"resource": "*"}},), Invalid),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    workshop: Workshop, key: str, stack: str, steps: Sequence[dict[str, Any]], refusal: type[DomainError]
) -> None:
    assert (await workshop.settle(await made(workshop, content("one")))).status is JobStatus.SUCCEEDED
    with pytest.raises(refusal) as refused:
        await made(workshop, content("two"), key, stack=stack, steps=steps)
    assert refused.value.path == ("resourceIds",)


async def test_no_more_steps_are_under_way_than_may(workshop: Workshop) -> None:
    keys = [f"n{number}" for number in range(6)]
    job_id = await made(workshop, content("one", *keys), concurrency={"steps": 2})
    most = 0
    for _ in range(200):
        statuses = (await workshop.steps(job_id)).values()
        most = max(most, sum(status in ("READY", "RUNNING", "RETRY_WAIT") for status in statuses))
        if not workshop.rung:
            break
        await workshop.runners[0].run(workshop.rung.pop(0))
    assert most == 2
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert len(workshop.notes()) == 6


@pytest.mark.parametrize("width", [0, -1, 1.5, True, "4", 5001])
async def test_a_width_that_means_nothing_is_refused(workshop: Workshop, width: Any) -> None:
    with pytest.raises(Invalid) as refused:
        await made(workshop, content("one"), concurrency={"steps": width})
    assert refused.value.path == ("configuration", "concurrency", "steps")


def wait(key: str, *needs: str) -> dict[str, Any]:
    task = {"task": "core.wait"}
    return {"key": key, "type": "CUSTOM", "configuration": task, "inputs": {"seconds": 0}, "dependsOn": list(needs)}


FAILS = {
    "key": "fails",
    "type": "CUSTOM",
    "configuration": {"task": "core.assert"},
    "inputs": {"that": False, "message": "on purpose"},
    "dependsOn": ["second"],
}


async def retried(workshop: Workshop, plan_id: int, *keys: str, mode: RetryMode = RetryMode.RESUME) -> int:
    async with workshop.database.write(
        workshop.tenant_id, actor=workshop.principal.actor, correlation_id="test"
    ) as transaction:
        command = RetryPlan(plan_id, mode, keys)
        job = await plans.retry(transaction, workshop.principal, command, workshop.dependencies)
        assert job is not None
        return job.id


async def attempts(workshop: Workshop, job_id: int) -> set[str]:
    rows = await workshop.rows(
        "SELECT s.step_key FROM step_attempt a JOIN step_run s ON s.id = a.step_run_id WHERE s.job_id = :job",
        job=job_id,
    )
    return {row.step_key for row in rows}


async def test_what_was_named_runs_again_with_all_that_needs_it(workshop: Workshop) -> None:
    steps = [wait("beside"), wait("first"), wait("second", "first"), FAILS]
    first = await workshop.settle(await made(workshop, None, steps=steps, strategy=FailureStrategy.HALT))
    assert first.status is JobStatus.FAILED
    again = await workshop.settle(await retried(workshop, first.plan_id))
    assert await attempts(workshop, again.id) == {"fails"}
    more = await workshop.settle(await retried(workshop, first.plan_id, "first"))
    assert more.status is JobStatus.FAILED
    assert await attempts(workshop, more.id) == {"first", "second", "fails"}
    with pytest.raises(UnknownReference, match="did you mean 'second'"):
        await retried(workshop, first.plan_id, "secnd")
    with pytest.raises(Invalid, match="RESTART"):
        await retried(workshop, first.plan_id, "first", mode=RetryMode.RESTART)
