"""A rollback that got stuck goes on as somebody decides, and says honestly what it has left."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.enums import ChangeAction, DriftStatus, RollbackCompleteness, RollbackResolution
from app.domain.errors import DomainError, Invalid
from app.domain.operations import OperationKind
from app.domain.resolving import resolutions
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus
from app.providers.base import ErrorKind
from app.providers.faults import Fault, FaultKind
from app.services import jobs
from app.services.jobs import ContinueRollback
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.observing import path_of, resource
from tests.engine.test_in_doubt import events_of, settled
from tests.engine.test_rollback import ALL, FAILING, failing, meddle_before_the_end

ACCEPT, MARK = RollbackResolution.ACCEPT_ACTUAL, RollbackResolution.MARK_DELETED
SKIP, AGAIN = RollbackResolution.SKIP_KEEP_UNKNOWN, RollbackResolution.RETRY
DENIED = Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)


async def go_on(workshop: Workshop, job_id: int, **decided: RollbackResolution) -> Any:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ContinueRollback(job_id, tuple(decided.items()))
        job = await jobs.continue_rollback(transaction, workshop.principal, command, workshop.dependencies)
        job_id = job.id
    return await workshop.settle(job_id)


async def meddled(workshop: Workshop, handling: dict[str, Any] | None = None, **more: Any) -> Any:
    """A job that is to put back its update of `b`, which somebody else has changed since."""
    await workshop.settle(
        await workshop.submit(await workshop.template({"resources": {"b": note("b", "before")}}, "first"))
    )
    wait = {"key": "wait", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.pass"}}
    template = await workshop.template({"resources": {"b": note("b", "after")}}, "second")
    steps = ({**ALL, "errorHandling": handling or {}}, wait, FAILING)
    job_id = await workshop.submit(template, await workshop.workflow(*steps), **more)
    await meddle_before_the_end(workshop, job_id)
    return await workshop.settle(job_id)


async def stuck_update(workshop: Workshop) -> int:
    """The update of `b` cannot be put back."""
    job = await meddled(workshop)
    assert job.status is JobStatus.ROLLBACK_FAILED
    return int(job.id)


async def stuck_creation(open_workshop: Open) -> tuple[Workshop, int]:
    """What was made may not be removed."""
    workshop = await open_workshop({"delete": [DENIED] * 5})
    job = await workshop.settle(await failing(workshop, {"b": note("b")}))
    assert (job.status, job.rollback_completeness) == (JobStatus.ROLLBACK_FAILED, RollbackCompleteness.PARTIAL)
    return workshop, job.id


async def completeness_told(workshop: Workshop, job_id: int) -> list[str | None]:
    rows = await workshop.rows(
        "SELECT data->>'rollbackCompleteness' AS said FROM event_log WHERE stream = 'JOB' AND stream_id = :job"
        " AND kind = 'JobStatusChanged' ORDER BY seq",
        job=job_id,
    )
    return [row.said for row in rows]


async def test_what_is_there_is_accepted_as_applied(workshop: Workshop) -> None:
    job = await go_on(workshop, await stuck_update(workshop), b=ACCEPT)
    assert (job.status, job.rollback_completeness) == (JobStatus.ROLLED_BACK, RollbackCompleteness.PARTIAL)
    assert (await workshop.steps(job.id))["b"] == "COMPENSATION_SKIPPED"
    assert (await completeness_told(workshop, job.id))[-1] == "PARTIAL"
    row = await resource(workshop, "b")
    assert (row.status, row.drift_status) == (ResourceStatus.ACTIVE, DriftStatus.IN_SYNC)
    assert ((row.applied or {})["text"], workshop.notes()) == ("meddled", {"b": "meddled"})
    assert (await workshop.plan_of(job.id)).status is PlanStatus.ROLLED_BACK


async def test_what_is_found_to_be_gone_is_accepted_as_gone(workshop: Workshop) -> None:
    job_id = await stuck_update(workshop)
    path_of(workshop, "b").unlink()
    job = await go_on(workshop, job_id, b=ACCEPT)
    assert job.status is JobStatus.ROLLED_BACK
    assert (await resource(workshop, "b")).status is ResourceStatus.DELETED


async def test_a_creation_that_is_accepted_stays(open_workshop: Open) -> None:
    workshop, job_id = await stuck_creation(open_workshop)
    job = await go_on(workshop, job_id, b=ACCEPT)
    assert (job.status, job.rollback_completeness) == (JobStatus.ROLLED_BACK, RollbackCompleteness.PARTIAL)
    row = await resource(workshop, "b")
    assert (row.status, row.external_id, workshop.notes()) == (ResourceStatus.ACTIVE, "b", {"b": "x"})


async def test_what_cannot_be_read_is_not_accepted(open_workshop: Open) -> None:
    workshop = await open_workshop({"delete": [DENIED] * 5, "read": [*[None] * 5, *[DENIED] * 5]})
    job = await workshop.settle(await failing(workshop, {"b": note("b")}))
    job = await go_on(workshop, job.id, b=ACCEPT)
    assert job.status is JobStatus.ROLLBACK_FAILED
    assert (await workshop.steps(job.id))["b"] == "COMPENSATION_FAILED"


async def test_what_somebody_has_removed_is_marked_deleted(open_workshop: Open) -> None:
    workshop, job_id = await stuck_creation(open_workshop)
    path_of(workshop, "b").unlink()
    job = await go_on(workshop, job_id, b=MARK)
    assert (job.status, (await workshop.steps(job.id))["b"]) == (JobStatus.ROLLED_BACK, "COMPENSATION_SKIPPED")
    row = await resource(workshop, "b")
    assert (row.status, row.is_deleted) == (ResourceStatus.DELETED, True)
    assert (await events_of(workshop, "b"))[-1] == ("FAILED", "DELETED")


async def test_an_update_that_was_changed_by_others_is_not_marked_deleted(workshop: Workshop) -> None:
    job_id = await stuck_update(workshop)
    with pytest.raises(Invalid, match="RETRY or SKIP_KEEP_UNKNOWN or ACCEPT_ACTUAL") as refused:
        await go_on(workshop, job_id, b=MARK)
    assert refused.value.path == ("resolutions", "0", "action")


async def test_one_that_is_gone_may_be_marked_deleted(workshop: Workshop) -> None:
    job_id = await stuck_update(workshop)
    path_of(workshop, "b").unlink()
    job = await go_on(workshop, job_id)
    assert job.status is JobStatus.ROLLBACK_FAILED
    job = await go_on(workshop, job.id, b=MARK)
    assert job.status is JobStatus.ROLLED_BACK
    assert (await resource(workshop, "b")).status is ResourceStatus.DELETED


async def test_what_is_skipped_is_told_of_as_unknown_and_looked_at_afterwards(workshop: Workshop) -> None:
    job_id = await stuck_update(workshop)
    job = await go_on(workshop, job_id, b=SKIP)
    assert job.rollback_completeness is RollbackCompleteness.PARTIAL
    row = await resource(workshop, "b")
    assert (row.status, row.drift_status) == (ResourceStatus.UNKNOWN, DriftStatus.MODIFIED)
    assert (await events_of(workshop, "b"))[-1] == ("FAILED", "UNKNOWN")
    row = await settled(workshop, "b")
    assert (row.status, row.drift_status) == (ResourceStatus.ACTIVE, DriftStatus.MODIFIED)
    assert [(found["path"], found["actual"]) for found in row.drift or ()] == [(["text"], "meddled")]


async def test_a_rollback_of_everything_is_full_and_one_that_leaves_something_is_not(workshop: Workshop) -> None:
    job = await workshop.settle(await failing(workshop, {"a": note("a")}))
    assert (job.status, job.rollback_completeness) == (JobStatus.ROLLED_BACK, RollbackCompleteness.FULL)
    assert (await completeness_told(workshop, job.id))[-1] == "FULL"
    assert set((await completeness_told(workshop, job.id))[:-1]) == {None}
    log = {
        "key": "log",
        "type": "CUSTOM",
        "order": 2,
        "configuration": {"task": "core.log"},
        "inputs": {"message": "m"},
    }
    workshop.registry.task("core.log").undoable = False  # type: ignore[misc]
    workflow = await workshop.workflow(log, FAILING, name="logging")
    job = await workshop.settle(await workshop.submit(workflow=workflow, stack="other"))
    assert (job.status, job.rollback_completeness) == (JobStatus.ROLLED_BACK, RollbackCompleteness.PARTIAL)
    done = await workshop.settle(
        await workshop.submit(await workshop.template({"resources": {}}, "empty2"), await workshop.workflow(log))
    )
    assert done.rollback_completeness is None


def test_what_may_be_decided_depends_on_the_step() -> None:
    change = ChangeAction
    table = [
        (OperationKind.RUN, change.RUN, None, False, [AGAIN, SKIP]),
        (OperationKind.APPLY, change.CREATE, None, True, [AGAIN, SKIP, ACCEPT, MARK]),
        (OperationKind.APPLY, change.CREATE, None, False, [AGAIN, SKIP, MARK]),
        (OperationKind.APPLY, change.REPLACE, None, True, [AGAIN, SKIP, ACCEPT, MARK]),
        (OperationKind.APPLY, change.UPDATE, "CHANGED_BY_OTHERS", True, [AGAIN, SKIP, ACCEPT]),
        (OperationKind.APPLY, change.UPDATE, "GONE", True, [AGAIN, SKIP, ACCEPT, MARK]),
        (OperationKind.DELETE, change.DELETE, None, True, [AGAIN, SKIP, ACCEPT, MARK]),
        (OperationKind.ACT, change.RUN, None, True, [AGAIN, SKIP, ACCEPT]),
    ]
    for operation, action, code, readable, allowed in table:
        assert list(resolutions(operation, action, code, readable=readable)) == allowed


# ── updates that somebody else has changed since ─────────────────────────────────────────────────────────────────────


def by_plan(policy: str) -> dict[str, Any]:
    return {"configuration": {"rollback": {"onConflict": policy}}}


async def test_what_others_have_changed_is_overwritten_where_the_plan_says_so(workshop: Workshop) -> None:
    job = await meddled(workshop, **by_plan("OVERWRITE"))
    assert (job.status, job.rollback_completeness) == (JobStatus.ROLLED_BACK, RollbackCompleteness.FULL)
    assert workshop.notes() == {"b": "before"}
    row = await resource(workshop, "b")
    assert (row.status, (row.applied or {})["text"]) == (ResourceStatus.ACTIVE, "before")


async def test_what_others_have_changed_is_left_where_the_plan_says_so(workshop: Workshop) -> None:
    job = await meddled(workshop, **by_plan("SKIP"))
    assert (job.status, job.rollback_completeness) == (JobStatus.ROLLED_BACK, RollbackCompleteness.PARTIAL)
    assert (await workshop.steps(job.id))["b"] == "COMPENSATION_SKIPPED"
    row = await resource(workshop, "b")
    assert ((row.applied or {})["text"], workshop.notes()) == ("meddled", {"b": "meddled"})


@pytest.mark.parametrize(("step", "plan", "left"), [("SKIP", "OVERWRITE", "meddled"), ("OVERWRITE", "FAIL", "before")])
async def test_a_step_says_it_before_its_plan(workshop: Workshop, step: str, plan: str, left: str) -> None:
    job = await meddled(workshop, {"onConflict": step}, **by_plan(plan))
    assert (job.status, workshop.notes()) == (JobStatus.ROLLED_BACK, {"b": left})


@pytest.mark.parametrize(
    ("rollback", "path"),
    [("FAIL", ()), ({"onConflict": "MERGE"}, ("onConflict",)), ({"conflict": "FAIL"}, ("conflict",))],
)
async def test_a_policy_that_there_is_not_is_refused(workshop: Workshop, rollback: Any, path: tuple[str, ...]) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    with pytest.raises(DomainError) as refused:
        await workshop.submit(template, configuration={"rollback": rollback})
    assert refused.value.path == ("configuration", "rollback", *path)
