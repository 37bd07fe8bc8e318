"""What was deployed is looked at for a while, before anything is removed for good."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.enums import FailureStrategy, PlanType
from app.domain.errors import DomainError, Several
from app.domain.statuses import JobStatus, PlanStatus
from app.services import plans
from app.services.plans import CreatePlan
from tests.engine.harness import Workshop, note


async def _submit(workshop: Workshop, template: int, verification: dict[str, Any], **more: Any) -> int:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = CreatePlan(
            name="verified",
            type=PlanType.IMMEDIATE,
            template_revision_id=template,
            stack="stack",
            configuration={"verification": verification},
            **more,
        )
        plan = await plans.create(transaction, workshop.principal, command, workshop.dependencies)
        assert plan.last_job_id is not None, plan.status
        return plan.last_job_id


async def test_what_holds_is_looked_at_until_its_time_is_over(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a", "fine"), "b": note("b")}})
    checks = [{"resource": "a", "that": '${live.properties.text == "fine"}'}, {"resource": "*"}]
    job = await workshop.settle(
        await _submit(workshop, template, {"monitorFor": "PT3S", "every": "PT1S", "checks": checks})
    )
    assert job.status is JobStatus.SUCCEEDED
    rows = await workshop.rows("SELECT step_key, status, outputs, touched FROM step_run WHERE operation = 'VERIFY'")
    found = {row.step_key: (row.status, row.outputs, row.touched) for row in rows}
    assert found == dict.fromkeys(("verify:a", "verify:b"), ("SUCCEEDED", {"looks": 4}, False))
    (row,) = await workshop.rows("SELECT count(*) AS n FROM cloud_resource WHERE status = 'ACTIVE'")
    assert row.n == 2


async def test_what_does_not_hold_is_rolled_back_whatever_the_strategy(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a", "bad"), "b": note("b")}})
    checks = [{"resource": "a", "that": '${live.properties.text == "good"}'}]
    job = await workshop.settle(
        await _submit(workshop, template, {"checks": checks}, failure_strategy=FailureStrategy.CONTINUE)
    )
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}
    assert job.error is not None
    assert job.error["code"] == "VERIFICATION_FAILED"
    assert 'live.properties.text == "good"' in job.error["message"]
    plan = await workshop.plan_of(job.id)
    assert plan.status is PlanStatus.ROLLED_BACK
    moves = await workshop.rows(
        "SELECT data->>'reason' AS reason FROM event_log WHERE stream = 'JOB' AND kind = 'JobStatusChanged'"
        " AND data->>'status' = 'ROLLING_BACK'"
    )
    assert [row.reason for row in moves] == ["VERIFICATION_FAILED"]


async def test_what_changes_during_the_window_is_seen_and_nothing_was_removed_before(workshop: Workshop) -> None:
    first = await workshop.template({"resources": {"old": note("old", "kept")}}, "first")
    await workshop.settle(await workshop.submit(first))
    second = await workshop.template({"resources": {"new": note("new")}}, "second")
    verification = {"monitorFor": "PT2S", "every": "PT1S", "checks": [{"resource": "new"}]}
    job_id = await _submit(workshop, second, verification)
    await workshop.answer()
    assert (await workshop.steps(job_id))["verify:new"] == "WAITING"
    assert workshop.notes() == {"old": "kept", "new": "x"}
    for path in workshop.folder.rglob("notes/**/*.json"):
        path.write_text(path.read_text().replace('"x"', '"somebody else"'))
    job = await workshop.settle(job_id)
    # The new note was changed by somebody else, so taking it back is not ours to decide.
    assert job.status in (JobStatus.ROLLED_BACK, JobStatus.ROLLBACK_FAILED)
    assert workshop.notes()["old"] == "kept"
    assert job.error is not None
    assert "no longer as it was applied" in job.error["message"]


async def test_nothing_to_do_is_nothing_to_verify(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    await workshop.settle(await workshop.submit(template))
    with pytest.raises(AssertionError, match="SUCCEEDED"):
        await _submit(workshop, template, {"checks": [{"resource": "*"}]})


@pytest.mark.parametrize(
    ("verification", "path", "message"),
    [
        ([], (), "a map with"),
        ({"checks": [{"resource": "a"}], "for": "PT1S"}, ("for",), "means nothing"),
        ({"checks": []}, ("checks",), "1 to 100 checks"),
        ({"checks": [{"that": "${true}"}]}, ("checks", "0", "resource"), "key of a resource"),
        ({"checks": [{"resource": "a", "that": "live"}]}, ("checks", "0", "that"), "one expression"),
        ({"checks": [{"resource": "a", "that": "${live.}"}]}, ("checks", "0", "that"), "live."),
        ({"checks": [{"resource": "a", "that": "${parameters.x}"}]}, ("checks", "0", "that"), "and not parameters"),
        ({"checks": [{"resource": "a"}], "monitorFor": "P1D", "every": "PT1S"}, ("every",), "86400 rounds"),
        ({"checks": [{"resource": "nope"}]}, ("checks", "0", "resource"), "no resource 'nope'"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    workshop: Workshop, verification: Any, path: tuple[str, ...], message: str
) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    with pytest.raises(DomainError, match=message) as refused:
        await _submit(workshop, template, verification)
    faults = refused.value.errors if isinstance(refused.value, Several) else [refused.value]
    assert [fault.path for fault in faults] == [("configuration", "verification", *path)]
