"""A connection that there is not: told before anything is done, and nothing is ROLLBACK_FAILED for want of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.db.models import DeploymentPlan, ProviderConnection
from app.domain.enums import PlanType
from app.domain.errors import Invalid, Severity
from app.domain.statuses import JobStatus, PlanStatus
from app.providers.base import Context, ErrorKind, ProviderError
from app.services import plans, previews
from app.services.plans import CreatePlan, ExecutePlan
from app.services.previews import PreviewPlan
from tests.engine.harness import SEALER, Workshop, note

NOWHERE = {"connection": "nowhere"}
# A condition is judged by a worker, so nobody can say beforehand that the connection will be needed.
SOMETIMES = {**NOWHERE, "when": "${parameters.sure}"}
PARAMETERS = {"type": "object", "properties": {"sure": {"type": "boolean", "default": True}}}


async def _connect(workshop: Workshop) -> None:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        transaction.session.add(
            ProviderConnection(
                tenant_id=workshop.tenant_id,
                name="nowhere",
                provider="core",
                config=SEALER.seal({"folder": "far"}, workshop.tenant_id),
            )
        )


async def _disconnect(workshop: Workshop) -> None:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        rows = await transaction.session.execute(ProviderConnection.__table__.select())
        for row in rows.all():
            (await transaction.session.get_one(ProviderConnection, row.id)).is_deleted = True


async def _template(workshop: Workshop, name: str = "template", **resources: Any) -> int:
    return await workshop.template({"parameters": PARAMETERS, "resources": resources}, name)


async def _create(workshop: Workshop, template: int, kind: PlanType = PlanType.MANUAL) -> DeploymentPlan:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = CreatePlan(name="plan", type=kind, template_revision_id=template, stack="stack")
        return await plans.create(transaction, workshop.principal, command, workshop.dependencies)


async def _execute(workshop: Workshop, plan: DeploymentPlan) -> Any:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ExecutePlan(plan.id, expected_preview_hash=plan.preview_hash)
        return await plans.execute(transaction, workshop.principal, command, workshop.dependencies)


async def test_a_preview_names_what_cannot_be_reached_and_nothing_is_begun(workshop: Workshop) -> None:
    template = await _template(workshop, a=note("a"), b=note("b", **NOWHERE), c=note("c", **SOMETIMES))
    async with workshop.database.read(workshop.tenant_id) as session:
        command = PreviewPlan(template_revision_id=template)
        shown = await previews.preview(session, workshop.tenant_id, workshop.principal, command, workshop.dependencies)
    assert [(found.severity, found.code, found.path) for found in shown.diagnostics] == [
        (Severity.WARN, "NO_CONNECTION", ("resources", "b", "connection")),
        (Severity.INFO, "NO_CONNECTION", ("resources", "c", "connection")),
    ]
    plan = await _create(workshop, template)
    assert plan.status is PlanStatus.READY
    with pytest.raises(Invalid, match="no connection 'nowhere' for core, which 'b' needs") as refused:
        await _execute(workshop, plan)
    assert refused.value.path == ("resources", "b", "connection")
    assert [found.severity for found in refused.value.diagnostics] == [Severity.ERROR]
    assert (await workshop.rows("SELECT count(*) AS jobs FROM orchestration_job"))[0].jobs == 0
    await _connect(workshop)
    job = await workshop.settle((await _execute(workshop, plan)).id)
    assert job.status is JobStatus.SUCCEEDED
    assert set(workshop.notes()) == {"a", "b", "c"}


async def test_a_plan_that_runs_at_once_is_refused_at_once(workshop: Workshop) -> None:
    template = await _template(workshop, b=note("b", **NOWHERE))
    with pytest.raises(Invalid, match="no connection 'nowhere'"):
        await _create(workshop, template, PlanType.IMMEDIATE)
    assert await workshop.rows("SELECT id FROM deployment_plan") == []


async def test_what_stays_as_it_is_needs_no_connection(workshop: Workshop) -> None:
    await _connect(workshop)
    first = await _template(workshop, "first", a=note("a"), b=note("b", **NOWHERE))
    assert (await workshop.settle(await workshop.submit(first))).status is JobStatus.SUCCEEDED
    await _disconnect(workshop)
    second = await _template(workshop, "second", a=note("a", "new"), b=note("b", **NOWHERE))
    assert (await workshop.settle(await workshop.submit(second))).status is JobStatus.SUCCEEDED


async def test_a_creation_that_was_never_sent_is_undone_without_a_connection(workshop: Workshop) -> None:
    template = await _template(workshop, a=note("a"), b=note("b", needs=["a"], **SOMETIMES))
    job = await workshop.settle(await workshop.submit(template))
    assert job.status is JobStatus.ROLLED_BACK
    assert job.error is not None
    assert (job.error["stepKey"], job.error["code"]) == ("b", "NO_CONNECTION")
    assert workshop.notes() == {}
    rows = await workshop.rows("SELECT resource_key, status FROM cloud_resource ORDER BY 1")
    assert [(row.resource_key, row.status) for row in rows] == [("a", "DELETED"), ("b", "DELETED")]


async def test_a_change_that_was_never_sent_leaves_the_resource_as_it_was(workshop: Workshop) -> None:
    await _connect(workshop)
    first = await _template(workshop, "first", b=note("b", "before", **SOMETIMES))
    assert (await workshop.settle(await workshop.submit(first))).status is JobStatus.SUCCEEDED
    await _disconnect(workshop)
    second = await _template(workshop, "second", b=note("b", "after", **SOMETIMES))
    job = await workshop.settle(await workshop.submit(second))
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"b": "before"}
    (row,) = await workshop.rows("SELECT status, applied, external_id FROM cloud_resource")
    assert (row.status, row.applied["text"], row.external_id) == ("ACTIVE", "before", "b")


async def test_what_may_have_been_sent_is_not_taken_for_undone(workshop: Workshop) -> None:
    """The first attempt made the note and failed; then the connection goes: nobody can remove it, and that is said."""
    await _connect(workshop)
    inner = workshop.provider.notes._call

    async def call(method: str, context: Context, proceed: Callable[[], Awaitable[Any]]) -> Any:
        found = await inner(method, context, proceed)
        if method == "create":
            await _disconnect(workshop)
            raise ProviderError(ErrorKind.THROTTLED, "made, and yet refused")
        return found

    workshop.provider.notes._call = call  # type: ignore[method-assign, assignment]
    job = await workshop.settle(await workshop.submit(await _template(workshop, b=note("b", **NOWHERE))))
    assert job.status is JobStatus.ROLLBACK_FAILED
    assert workshop.notes() == {"b": "x"}
    assert await workshop.steps(job.id) == {"b": "COMPENSATION_FAILED"}
