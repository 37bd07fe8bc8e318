"""What a plan that undoes another says it cannot do, and what its resources depend on afterwards."""

from __future__ import annotations

from typing import Any

from app.domain.enums import FailureStrategy
from app.domain.statuses import JobStatus, PlanStatus
from tests.engine.harness import Workshop, note
from tests.engine.test_forecast_at_every_step import Trap
from tests.engine.test_restoring import _deploy, _execute, _revert


async def _needs(workshop: Workshop, key: str) -> list[str]:
    (row,) = await workshop.rows(
        "SELECT depends_on FROM cloud_resource WHERE resource_key = :key AND NOT is_deleted", key=key
    )
    found: list[str] = row.depends_on
    return found


def _said(plan: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(found["code"], tuple(found["path"])) for found in plan.diagnostics]


async def test_what_is_put_back_still_depends_on_what_was_never_touched(workshop: Workshop) -> None:
    before = {"z": note("z"), "a": note("a", "1", needs=["z"])}
    await _deploy(workshop, before, "before")
    done = await _deploy(workshop, {**before, "a": note("a", "2", needs=["z"])}, "after")
    await _execute(workshop, await _revert(workshop, done))
    assert await _needs(workshop, "a") == ["z"]
    # So that whoever takes all of it away begins at the right end.
    await _deploy(workshop, {"other": note("other")}, "none of it")
    gone = await workshop.rows(
        "SELECT data->>'stepKey' AS key FROM event_log WHERE kind = 'StepStatusChanged' AND stream_id ="
        " (SELECT max(id) FROM orchestration_job) AND data->>'status' = 'SUCCEEDED' ORDER BY seq"
    )
    assert [row.key for row in gone] == ["other", "a", "z"]


async def test_what_was_needed_before_is_there_before_what_needs_it(workshop: Workshop) -> None:
    await _deploy(workshop, {"z": note("z"), "a": note("a", "1", needs=["z"])}, "before")
    done = await _deploy(workshop, {"m": note("m"), "a": note("a", "2", needs=["m"])}, "after")
    assert await _needs(workshop, "a") == ["m"]
    undo = await _revert(workshop, done)
    assert [(edge["from"], edge["to"]) for edge in undo.dependencies["edges"]] == [("z", "a")]
    job = await _execute(workshop, undo)
    assert job.status is JobStatus.SUCCEEDED
    assert await _needs(workshop, "a") == ["z"]
    assert workshop.notes() == {"z": "x", "a": "1"}


async def test_what_was_in_a_deleted_or_replaced_resource_is_said_to_be_lost(workshop: Workshop) -> None:
    await _deploy(workshop, {"a": note("a"), "b": note("old"), "c": note("c", "1")}, "before")
    done = await _deploy(workshop, {"b": note("new"), "c": note("c", "2"), "d": note("d")}, "after")
    undo = await _revert(workshop, done)
    assert _said(undo) == [("LOSSY", ("resources", "a")), ("LOSSY", ("resources", "b"))]
    assert undo.status is PlanStatus.READY


async def test_tasks_are_said_to_stay_done(workshop: Workshop) -> None:
    flow = await workshop.workflow(
        {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}},
        {
            "key": "told", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.log"},
            "inputs": {"message": "x"},
            "errorHandling": {"compensate": {"task": "core.log", "inputs": {"message": "y"}}},
        },
    )  # fmt: skip
    job = await workshop.settle(await workshop.submit(await workshop.template({"resources": {"a": note("a")}}), flow))
    undo = await _revert(workshop, job.plan_id)
    assert _said(undo) == [("NOT_REVERSIBLE", ("steps", "told"))]
    assert undo.diagnostics[0]["message"].endswith("is not undone, and core.log is not run")


async def test_what_was_let_go_of_is_said_to_stay_gone(workshop: Workshop) -> None:
    kept = note("a", lifecycle={"retain": True})
    await _deploy(workshop, {"a": kept, "b": note("b", "1")}, "before")
    done = await _deploy(workshop, {"b": note("b", "2")}, "after")
    undo = await _revert(workshop, done)
    assert _said(undo) == [("NOT_REVERSIBLE", ("steps", "a"))]
    assert "imported" in undo.diagnostics[0]["message"]
    assert {change["key"] for change in undo.preview["changes"]} == {"b"}


async def test_what_failed_half_way_is_said_to_stay(workshop: Workshop) -> None:
    await _deploy(workshop, {"a": note("a", "1")}, "before")
    template = await workshop.template({"resources": {"a": note("a", "2"), "b": note("b")}}, "after")
    Trap(workshop, "b", after=True)
    job = await workshop.settle(await workshop.submit(template, strategy=FailureStrategy.CONTINUE))
    assert job.status is JobStatus.PARTIALLY_SUCCEEDED
    undo = await _revert(workshop, job.plan_id)
    assert _said(undo) == [("NOT_REVERSIBLE", ("resources", "b"))]
    assert {change["key"]: change["action"] for change in undo.preview["changes"]} == {"a": "UPDATE"}
    assert (await _execute(workshop, undo)).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"a": "1", "b": "x"}
