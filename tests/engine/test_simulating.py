"""Who may simulate which plan when, and what a simulation is not taken for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.enums import Permission, PlanType
from app.domain.errors import Forbidden, IllegalState, Invalid, QuotaExceeded, StalePreview, UnknownReference
from app.domain.statuses import JobStatus, PlanStatus
from app.services import plans
from app.services.plans import CreatePlan, ExecutePlan, RollbackPlan
from tests.engine.harness import Workshop, note
from tests.engine.test_limits import limit
from tests.engine.test_pausing import act
from tests.engine.test_simulated_jobs import DIAMOND, planned, really, simulated


async def simulate_refused(workshop: Workshop, plan_id: int, status: PlanStatus) -> None:
    with pytest.raises(IllegalState) as refused:
        await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True))
    assert (refused.value.status, refused.value.path) == (status, ("planId",))


async def test_what_a_simulation_did_is_not_what_a_plan_has_done(workshop: Workshop) -> None:
    """Neither the plan that takes a plan back nor what is foretold of an undoing goes by it."""
    plan_id = await planned(workshop, {"resources": {"a": note("a")}})
    await simulated(workshop, plan_id, "a")
    await really(workshop, plan_id)
    await simulate_refused(workshop, plan_id, PlanStatus.SUCCEEDED)
    back = await act(workshop, plans.create_rollback_plan, RollbackPlan(plan_id))
    assert [(change["key"], change["action"]) for change in back.preview["changes"]] == [("a", "DELETE")]
    assert back.diagnostics == []
    async with workshop.database.read(workshop.tenant_id) as session:
        fresh = await planned(workshop, {"resources": {"z": note("z")}}, "fresh", stack="fresh")
        found = await plans.rollback_preview(session, workshop.principal, fresh, "z", workshop.dependencies)
    assert found[1] is None


async def test_a_plan_is_simulated_before_anybody_approved_it_but_not_while_it_runs(workshop: Workshop) -> None:
    approvals = {"approvals": {"required": 1}}
    template = await workshop.template({"resources": {"a": note("a")}})
    command = CreatePlan(
        name="plan", type=PlanType.IMMEDIATE, template_revision_id=template, stack="stack", configuration=approvals
    )
    plan = await act(workshop, plans.create, command)
    assert plan.status is PlanStatus.PENDING_APPROVAL
    assert (await simulated(workshop, plan.id)).status is JobStatus.SUCCEEDED
    draft = await act(workshop, plans.create, replace(command, name="draft", submit=False))
    assert (await simulated(workshop, draft.id)).status is JobStatus.SUCCEEDED
    running = await act(workshop, plans.create, replace(command, name="now", configuration={}))
    await simulate_refused(workshop, running.id, PlanStatus.QUEUED)
    with pytest.raises(StalePreview):
        await act(workshop, plans.execute, ExecutePlan(draft.id, "0" * 64, simulate=True))


async def test_no_more_is_simulated_at_once_than_may_be_under_way(workshop: Workshop) -> None:
    """A real job has its own room, and a simulated one takes none of it."""
    plan_id = await planned(workshop, {"resources": DIAMOND})
    await limit(workshop, running=1)
    first = await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True))
    with pytest.raises(QuotaExceeded) as refused:
        await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True))
    assert (refused.value.key, refused.value.limit, refused.value.used) == ("jobs.simulated", 1, 1)
    real_id = await workshop.submit(await workshop.template({"resources": {"z": note("z")}}, "real"), stack="real")
    assert (await workshop.job(real_id)).status is JobStatus.DISPATCHED
    assert (await workshop.settle(first.id)).status is JobStatus.SUCCEEDED
    assert (await simulated(workshop, plan_id)).status is JobStatus.SUCCEEDED


async def test_whoever_simulates_needs_execute_and_names_steps_that_there_are(workshop: Workshop) -> None:
    plan_id = await planned(workshop, {"resources": DIAMOND})
    for wanted, place, hint in ((("a", "bb"), "1", "'b'"), (("a:undu",), "0", "'a:undo'"), (("retire:a",), "0", "")):
        with pytest.raises(UnknownReference) as unknown:
            await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True, simulate_failure_at=wanted))
        assert unknown.value.path == ("simulateFailureAt", place)
        assert hint in unknown.value.message
    with pytest.raises(Invalid) as useless:
        await act(workshop, plans.execute, ExecutePlan(plan_id, simulate_failure_at=("a",)))
    assert useless.value.path == ("simulateFailureAt",)
    workshop.principal = replace(workshop.principal, permissions=frozenset(Permission) - {Permission.EXECUTE})
    with pytest.raises(Forbidden):
        await act(workshop, plans.execute, ExecutePlan(plan_id, simulate=True))
    assert await workshop.rows("SELECT 1 FROM orchestration_job") == []
