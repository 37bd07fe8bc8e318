"""Drift: looked for, told once, put back, accepted or ignored, and never written over what a job has done."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from app import clock
from app.db.models import CloudResource
from app.db.uow import SystemRole
from app.domain.enums import DriftStatus, PlanType
from app.domain.errors import IllegalState, Locked
from app.domain.statuses import PlanStatus, ResourceStatus
from app.engine import observations
from app.engine.observing import LEASE_SECONDS
from app.providers.base import ErrorKind
from app.providers.faults import Fault, FaultKind
from app.services import drift, plans
from app.services.drift import HeedDrift, IgnoreDrift, OfResource
from app.services.plans import ExecutePlan
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.observing import change, deployed, go_round, observer, path_of, refresh, resource, tamper, told
from tests.engine.schedules import children, found
from workers.observing import keep_observing

EVERY = {"drift": {"every": "PT10M"}}
LATER = "UPDATE cloud_resource SET observe_at = clock_timestamp() WHERE observe_at IS NOT NULL"


async def one_note(workshop: Workshop, **configuration: Any) -> int:
    template = await workshop.template({"resources": {"a": note("a")}})
    return (await deployed(workshop, template, configuration or None)).id


def seen(row: CloudResource) -> list[tuple[list[str], Any, Any]]:
    return [(found["path"], found["expected"], found["actual"]) for found in row.drift or ()]


async def test_what_was_changed_by_others_is_modified_and_told_once(workshop: Workshop) -> None:
    plan_id = await one_note(workshop)
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    assert await go_round(workshop) == 1
    row = await resource(workshop)
    assert (row.status, row.drift_status) == (ResourceStatus.ACTIVE, DriftStatus.MODIFIED)
    assert seen(row) == [(["text"], "x", "other")]
    assert (row.applied or {})["text"] == "x"
    assert (row.observed or {})["text"] == "other"
    assert await told(workshop, plan_id) == [("ACTIVE", "MODIFIED")]
    await refresh(workshop)
    assert await go_round(workshop) == 1
    assert await told(workshop, plan_id) == [("ACTIVE", "MODIFIED")]
    tamper(workshop, "a", text="x")
    await refresh(workshop)
    await go_round(workshop)
    assert await told(workshop, plan_id) == [("ACTIVE", "MODIFIED"), ("ACTIVE", "IN_SYNC")]
    assert (await resource(workshop)).drift is None
    assert await go_round(workshop) == 0


async def test_what_is_gone_is_missing_and_the_next_plan_makes_it_again(workshop: Workshop) -> None:
    await one_note(workshop)
    path_of(workshop, "a").unlink()
    await refresh(workshop)
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.status, row.drift_status, row.observed) == (ResourceStatus.ACTIVE, DriftStatus.MISSING, None)
    again = await workshop.template({"resources": {"a": note("a")}}, "again")
    plan = await deployed(workshop, again)
    assert plan.preview is not None
    (planned,) = plan.preview["changes"]
    assert (planned["action"], {item["source"] for item in planned["properties"]}) == ("CREATE", {"DRIFT"})
    assert workshop.notes() == {"a": "x"}
    row = await resource(workshop)
    assert (row.status, row.drift_status) == (ResourceStatus.ACTIVE, DriftStatus.IN_SYNC)


async def test_a_plan_looks_as_often_as_it_says(workshop: Workshop) -> None:
    await one_note(workshop, **EVERY)
    row = await resource(workshop)
    assert row.observe_at is not None
    assert timedelta(minutes=9) < row.observe_at - clock.utc_now() < timedelta(minutes=11)
    assert await go_round(workshop) == 0
    tamper(workshop, "a", size=2)
    await change(workshop, LATER)
    assert await go_round(workshop) == 1
    row = await resource(workshop)
    assert seen(row) == [(["size"], 1, 2)]
    assert row.observe_at is not None
    assert row.observe_at > clock.utc_now() + timedelta(minutes=9)


async def test_the_revert_plan_shows_the_drift_waits_and_puts_it_back(workshop: Workshop) -> None:
    plan_id = await one_note(workshop, drift={"every": "PT10M", "reaction": "PLAN"})
    tamper(workshop, "a", text="other")
    await change(workshop, LATER)
    await go_round(workshop)
    (child,) = await children(workshop, plan_id)
    assert (child.plan_type, child.status, child.created_by) == (PlanType.MANUAL, PlanStatus.READY, "system:drift")
    assert child.preview is not None
    (planned,) = child.preview["changes"]
    (item,) = planned["properties"]
    assert planned["action"] == "UPDATE"
    assert (item["path"], item["source"]) == (["text"], "DRIFT")
    assert (item["before"], item["actual"], item["after"]) == ("x", "other", "x")
    # Another difference while it waits makes no other plan; the one there is would be refused as stale.
    tamper(workshop, "a", size=3)
    await change(workshop, LATER)
    await go_round(workshop)
    assert [plan.id for plan in await children(workshop, plan_id)] == [child.id]
    tamper(workshop, "a", size=1)
    await change(workshop, LATER)
    await go_round(workshop)
    assert workshop.notes() == {"a": "other"}
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ExecutePlan(child.id, child.preview_hash)
        job = await plans.execute(transaction, workshop.principal, command, workshop.dependencies)
    await workshop.settle(job.id)
    assert (await found(workshop, child.id)).status is PlanStatus.SUCCEEDED
    assert workshop.notes() == {"a": "x"}
    row = await resource(workshop)
    assert (row.drift_status, row.drift, row.owner_plan_id) == (DriftStatus.IN_SYNC, None, child.id)


async def test_a_revert_plan_that_was_thrown_away_comes_back_only_with_other_drift(workshop: Workshop) -> None:
    plan_id = await one_note(workshop, drift={"reaction": "PLAN"})
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    await go_round(workshop)
    (child,) = await children(workshop, plan_id)
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        await plans.cancel(transaction, workshop.principal, plans.PlanAction(child.id), workshop.dependencies)
    await refresh(workshop)
    await go_round(workshop)
    assert len(await children(workshop, plan_id)) == 1
    tamper(workshop, "a", text="yet another")
    await refresh(workshop)
    await go_round(workshop)
    assert len(await children(workshop, plan_id)) == 2


async def test_what_was_found_is_accepted_as_a_revision(workshop: Workshop) -> None:
    plan_id = await one_note(workshop, drift={"reaction": "ACCEPT"})
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.drift_status, row.drift, row.revision) == (DriftStatus.IN_SYNC, None, 2)
    assert ((row.applied or {})["text"], (row.desired or {})["text"]) == ("other", "other")
    revisions = await workshop.rows("SELECT number, properties->>'text' AS text FROM resource_revision ORDER BY number")
    assert [tuple(revision) for revision in revisions] == [(1, "x"), (2, "other")]
    # For whoever follows the plan nothing is out of order, so nothing is told.
    assert await told(workshop, plan_id) == []


def frozen() -> dict[str, Any]:
    """From an hour ago until tomorrow."""
    now = clock.utc_now().replace(microsecond=0)
    return {"from": (now - timedelta(hours=1)).isoformat(), "until": (now + timedelta(days=1)).isoformat()}


async def lift(workshop: Workshop) -> None:
    """There is no freeze any more, and what waited for its end is due."""
    await change(workshop, "UPDATE deployment_plan SET configuration = configuration #- '{drift,freeze}'")
    await overdue(workshop)


async def overdue(workshop: Workshop) -> None:
    past = "clock_timestamp() - interval '1 minute'"
    await change(workshop, f"UPDATE cloud_resource SET revert_at = {past} WHERE revert_at IS NOT NULL")


async def test_nothing_is_put_back_during_a_freeze(workshop: Workshop) -> None:
    freeze = frozen()
    plan_id = await one_note(workshop, drift={"reaction": "PLAN", "freeze": [freeze]})
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    await go_round(workshop)
    row = await resource(workshop)
    # It is seen, and said, all the same.
    assert (row.drift_status, seen(row)) == (DriftStatus.MODIFIED, [(["text"], "x", "other")])
    assert row.revert_at == datetime.fromisoformat(freeze["until"])
    await overdue(workshop)
    await go_round(workshop)
    assert await children(workshop, plan_id) == []
    assert (await resource(workshop)).revert_at == datetime.fromisoformat(freeze["until"])
    await lift(workshop)
    await go_round(workshop)
    assert len(await children(workshop, plan_id)) == 1


async def test_nothing_is_accepted_during_a_freeze(workshop: Workshop) -> None:
    freeze = frozen()
    await one_note(workshop, drift={"reaction": "ACCEPT", "freeze": [freeze]})
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.drift_status, row.revision) == (DriftStatus.MODIFIED, 1)
    assert row.observe_at == datetime.fromisoformat(freeze["until"])
    await lift(workshop)
    await refresh(workshop)
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.drift_status, row.revision, (row.applied or {})["text"]) == (DriftStatus.IN_SYNC, 2, "other")


async def test_what_is_gone_is_accepted_as_deleted(workshop: Workshop) -> None:
    plan_id = await one_note(workshop, drift={"reaction": "ACCEPT"})
    path_of(workshop, "a").unlink()
    await refresh(workshop)
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.status, row.is_deleted) == (ResourceStatus.DELETED, True)
    assert await told(workshop, plan_id) == [("DELETED", "NOT_CHECKED")]


async def test_somebody_accepts_what_was_found(workshop: Workshop) -> None:
    plan_id = await one_note(workshop)
    row = await resource(workshop)
    with pytest.raises(IllegalState):
        await act(workshop, drift.accept, OfResource(row.id), workshop.dependencies)
    tamper(workshop, "a", text="other", size=2)
    await refresh(workshop)
    await go_round(workshop)
    await act(workshop, drift.accept, OfResource(row.id), workshop.dependencies)
    row = await resource(workshop)
    assert (row.drift_status, row.drift) == (DriftStatus.IN_SYNC, None)
    assert ((row.applied or {})["text"], (row.applied or {})["size"]) == ("other", 2)
    assert await told(workshop, plan_id) == [("ACTIVE", "MODIFIED"), ("ACTIVE", "IN_SYNC")]
    await refresh(workshop)
    await go_round(workshop)
    assert (await resource(workshop)).drift_status is DriftStatus.IN_SYNC


async def act(workshop: Workshop, verb: Any, command: Any, *more: Any) -> Any:
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        return await verb(transaction, workshop.principal, command, *more)


async def test_what_is_ignored_does_not_count_until_the_rule_expires(workshop: Workshop) -> None:
    await one_note(workshop)
    row = await resource(workshop)
    tamper(workshop, "a", text="other", size=2)
    rule = IgnoreDrift(row.id, path=("text",), reason="theirs", expires_at=clock.utc_now() + timedelta(hours=1))
    await act(workshop, drift.ignore, rule)
    assert await go_round(workshop) == 1
    row = await resource(workshop)
    assert seen(row) == [(["size"], 1, 2)]
    # When the rule ends it is looked at by itself, though no plan asks for it.
    assert row.observe_at == rule.expires_at
    await change(
        workshop,
        "UPDATE cloud_resource SET observe_at = clock_timestamp(),"
        " drift_ignores = jsonb_set(drift_ignores, '{0,expiresAt}', to_jsonb(CAST(:past AS text)))",
        past=(clock.utc_now() - timedelta(seconds=1)).isoformat(),
    )
    assert await go_round(workshop) == 1
    row = await resource(workshop)
    assert {tuple(path) for path, _, _ in seen(row)} == {("text",), ("size",)}
    assert row.observe_at is None


async def test_a_plan_leaves_what_is_ignored_alone_only_as_long_as_it_changes_nothing(workshop: Workshop) -> None:
    plan_id = await one_note(workshop, drift={"reaction": "PLAN"})
    row = await resource(workshop)
    tamper(workshop, "a", text="other")
    await act(workshop, drift.ignore, IgnoreDrift(row.id, path=("text",), reason="theirs"))
    await go_round(workshop)
    assert (await resource(workshop)).drift_status is DriftStatus.IN_SYNC
    assert await children(workshop, plan_id) == []
    await act(workshop, drift.heed, HeedDrift(row.id, path=("text",)))
    await go_round(workshop)
    assert (await resource(workshop)).drift_status is DriftStatus.MODIFIED
    assert len(await children(workshop, plan_id)) == 1


async def test_an_observation_never_writes_over_what_a_job_did_meanwhile(workshop: Workshop) -> None:
    await one_note(workshop)
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    async with workshop.database.system(SystemRole.TICK) as transaction:
        (due,) = await observations.claim(transaction, 8, LEASE_SECONDS)
    looking = observer(workshop)
    async with looking._transaction(due) as transaction:
        subject = await observations.look(transaction, due)
    assert subject is not None
    finding = await looking._find(subject)
    await deployed(workshop, await workshop.template({"resources": {"a": note("a", "new")}}, "new"))
    after = await resource(workshop)
    async with looking._transaction(due) as transaction:
        assert await looking._archivist.record(transaction, subject, finding) is False
    row = await resource(workshop)
    assert (row.applied, row.observed, row.drift_status) == (after.applied, after.observed, DriftStatus.IN_SYNC)
    assert (row.version, row.observe_until) == (after.version, None)


async def test_nothing_is_looked_at_or_written_while_a_job_holds_the_stack(workshop: Workshop) -> None:
    await one_note(workshop)
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    async with workshop.database.system(SystemRole.TICK) as transaction:
        (due,) = await observations.claim(transaction, 8, LEASE_SECONDS)
    # A job begins between the claim and the look's end.
    job_id = await workshop.submit(await workshop.template({"resources": {"a": note("a", "new")}}, "new"))
    assert await observer(workshop).carry(due) is False
    row = await resource(workshop)
    assert (row.drift_status, row.observe_until) == (DriftStatus.IN_SYNC, None)
    assert await go_round(workshop) == 0
    with pytest.raises((Locked, IllegalState)):
        await act(workshop, drift.accept, OfResource(row.id), workshop.dependencies)
    await workshop.settle(job_id)
    assert workshop.notes() == {"a": "new"}


async def test_a_worker_that_dies_looking_is_followed_by_another_whose_word_counts(workshop: Workshop) -> None:
    await one_note(workshop)
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    async with workshop.database.system(SystemRole.TICK) as transaction:
        (lost,) = await observations.claim(transaction, 8, LEASE_SECONDS)
    assert await go_round(workshop) == 0
    await change(workshop, "UPDATE cloud_resource SET observe_until = clock_timestamp() - interval '1 second'")
    assert await go_round(workshop) == 1
    row = await resource(workshop)
    assert row.drift_status is DriftStatus.MODIFIED
    # The dead one was only slow: what it has to say comes too late.
    tamper(workshop, "a", text="x")
    assert await observer(workshop).carry(lost) is False
    assert (await resource(workshop)).drift_status is DriftStatus.MODIFIED


async def test_an_observation_that_kills_its_workers_is_given_up(workshop: Workshop) -> None:
    plan_id = await one_note(workshop)
    await refresh(workshop)
    for _ in range(3):
        async with workshop.database.system(SystemRole.TICK) as transaction:
            assert len(await observations.claim(transaction, 8, LEASE_SECONDS)) == 1
        await change(workshop, "UPDATE cloud_resource SET observe_until = clock_timestamp() - interval '1 second'")
    assert await go_round(workshop) == 1
    row = await resource(workshop)
    assert (row.drift_status, (row.observe_error or {})["code"]) == (DriftStatus.UNKNOWN, "WORKER_LOST")
    assert await told(workshop, plan_id) == [("ACTIVE", "UNKNOWN")]
    assert await go_round(workshop) == 0


async def test_errors_are_tried_again_a_few_times_and_then_nobody_knows(open_workshop: Open) -> None:
    away = Fault(FaultKind.ERROR, error=ErrorKind.UNAVAILABLE)
    workshop = await open_workshop({"read": [away, away, away, None]})
    await one_note(workshop)
    await refresh(workshop)
    for failures in (1, 2):
        assert await go_round(workshop) == 1
        row = await resource(workshop)
        assert (row.drift_status, row.observe_failures) == (DriftStatus.IN_SYNC, failures)
        assert await go_round(workshop) == 0
        await change(workshop, LATER)
    assert await go_round(workshop) == 1
    row = await resource(workshop)
    assert (row.drift_status, row.observe_at) == (DriftStatus.UNKNOWN, None)
    assert (row.observe_error or {})["code"] == "UNAVAILABLE"
    await refresh(workshop)
    await go_round(workshop)
    row = await resource(workshop)
    assert (row.drift_status, row.observe_error) == (DriftStatus.IN_SYNC, None)


async def test_a_type_that_tells_nothing_of_its_resources_is_unsupported(workshop: Workshop) -> None:
    await one_note(workshop)
    await refresh(workshop)
    setattr(workshop.provider.notes, "observable", False)  # noqa: B010  a class variable, for this one instance
    await go_round(workshop)
    assert (await resource(workshop)).drift_status is DriftStatus.UNSUPPORTED


async def test_the_loop_of_a_worker_looks_when_it_has_a_hand_free(workshop: Workshop) -> None:
    await one_note(workshop)
    tamper(workshop, "a", text="other")
    await refresh(workshop)
    busy = True
    looping = asyncio.create_task(
        keep_observing(workshop.database, observer(workshop), workshop.dependencies, 0.02, lambda: busy)
    )
    await asyncio.sleep(0.3)
    assert (await resource(workshop)).drift_status is DriftStatus.IN_SYNC
    busy = False
    async with asyncio.timeout(10):
        while (await resource(workshop)).drift_status is not DriftStatus.MODIFIED:  # noqa: ASYNC110  the database tells nobody
            await asyncio.sleep(0.02)
    looping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looping
