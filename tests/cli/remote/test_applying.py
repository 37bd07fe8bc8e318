"""Manifests against the API: created once, updated where they differ, left alone where they do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.remote.conftest import Shell

MANIFESTS = """apiVersion: windlass/v1
kind: Template
metadata: {name: tenant-database, description: A database and its owner}
spec:
  type: DATABASE
  parameters: {type: object, properties: {name: {type: string}}, required: [name]}
  resources:
    role: {type: postgres.role, properties: {name: "${parameters.name}"}}
---
apiVersion: windlass/v1
kind: Workflow
metadata: {name: pause}
spec:
  type: MAINTENANCE
  steps:
    - {key: wait, type: CUSTOM, configuration: {task: core.wait}, inputs: {seconds: 0}}
"""
PLAN = """apiVersion: windlass/v1
kind: Plan
metadata: {name: rollout}
spec: {workflow: pause, type: MANUAL, stack: main}
"""
COUNTS = """{ resourceTemplates { totalCount { value } } workflows { totalCount { value } }
  deploymentPlans { nodes { name status stack type } } }"""


class File:
    """A file of manifests, and the command that takes it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def write(self, text: str) -> None:
        Path(self.path).write_text(text)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "all.yaml")


async def counts(shell: Shell) -> tuple[int, int, list[dict[str, Any]]]:
    data = await shell.live.api.data(COUNTS)
    values = [data[name]["totalCount"]["value"] for name in ("resourceTemplates", "workflows")]
    return values[0], values[1], data["deploymentPlans"]["nodes"]


async def test_a_dry_run_changes_nothing(shell: Shell, file: File) -> None:
    file.write(MANIFESTS + "---\n" + PLAN)
    done = await shell.run("apply", "-f", file.path, "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert done.lines == [
        "template tenant-database would be created",
        "workflow pause would be created",
        "plan rollout cannot be previewed yet: spec.workflow: there is no workflow pause",
    ]
    assert await counts(shell) == (0, 0, [])


async def test_applying_twice_changes_nothing_and_a_change_is_named(shell: Shell, file: File) -> None:
    file.write(MANIFESTS)
    done = await shell.run("apply", "-f", file.path)
    assert (done.code, done.err) == (0, "")
    assert done.lines == ["template tenant-database created, revision 1", "workflow pause created"]
    again = await shell.run("apply", "-f", file.path)
    assert again.lines == ["template tenant-database unchanged", "workflow pause unchanged"]
    file.write(MANIFESTS.replace('"${parameters.name}"', '"x-${parameters.name}"').replace("seconds: 0", "seconds: 1"))
    expected = [
        "  ~ content.resources.role.properties.name",
        "workflow pause {} updated",
        "  ~ definition.steps",
    ]
    dry = await shell.run("apply", "-f", file.path, "--dry-run")
    assert dry.lines == [
        "template tenant-database would be updated",
        expected[0],
        "workflow pause would be updated",
        expected[2],
    ]
    changed = await shell.run("apply", "-f", file.path)
    assert changed.lines == [
        "template tenant-database updated, revision 2",
        expected[0],
        "workflow pause updated",
        expected[2],
    ]
    assert (await counts(shell))[:2] == (1, 1)


async def test_a_plan_is_previewed_handed_in_and_executed_by_name(shell: Shell, tmp_path: Path) -> None:
    definitions, plan = File(tmp_path / "a.yaml"), File(tmp_path / "b.yaml")
    definitions.write(MANIFESTS)
    plan.write(PLAN)
    await shell.run("apply", "-f", definitions.path)
    dry = await shell.run("apply", "-f", plan.path, "--dry-run")
    assert dry.lines == ["plan rollout would do 1 run", "  RUN wait (core.wait)"]
    made = await shell.run("submit", plan.path)
    assert (made.code, made.err) == (0, "")
    assert made.lines[0].endswith(" READY")
    assert (await counts(shell))[2] == [{"name": "rollout", "status": "READY", "stack": "main", "type": "MANUAL"}]
    rehearsed = await shell.run("simulate", "rollout", "--fail-at", "wait", "--fail-at", "wait:undo")
    assert (rehearsed.code, rehearsed.err) == (0, "")
    listed = json.loads((await shell.run("jobs", "-o", "json")).out)
    assert [(job["name"], job["simulated"]) for job in listed] == [("rollout simulation", True)]
    unknown = await shell.run("simulate", "rollout", "--fail-at", "weit")
    assert unknown.code == 1
    assert unknown.err.startswith("error: simulateFailureAt.0: there is no step 'weit'; did you mean 'wait'?")
    executed = await shell.run("submit", "rollout")
    assert (executed.code, executed.err) == (0, "")
    assert executed.lines[0].startswith("job ")
    refused = await shell.run("submit", "rollout")
    assert refused.code == 1
    assert refused.err == "error: plan rollout is QUEUED: submit a file to make a new one\n"
    assert (await shell.run("submit", "nonsense")).err == "error: there is neither a file nor a plan named nonsense\n"


async def test_a_plan_that_runs_by_itself_is_handed_in(shell: Shell, file: File) -> None:
    spec = "type: SCHEDULED, validUntil: 2099-01-01, schedule: {timeZone: UTC, recurrence: 0 3 * * *, window: PT1H}"
    when = "type: SCHEDULED, schedule: {timeZone: UTC, at: 2031-01-31T08:00:00}, validUntil: 2031-02-01T00:00:00Z"
    file.write(f"{MANIFESTS}---\n{PLAN.replace('type: MANUAL', spec)}")
    refused = await shell.run("apply", "-f", file.path)
    assert (refused.code, "offset" in refused.err) == (1, True)
    file.write(f"{MANIFESTS}---\n{PLAN.replace('type: MANUAL', when)}")
    made = await shell.run("apply", "-f", file.path)
    assert (made.code, made.err) == (0, "")
    found = await shell.live.api.data("{ deploymentPlans { nodes { status validUntil schedule { at timeZone } } } }")
    assert found["deploymentPlans"]["nodes"] == [
        {
            "status": "SCHEDULED",
            "validUntil": "2031-02-01T00:00:00.000000Z",
            "schedule": {"at": "2031-01-31T08:00:00.000000Z", "timeZone": "UTC"},
        }
    ]


async def test_what_is_wrong_is_told_with_its_path(shell: Shell, file: File) -> None:
    file.write(MANIFESTS.replace("postgres.role", "postgres.rolle"))
    done = await shell.run("apply", "-f", file.path)
    assert done.code == 1
    assert f"error: {file.path}#1: content" in done.err
    assert "resources.role.type" in done.err
    assert (await counts(shell))[:2] == (0, 0)
