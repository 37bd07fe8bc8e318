"""The declared machines against the reference tables, and the checks of a declaration."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

import pytest

from app.domain.enums import Stage
from app.domain.errors import IllegalState
from app.domain.lifecycle import Lifecycle
from app.domain.statuses import (
    JOB,
    JOB_STAGES,
    PLAN,
    PLAN_STAGES,
    RESOURCE,
    STEP,
    JobStatus,
    PlanStatus,
    stage_of,
)

REFERENCE = json.loads((Path(__file__).parent / "machines.json").read_text())
# docs/decisions/0004-state-machines.md says why.
ADDED = {
    "step": {
        ("RETRY_WAIT", "abandoned", "FAILED"),
        ("READY", "abandoned", "FAILED"),
        ("READY", "when_false", "SKIPPED"),
        ("SKIPPED", "rollback", "COMPENSATING"),
        ("UNKNOWN", "observed_pending", "WAITING"),
    },
    "resource": {
        ("CREATING", "vanished", "DELETED"),
        ("UPDATING", "vanished", "DELETED"),
        ("FAILED", "vanished", "DELETED"),
        ("ACTIVE", "doubt", "UNKNOWN"),
        ("FAILED", "doubt", "UNKNOWN"),
    },
}
# Closed in the reference; left by what was added.
OPENED = {"step": {"SKIPPED"}}


class Light(StrEnum):
    RED = "RED"
    GREEN = "GREEN"
    DARK = "DARK"


@pytest.mark.parametrize(("name", "machine"), [("plan", PLAN), ("job", JOB), ("step", STEP), ("resource", RESOURCE)])
def test_machines_equal_the_reference(name: str, machine: Lifecycle[StrEnum]) -> None:
    reference = REFERENCE[name]
    assert machine.initial == reference["initial"]
    opened = OPENED.get(name, set())
    assert machine.closed == set(reference["closed"]) - opened
    assert machine.settled == set(reference["settled"]) | opened
    edges = {(str(a), event, str(b)) for a, event, b in machine.edges}
    assert edges == {tuple(edge) for edge in reference["t"]} | ADDED.get(name, set())


@pytest.mark.parametrize(
    ("machine", "status"),
    [(machine, status) for machine in (PLAN, JOB, STEP, RESOURCE) for status in sorted(machine.statuses)],
    ids=lambda value: value.name if isinstance(value, Lifecycle) else str(value),
)
def test_each_status_takes_exactly_its_events(machine: Lifecycle[StrEnum], status: StrEnum) -> None:
    """Every event of the machine in every status: it leads where the reference says, or is refused."""
    reference = {(source, event): target for source, event, target in REFERENCE[machine.name]["t"]}
    reference |= {(source, event): target for source, event, target in ADDED.get(machine.name, set())}
    for event in sorted({event for _, event, _ in machine.edges}):
        wanted = reference.get((status.value, event))
        assert machine.permits(status, event) is (wanted is not None)
        if wanted is not None:
            assert machine.after(status, event) == wanted
            continue
        with pytest.raises(IllegalState) as refused:
            machine.after(status, event)
        assert refused.value.status == status


def test_every_status_has_a_stage() -> None:
    assert {status for group in PLAN_STAGES.values() for status in group} == set(PlanStatus)
    assert {status for group in JOB_STAGES.values() for status in group} == set(JobStatus)
    assert stage_of(PlanStatus.ROLLBACK_FAILED) is Stage.ATTENTION
    assert stage_of(JobStatus.RUNNING) is Stage.ACTIVE


def test_an_event_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(IllegalState, match="SUCCEEDED does not take 'cancel'") as refused:
        PLAN.after(PlanStatus.SUCCEEDED, "cancel")
    assert refused.value.status == "SUCCEEDED"


@pytest.mark.parametrize(
    ("edges", "closed", "fault"),
    [
        ([(Light.RED, "go", Light.GREEN), (Light.RED, "go", Light.DARK)], {Light.GREEN, Light.DARK}, "two statuses"),
        ([(Light.RED, "go", Light.GREEN), (Light.GREEN, "go", Light.RED)], {Light.GREEN}, "closed but is left"),
        ([(Light.RED, "go", Light.GREEN), (Light.GREEN, "go", Light.RED)], set(), "trap"),
        ([(Light.RED, "go", Light.GREEN), (Light.DARK, "go", Light.GREEN)], {Light.GREEN}, "nothing leads to"),
        ([(Light.RED, "go", Light.GREEN), (Light.RED, "stop", Light.DARK)], {Light.DARK}, "never left"),
    ],
)
def test_unsound_machines_are_refused(edges: list[tuple[Light, str, Light]], closed: set[Light], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Lifecycle("light", initial=Light.RED, closed=closed, settled=set(), edges=edges)


def test_the_drawing_is_up_to_date() -> None:
    from app.domain.drawing import draw

    drawn = (Path(__file__).parents[2] / "docs" / "states.md").read_text()
    assert drawn == draw(), "run: python -m app.domain.drawing > docs/states.md"


LIGHT = Lifecycle(
    "light",
    initial=Light.RED,
    closed={Light.DARK},
    settled={Light.GREEN},
    edges=[(Light.RED, "go", Light.GREEN), (Light.GREEN, "stop", Light.RED), (Light.GREEN, "break", Light.DARK)],
)


def test_an_event_leads_where_it_is_declared_to_and_nowhere_else() -> None:
    ways = {(source, event): target for source, event, target in LIGHT.edges}
    for status in Light:
        assert LIGHT.events_from(status) == tuple(event for source, event in ways if source == status)
        for event in ("go", "stop", "break"):
            assert LIGHT.permits(status, event) is ((status, event) in ways)
            if (status, event) in ways:
                assert LIGHT.after(status, event) is ways[status, event]
            else:
                with pytest.raises(IllegalState, match=f"a light that is {status} does not take '{event}'"):
                    LIGHT.after(status, event)
        for target in Light:
            assert LIGHT.connects(status, target) is any(
                source == status and ways[source, event] == target for source, event in ways
            )


def test_every_status_has_the_stage_that_it_is_listed_under() -> None:
    for plans, stage in ((PLAN_STAGES[stage], stage) for stage in Stage):
        assert {stage_of(status) for status in plans} <= {stage}
    for jobs, stage in ((JOB_STAGES[stage], stage) for stage in Stage):
        assert {stage_of(status) for status in jobs} <= {stage}
