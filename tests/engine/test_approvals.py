"""Approval and jobs: what is run again, and what nobody gets around."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.db.models import DeploymentPlan, OrchestrationJob
from app.domain.enums import PlanType, RetryMode
from app.domain.errors import ApprovalRequired
from app.domain.statuses import PlanStatus
from app.providers.faults import Fault, FaultKind
from app.services import plans
from app.services.plans import CreatePlan, ExecutePlan, RetryPlan
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.schedules import approve, finish, found, somebody_else


async def waiting(workshop: Workshop, kind: PlanType = PlanType.IMMEDIATE) -> int:
    """A plan that one person has to approve; its id."""
    template = await workshop.template({"resources": {"a": note("a"), "b": note("b", needs=["a"])}})
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        plan = await plans.create(
            transaction,
            workshop.principal,
            CreatePlan(
                name="plan",
                type=kind,
                template_revision_id=template,
                stack="stack",
                configuration={"approvals": {"required": 1}},
            ),
            workshop.dependencies,
        )
        assert plan.status is PlanStatus.PENDING_APPROVAL
        return plan.id


async def retried(workshop: Workshop, plan_id: int, mode: RetryMode) -> OrchestrationJob | None:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        return await plans.retry(transaction, workshop.principal, RetryPlan(plan_id, mode), workshop.dependencies)


async def test_what_was_rolled_back_and_does_the_same_again_needs_no_other_approval(open_workshop: Open) -> None:
    workshop = await open_workshop({"create": [None, Fault(FaultKind.ERROR)]})
    plan_id = await waiting(workshop)
    plan = await finish(workshop, await approve(workshop, await somebody_else(workshop), plan_id))
    assert (plan.status, workshop.notes()) == (PlanStatus.ROLLED_BACK, {})
    assert await retried(workshop, plan_id, RetryMode.RESTART) is not None
    assert (await finish(workshop, await found(workshop, plan_id))).status is PlanStatus.SUCCEEDED


async def test_what_was_rolled_back_and_would_do_something_else_is_approved_anew(open_workshop: Open) -> None:
    workshop = await open_workshop({"create": [None, Fault(FaultKind.ERROR)]})
    other = await somebody_else(workshop)
    plan_id = await waiting(workshop)
    await finish(workshop, await approve(workshop, other, plan_id))
    first = await found(workshop, plan_id)
    await workshop.settle(await workshop.submit(await workshop.template({"resources": {"b": note("b")}}, "other")))
    assert await retried(workshop, plan_id, RetryMode.RESTART) is None
    plan = await found(workshop, plan_id)
    assert (plan.status, plan.review_round) == (PlanStatus.PENDING_APPROVAL, first.review_round + 1)
    assert plan.preview_hash != first.preview_hash
    plan = await finish(workshop, await approve(workshop, other, plan_id))
    assert (plan.status, workshop.notes()) == (PlanStatus.SUCCEEDED, {"a": "x", "b": "x"})


async def test_nobody_gets_around_it_by_a_status_that_is_not_true(workshop: Workshop) -> None:
    """The status says that people agreed; the reviews say whether they did."""
    plan_id = await waiting(workshop, PlanType.MANUAL)
    seen = (await found(workshop, plan_id)).preview_hash
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(text("UPDATE deployment_plan SET status = 'READY'"))
        command = ExecutePlan(plan_id, seen)
        with pytest.raises(ApprovalRequired) as caught:
            await plans.execute(transaction, workshop.principal, command, workshop.dependencies)
        assert (caught.value.code, caught.value.path) == ("APPROVAL_REQUIRED", ("planId",))
        plan = await transaction.session.get_one(DeploymentPlan, plan_id)
        assert (plan.status, plan.last_job_id) == (PlanStatus.READY, None)


async def test_what_changed_again_while_it_waits_for_approval_is_worked_out_again(workshop: Workshop) -> None:
    """Two people ran it at once, both in vain; the world went on between the answers to them."""
    other = await somebody_else(workshop)
    plan_id = await waiting(workshop, PlanType.MANUAL)
    ready = await approve(workshop, other, plan_id)
    assert (ready.status, ready.review_round) == (PlanStatus.READY, 1)
    seen = [ready.preview_hash]
    for round_, name in ((2, "b"), (3, "a")):
        only = await workshop.template({"resources": {name: note(name, f"other {name}")}}, f"only {name}")
        await workshop.settle(await workshop.submit(only))
        async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
            await plans.send_back(transaction, workshop.principal, plan_id, workshop.dependencies)
        plan = await found(workshop, plan_id)
        assert (plan.status, plan.review_round) == (PlanStatus.PENDING_APPROVAL, round_)
        assert plan.preview_hash not in seen
        seen.append(plan.preview_hash)
    told = await workshop.rows(
        "SELECT data->>'previous' AS previous FROM event_log WHERE stream = 'PLAN' AND stream_id = :id"
        " AND data->>'status' = 'VALIDATING' AND data->>'reason' = 'PREVIEW_STALE' ORDER BY seq",
        id=plan_id,
    )
    assert [row.previous for row in told] == ["READY", "PENDING_APPROVAL"]
    # Sent back once more with nothing changed since, it stays in its round.
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await plans.send_back(transaction, workshop.principal, plan_id, workshop.dependencies)
    assert (await found(workshop, plan_id)).review_round == 3
    assert (await approve(workshop, other, plan_id)).status is PlanStatus.READY
