"""What cannot be done now says why, whatever it is and wherever it stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.auth.principal import Principal
from app.db.models import CloudResource, DeploymentPlan, OrchestrationJob, StepRun
from app.domain.enums import ActionReason, Permission, PlanType, Role, StatusReason
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus, StepStatus
from app.services import availability
from app.services.availability import Availability

RECURRING = {"recurrence": "0 3 * * *", "timeZone": "UTC"}
KINDS: list[dict[str, Any]] = [
    {"plan_type": PlanType.MANUAL},
    {"plan_type": PlanType.AUTOMATED},
    {"plan_type": PlanType.SCHEDULED, "schedule": RECURRING},
    {"plan_type": PlanType.IMMEDIATE, "parent_plan_id": 1},
    {"plan_type": PlanType.IMMEDIATE, "status_reason": StatusReason.GATE},
    {"plan_type": PlanType.IMMEDIATE, "status_reason": StatusReason.STEP_FAILED},
]


def principal(*permissions: Permission) -> Principal:
    until = datetime(2027, 1, 1, tzinfo=UTC)
    return Principal(7, "acme", 12, Role.OPERATOR, frozenset(permissions), 1, until)


def assert_reasoned(found: list[Availability]) -> None:
    assert found
    for one in found:
        assert one.allowed is (one.reason is ActionReason.NONE), one
        assert one.allowed or one.message, one


@pytest.mark.parametrize("permissions", [(), tuple(Permission)])
def test_whatever_cannot_be_done_says_why(permissions: tuple[Permission, ...]) -> None:
    who = principal(*permissions)
    pausing = OrchestrationJob(status=JobStatus.PAUSING)
    for status in PlanStatus:
        for kind in KINDS:
            plan = DeploymentPlan(**{"status": status, "status_reason": StatusReason.NONE, "user_id": 12, **kind})
            assert_reasoned(availability.plan_actions(plan, who, []))
            assert_reasoned(availability.plan_actions(plan, who, [], pausing))
    for job_status in JobStatus:
        for simulated in (True, False):
            job = OrchestrationJob(status=job_status, simulated=simulated)
            assert_reasoned(availability.job_actions(job, who))
            for step_status in StepStatus:
                step = StepRun(status=step_status, status_reason=StatusReason.NONE)
                assert_reasoned(availability.step_actions(step, job, who))
    for resource_status in ResourceStatus:
        assert_reasoned(availability.resource_actions(CloudResource(status=resource_status), who))


@pytest.mark.parametrize(
    ("kind", "action", "reason"),
    [
        (KINDS[0], "EXECUTE", ActionReason.NONE),
        (KINDS[0], "RESUME", ActionReason.ILLEGAL_STATE),
        (KINDS[2], "EXECUTE", ActionReason.NOT_APPLICABLE),
        (KINDS[3], "EDIT", ActionReason.NOT_APPLICABLE),
    ],
)
def test_the_reason_is_that_of_what_stands_against_it(kind: dict[str, Any], action: str, reason: ActionReason) -> None:
    plan = DeploymentPlan(status=PlanStatus.READY, status_reason=StatusReason.NONE, **kind)
    found = availability.plan_actions(plan, principal(*Permission), [])
    assert {one.action: one.reason for one in found}[action] is reason
