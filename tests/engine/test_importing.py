"""What exists already becomes managed, and what has lived long enough goes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from app import clock
from app.db.models import CloudResource
from app.domain.enums import ChangeAction, DriftStatus
from app.domain.errors import Conflict, Several
from app.domain.statuses import PlanStatus, ResourceStatus
from app.services import drift, plans, resources
from app.services.drift import ImportResource
from app.services.resources import DetachResource
from tests.engine.harness import Workshop, note
from tests.engine.observing import change, deployed, go_round, refresh, resource, tamper, told
from tests.engine.schedules import children, finish, found

OVER = "UPDATE deployment_plan SET ttl_at = clock_timestamp() WHERE ttl_at IS NOT NULL"


def by_hand(workshop: Workshop, name: str, **content: Any) -> None:
    """Somebody writes a note without us."""
    folder = workshop.folder / str(workshop.tenant_id) / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "text": "by hand", "size": 1, **content}))


async def imported(workshop: Workshop, name: str, **more: Any) -> CloudResource:
    """What somebody begins to import."""
    command = ImportResource("core.note", "core", name, name, **{"stack": "stack", **more})
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        row: CloudResource = await drift.import_resource(
            transaction, workshop.principal, command, workshop.dependencies
        )
        return row


async def test_what_exists_is_read_and_then_active_and_a_plan_goes_on_with_it(workshop: Workshop) -> None:
    by_hand(workshop, "a")
    begun = await imported(workshop, "a")
    assert begun.status is ResourceStatus.IMPORTING
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.status, row.drift_status, row.external_id) == (ResourceStatus.ACTIVE, DriftStatus.IN_SYNC, "a")
    assert row.applied == row.observed == {"name": "a", "text": "by hand", "size": 1}
    assert (row.revision, set(row.outputs or {})) == (1, {"path", "checksum"})
    plan = await deployed(workshop, await workshop.template({"resources": {"a": note("a", "ours")}}))
    assert plan.preview is not None
    assert [made["action"] for made in plan.preview["changes"]] == [ChangeAction.UPDATE]
    assert workshop.notes() == {"a": "ours"}
    assert (await resource(workshop)).id == begun.id


async def test_what_does_not_exist_is_not_imported_and_its_name_is_free_again(workshop: Workshop) -> None:
    await imported(workshop, "a")
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.status, (row.observe_error or {})["code"]) == (ResourceStatus.DETACHED, "NOT_FOUND")
    by_hand(workshop, "a")
    await imported(workshop, "a")
    await go_round(workshop)
    assert (await resource(workshop)).status is ResourceStatus.ACTIVE


async def test_what_another_stack_manages_is_not_imported(workshop: Workshop) -> None:
    await deployed(workshop, await workshop.template({"resources": {"a": note("a")}}))
    with pytest.raises(Conflict) as refused:
        await imported(workshop, "a", stack="other")
    assert refused.value.path == ("externalId",)
    # One whose row is gone still carries the mark of whoever made it.
    await change(workshop, "UPDATE cloud_resource SET status = 'DETACHED'")
    await imported(workshop, "a", stack="other")
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.status, (row.observe_error or {})["code"]) == (ResourceStatus.DETACHED, "ALREADY_EXISTS")


async def test_two_imports_of_one_thing_at_a_time_end_in_one(workshop: Workshop) -> None:
    by_hand(workshop, "a")
    await imported(workshop, "a")
    with pytest.raises(Conflict):
        await imported(workshop, "a", stack="other")


async def test_every_fault_of_an_import_is_named_at_once(workshop: Workshop) -> None:
    command = ImportResource("core.nothing", "core", " ", "1 2")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        with pytest.raises(Several) as refused:
            await drift.import_resource(transaction, workshop.principal, command, workshop.dependencies)
        transaction.authorize("test")
    assert [fault.path for fault in refused.value.errors] == [("externalId",), ("name",), ("type",)]


async def test_what_is_imported_under_a_plan_is_looked_at_as_often_as_it_says(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"b": note("b")}})
    plan = await deployed(workshop, template, {"drift": {"every": "PT10M"}})
    by_hand(workshop, "a")
    await imported(workshop, "a", plan_id=plan.id, stack=None)
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.stack, row.owner_plan_id, row.status) == ("stack", plan.id, ResourceStatus.ACTIVE)
    assert row.observe_at is not None
    assert row.observe_at > clock.utc_now() + timedelta(minutes=9)
    assert await told(workshop, plan.id) == [("IMPORTING", "NOT_CHECKED"), ("ACTIVE", "IN_SYNC")]


async def test_what_is_detached_is_not_looked_at_and_stays(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    plan = await deployed(workshop, template, {"drift": {"every": "PT10M"}})
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    await go_round(workshop)
    row = await resource(workshop)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await resources.detach(transaction, workshop.principal, DetachResource(row.id))
    row = await resource(workshop)
    assert (row.status, row.drift_status, row.observe_at) == (ResourceStatus.DETACHED, DriftStatus.NOT_CHECKED, None)
    assert workshop.notes() == {"a": "other"}
    assert await told(workshop, plan.id) == [("ACTIVE", "MODIFIED"), ("DETACHED", "NOT_CHECKED")]


async def test_what_was_let_go_of_and_imported_again_is_not_taken_away_by_undoing_what_made_it(
    workshop: Workshop,
) -> None:
    plan = await deployed(workshop, await workshop.template({"resources": {"a": note("a")}}))
    row = await resource(workshop)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await resources.detach(transaction, workshop.principal, DetachResource(row.id))
    again = await imported(workshop, "a", stack=plan.stack)
    await go_round(workshop)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        kept = await transaction.session.get_one(CloudResource, again.id)
        assert (kept.status, kept.resource_key) == (ResourceStatus.ACTIVE, row.resource_key)
        with pytest.raises(Conflict, match="let go of it"):
            await plans.create_rollback_plan(
                transaction, workshop.principal, plans.RollbackPlan(plan.id), workshop.dependencies
            )
    assert workshop.notes() == {"a": "x"}


# ── time to live ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_has_lived_long_enough_is_deleted_by_a_plan(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a"), "b": note("b", needs=["a"])}})
    plan = await deployed(workshop, template, {"ttl": "PT2H"})
    assert plan.ttl_at is not None
    assert plan.completed_at is not None
    assert abs(plan.ttl_at - plan.completed_at - timedelta(hours=2)) < timedelta(seconds=5)
    await go_round(workshop)
    assert await children(workshop, plan.id) == []
    await change(workshop, OVER)
    await go_round(workshop)
    await go_round(workshop)
    (child,) = await children(workshop, plan.id)
    assert (child.teardown, child.template_id, child.configuration) == (True, None, {})
    assert (await finish(workshop, child)).status is PlanStatus.SUCCEEDED
    assert workshop.notes() == {}
    assert [await status(workshop, key) for key in ("a", "b")] == [ResourceStatus.DELETED] * 2
    assert (await found(workshop, plan.id)).ttl_at is None


async def status(workshop: Workshop, key: str) -> ResourceStatus:
    return (await resource(workshop, key)).status


async def test_the_end_has_to_be_approved_where_the_plan_had_to(workshop: Workshop) -> None:
    template = await workshop.template({"resources": {"a": note("a")}})
    plan = await deployed(workshop, template, {"ttl": "PT2H", "approvals": {"required": 0}})
    await change(
        workshop,
        "UPDATE deployment_plan SET ttl_at = clock_timestamp(), configuration ="
        " jsonb_set(configuration, '{approvals,required}', '1')",
    )
    await go_round(workshop)
    (child,) = await children(workshop, plan.id)
    assert (child.status, workshop.notes()) == (PlanStatus.PENDING_APPROVAL, {"a": "x"})


async def test_a_later_plan_of_the_stack_takes_the_end_over(workshop: Workshop) -> None:
    first = await deployed(workshop, await workshop.template({"resources": {"a": note("a")}}), {"ttl": "PT2H"})
    await deployed(workshop, await workshop.template({"resources": {"a": note("a", "new")}}, "new"))
    await change(workshop, OVER)
    await go_round(workshop)
    assert await children(workshop, first.id) == []
    assert (await found(workshop, first.id)).ttl_at is None
    assert workshop.notes() == {"a": "new"}
