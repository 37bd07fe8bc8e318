"""A rollback foretold for every step of a plan, and the same plan made to fail there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.domain.enums import PlanType
from app.domain.statuses import JobStatus
from app.providers.base import Context, ErrorKind, ProviderError
from app.services import plans
from app.services.plans import CreatePlan, ExecutePlan
from tests.engine.harness import Workshop, note

BEFORE = {"kept": note("kept"), "changed": note("changed", "before"), "renamed": note("old", "before")}
# What each resource of the plan needs. `made…` are created, `changed` is updated, `renamed` replaced, `kept` untouched.
SHAPES: dict[str, dict[str, list[str]]] = {
    "chain": {"made": [], "changed": ["made"], "renamed": ["changed"], "made2": ["renamed"]},
    "diamond": {"changed": [], "made": ["changed"], "renamed": ["changed"], "made2": ["made", "renamed"]},
    "islands": {"made": [], "changed": ["made"], "renamed": [], "made2": []},
    "roof": {"made": [], "made2": [], "renamed": ["made"], "changed": ["made", "made2", "kept"]},
}
WORDS = {"kept": "x", "changed": "after", "renamed": "after"}
ACTING = ("create", "update", "delete")
STEPS = ("made", "changed", "renamed", "made2")
QUIET = (
    "SELECT step_key FROM step_run WHERE job_id = :job AND phase = 'APPLY'"
    " AND status NOT IN ('SUCCEEDED', 'NO_CHANGE', 'PENDING', 'BLOCKED') AND step_key <> :key"
)


class Trap:
    """Makes the calls of one step fail, once all that does not wait for it is done; before or after their effect."""

    def __init__(self, workshop: Workshop, key: str, *, after: bool) -> None:
        self.workshop, self.key, self.after = workshop, key, after
        self.inner = workshop.provider.notes._call
        workshop.provider.notes._call = self.call  # type: ignore[method-assign]

    async def call(self, method: str, context: Context, inner: Callable[[], Awaitable[Any]]) -> Any:
        work = context._work  # type: ignore[attr-defined]
        if work.key != self.key or method not in ACTING or work.mode != "RUN":
            return await self.inner(method, context, inner)
        if await self.workshop.rows(QUIET, job=work.job_id, key=self.key):
            raise ProviderError(ErrorKind.THROTTLED, "not yet")
        if self.after:
            await self.inner(method, context, inner)
        raise ProviderError(ErrorKind.INVALID, "on purpose")


async def _planned(workshop: Workshop, needs: dict[str, list[str]]) -> Any:
    names = {"renamed": "new"}
    resources = {
        key: note(names.get(key, key), WORDS.get(key, "made"), needs=wanted)
        for key, wanted in {"kept": [], **needs}.items()
    }
    template = await workshop.template({"resources": resources}, "after")
    steps = [
        {"key": key, "type": "RESOURCE_CREATE", "configuration": {"resource": key}, "dependsOn": wanted,
         "retry": {"maxAttempts": 20}}
        for key, wanted in {"kept": [], **needs}.items()
    ]  # fmt: skip
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = CreatePlan(
            name="foretold", type=PlanType.MANUAL, template_revision_id=template,
            workflow_id=await workshop.workflow(*steps), stack="stack",
        )  # fmt: skip
        return await plans.create(transaction, workshop.principal, command, workshop.dependencies)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fail_at", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
async def test_what_is_foretold_for_a_step_is_what_its_failure_brings(
    workshop: Workshop, shape: str, fail_at: str, *, after: bool
) -> None:
    await workshop.settle(await workshop.submit(await workshop.template({"resources": BEFORE}, "before")))
    was = workshop.notes()
    plan = await _planned(workshop, SHAPES[shape])
    async with workshop.database.read(workshop.tenant_id) as session:
        found, _ = await plans.rollback_preview(session, workshop.principal, plan.id, fail_at, workshop.dependencies)
    Trap(workshop, fail_at, after=after)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ExecutePlan(plan.id, expected_preview_hash=plan.preview_hash)
        job = await plans.execute(transaction, workshop.principal, command, workshop.dependencies)
    job = await workshop.settle(job.id)
    assert job.status is JobStatus.ROLLED_BACK
    assert job.error is not None
    assert job.error["stepKey"] == fail_at
    undone = await workshop.rows(
        "SELECT data->>'stepKey' AS key, data->>'status' AS status FROM event_log WHERE stream = 'JOB'"
        " AND stream_id = :job AND kind = 'StepStatusChanged' AND data->>'status' IN ('COMPENSATED',"
        " 'COMPENSATION_SKIPPED') ORDER BY seq",
        job=job.id,
    )
    happened = [row.key for row in undone]
    foretold = {one.key: one.order for one in found.compensations}
    assert sorted(happened) == sorted(foretold)
    assert {row.status for row in undone} == {"COMPENSATED"}
    assert (found.not_reversible, found.residual) == ((), ())
    for key, needs in SHAPES[shape].items():
        for need in set(needs) & foretold.keys() if key in foretold else ():
            assert foretold[key] < foretold[need]
            assert happened.index(key) < happened.index(need)
    assert workshop.notes() == was, "the world is as it was"
