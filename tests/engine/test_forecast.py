"""A rollback as it is foretold, and as it then goes."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.enums import ChangeAction, FailureStrategy, PlanType, RollbackScope
from app.domain.errors import Invalid, NotFound
from app.domain.planning.forecast import Forecast
from app.domain.statuses import JobStatus
from app.services import plans
from app.services.plans import CreatePlan, ExecutePlan
from tests.engine.harness import Workshop, note

# What each note needs; `fail` needs all notes but those that need it.
SHAPES: dict[str, dict[str, list[str]]] = {
    "chain": {"a": [], "b": ["a"], "c": ["b"]},
    "diamond": {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
    "islands": {"a": [], "b": ["a"], "c": []},
    "halfway": {"a": [], "b": ["a"], "c": ["b", "fail"], "d": ["c"]},
}


async def _planned(workshop: Workshop, needs: dict[str, list[str]], **more: Any) -> Any:
    template = await workshop.template({"resources": {key: note(key) for key in needs}})
    late = {"c", "d"} if any("fail" in wanted for wanted in needs.values()) else set()
    steps = [
        {"key": key, "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": key}, "dependsOn": wanted}
        for key, wanted in needs.items()
    ]
    fail = {
        "key": "fail", "type": "CUSTOM", "order": 1, "configuration": {"task": "core.assert"},
        "inputs": {"that": False, "message": "on purpose"}, "dependsOn": sorted(needs.keys() - late),
    }  # fmt: skip
    flow = await workshop.workflow(*steps, fail)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = CreatePlan(
            name="foretold",
            type=PlanType.MANUAL,
            template_revision_id=template,
            workflow_id=flow,
            stack="stack",
            **more,
        )
        return await plans.create(transaction, workshop.principal, command, workshop.dependencies)


async def _foretold(workshop: Workshop, plan_id: int, fail_at: str | None = None) -> tuple[Forecast, float | None]:
    async with workshop.database.read(workshop.tenant_id) as session:
        return await plans.rollback_preview(session, workshop.principal, plan_id, fail_at, workshop.dependencies)


async def _executed(workshop: Workshop, plan: Any) -> Any:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ExecutePlan(plan.id, expected_preview_hash=plan.preview_hash)
        job = await plans.execute(transaction, workshop.principal, command, workshop.dependencies)
    return await workshop.settle(job.id)


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_foretold_is_what_happens(workshop: Workshop, shape: str) -> None:
    plan = await _planned(workshop, SHAPES[shape])
    found, seconds = await _foretold(workshop, plan.id, "fail")
    assert seconds is None, "nothing was ever undone"
    job = await _executed(workshop, plan)
    assert job.status is JobStatus.ROLLED_BACK
    undone = await workshop.rows(
        "SELECT data->>'stepKey' AS key FROM event_log WHERE stream = 'JOB' AND kind = 'StepStatusChanged'"
        " AND data->>'status' IN ('COMPENSATED', 'COMPENSATION_SKIPPED') ORDER BY seq"
    )
    order = {one.key: one.order for one in (*found.compensations, *found.not_reversible)}
    happened = [row.key for row in undone]
    assert sorted(happened) == sorted(order)
    for key, needs in SHAPES[shape].items():
        for need in needs if key in order else ():
            assert order[key] < order[need]
            assert happened.index(key) < happened.index(need)
    # The task that fails touches nothing, so that nothing of it is taken back.
    actions = {one.key: one.action for one in found.compensations}
    assert actions == dict.fromkeys(order, ChangeAction.DELETE)
    assert "fail" not in order
    _, seconds = await _foretold(workshop, plan.id, "fail")
    assert seconds is not None
    assert 0 < seconds < 10


@pytest.mark.parametrize(
    ("more", "undone", "stays"),
    [
        ({}, {"a", "b", "c", "d"}, set()),
        ({"failure_strategy": FailureStrategy.PAUSE}, {"a", "b", "c", "d"}, set()),
        ({"failure_strategy": FailureStrategy.HALT}, set(), {"a", "b", "c", "d"}),
        ({"failure_strategy": FailureStrategy.CONTINUE}, set(), {"a", "b", "c", "d"}),
        ({"rollback_scope": RollbackScope.FAILED_BRANCH}, {"a", "b", "c", "d"}, set()),
    ],
)
async def test_the_strategy_and_the_scope_say_what_stays(
    workshop: Workshop, more: dict[str, Any], undone: set[str], stays: set[str]
) -> None:
    plan = await _planned(workshop, SHAPES["diamond"], **more)
    found, _ = await _foretold(workshop, plan.id)
    assert found.fail_at == "fail"
    assert {one.key for one in found.compensations} == undone
    assert set(found.residual) == stays


async def test_a_step_that_there_is_not_and_a_plan_of_somebody_else(workshop: Workshop) -> None:
    plan = await _planned(workshop, SHAPES["chain"])
    with pytest.raises(Invalid, match="no step 'fall'; did you mean 'fail'") as refused:
        await _foretold(workshop, plan.id, "fall")
    assert refused.value.path == ("failAt",)
    with pytest.raises(NotFound):
        await _foretold(workshop, plan.id + 1)
