"""Rehearsals: the real engine on emulators, and what they say about the examples that are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

from app.cli.client import CommandFailed
from app.cli.rehearsal.findings import Exit
from app.cli.rehearsal.standins import Stand, emulated_aws
from app.domain.errors import Diagnostic, Severity
from app.domain.statuses import JobStatus
from app.providers.core.note import NoteType
from tests.cli.rehearsal.conftest import EXAMPLES, Rehearse, Told, example
from tests.providers.tofu import program

# Each broken example: the step that fails, and what its message says; None where a simulation cannot know.
BROKEN = {
    "three-tier-broken": ("machines", "version 77"),
    "onboarding-broken": ("connect", "bolt_nobody"),
    "containers-broken": None,
    "tofu-broken": None,
}


def plan(tmp_path: Path, resources: str, steps: str = "", spec: str = "") -> Path:
    """A file with a plan `subject`."""
    workflow = "apiVersion: windlass/v1\nkind: Workflow\nmetadata: {name: subject}\nspec:\n  steps:\n" + indent(
        dedent(steps), "    "
    )
    text = (
        "apiVersion: windlass/v1\nkind: Template\nmetadata: {name: subject}\nspec:\n  resources:\n"
        + indent(dedent(resources), "    ")
        + (f"\n---\n{workflow}" if steps else "")
        + "\n---\napiVersion: windlass/v1\nkind: Plan\nmetadata: {name: subject}\nspec:\n  template: subject\n"
        + ("  workflow: subject\n" if steps else "")
        + indent(dedent(spec), "  ")
    )
    path = tmp_path / "subject.yaml"
    path.write_text(text)
    return path


NOTES = """
    one: {type: core.note, properties: {name: one, text: x}}
    two: {type: core.note, properties: {name: two, text: "${resources.one.outputs.checksum}"}}
"""


def test_every_broken_example_is_among_them() -> None:
    assert {folder.name for folder in EXAMPLES.glob("*-broken")} == BROKEN.keys()


@pytest.mark.parametrize("name", [name for name, expected in BROKEN.items() if expected])
async def test_the_failure_of_a_broken_example_is_found(held: Rehearse, told: Told, name: str) -> None:
    (finding,) = await held(example(name))
    (failure,) = finding.failures
    step, words = BROKEN[name] or ("", "")
    assert (failure.step, failure.stand, failure.injected) == (step, Stand.EMULATED, False)
    assert words in failure.message
    assert (finding.status, finding.exit) == (JobStatus.ROLLED_BACK, Exit.WOULD_FAIL_CLEANLY)
    assert (finding.remained, finding.strays) == ([], [])
    assert len(finding.undone) >= 3
    assert any("nothing outside this machine is touched" in line for line in told)


@pytest.mark.parametrize("name", [name for name, expected in BROKEN.items() if not expected])
async def test_where_there_is_no_emulator_it_says_that_it_learned_nothing(
    held: Rehearse, told: Told, name: str
) -> None:
    (finding,) = await held(example(name))
    assert (finding.status, finding.exit) == (JobStatus.SUCCEEDED, Exit.WOULD_SUCCEED)
    assert set(finding.stands.values()) == {Stand.SIMULATED}
    assert sorted(finding.simulated) == sorted(finding.stands)
    assert any("only simulated, so nothing was learned" in line for line in told)
    assert not any("emulators" in line and "made" in line for line in told)


async def test_a_failure_is_injected_after_another_file_was_carried_out(held: Rehearse, told: Told) -> None:
    (finding,) = await held(example("containers-broken"), after=[example("containers")], fail_at=["site"])
    assert {change["key"]: change["action"] for change in finding.preview["changes"]} == {
        "image": "NO_CHANGE",
        "network": "NO_CHANGE",
        "site": "UPDATE",
    }
    (failure,) = finding.failures
    assert (failure.step, failure.code, failure.injected) == ("site", "INJECTED", True)
    assert finding.exit is Exit.WOULD_FAIL_CLEANLY
    assert any(line.startswith("failed    site: ") and line.endswith("(INJECTED, injected)") for line in told)


@pytest.mark.skipif(program() is None, reason="there is neither tofu nor terraform on the PATH")
async def test_a_module_that_is_really_run_shows_its_failure_and_leaves_nothing(held: Rehearse, told: Told) -> None:
    modules = EXAMPLES / "tofu" / "modules"
    really = {"modules": True, "sources": [modules], "parameters": {"modules": str(modules)}}
    (finding,) = await held(example("tofu-broken"), after=[example("tofu")], **really)
    (failure,) = finding.failures
    assert (failure.step, failure.stand) == ("application", Stand.REAL)
    assert "quota of load balancers exceeded" in failure.message
    assert (finding.exit, finding.remained, finding.simulated) == (Exit.WOULD_FAIL_CLEANLY, [], [])
    assert "but for tofu, as you asked" in told[0]
    assert told[-2:] == ["tidied up modules-broken: nothing is left", "tidied up modules: nothing is left"]


async def test_what_cannot_be_taken_back_is_named_by_records_and_by_the_emulator(
    held: Rehearse, tmp_path: Path
) -> None:
    (finding,) = await held(plan(tmp_path, NOTES), fail_at=["two", "one:undo"])
    assert finding.status is JobStatus.ROLLBACK_FAILED
    assert finding.exit is Exit.WOULD_LEAVE_SOMETHING
    assert {failure.step for failure in finding.failures} == {"one", "two"}
    assert [line.split(" ")[0] for line in finding.remained] == ["one"]
    assert [(thing.type, thing.id) for thing in finding.strays] == [("core.note", "one")]


async def test_a_strategy_that_keeps_what_was_made_leaves_something(held: Rehearse, tmp_path: Path) -> None:
    (finding,) = await held(plan(tmp_path, NOTES, spec="failureStrategy: HALT"), fail_at=["two"])
    assert (finding.status, finding.exit) == (JobStatus.FAILED, Exit.WOULD_LEAVE_SOMETHING)
    assert [thing.id for thing in finding.strays] == ["one"]


async def test_a_failure_that_is_ignored_is_told_and_leaves_what_was_wanted(
    held: Rehearse, tmp_path: Path, told: Told
) -> None:
    steps = """
        - {key: notes, type: RESOURCE_CREATE, order: 1, configuration: {resource: "*"}}
        - key: extra
          type: CUSTOM
          order: 2
          configuration: {task: core.assert}
          inputs: {that: false, message: not today}
          errorHandling: {ignore: true}
    """
    (finding,) = await held(plan(tmp_path, NOTES, steps))
    assert (finding.status, finding.exit, finding.made) == (JobStatus.SUCCEEDED, Exit.WOULD_SUCCEED, 2)
    assert [failure.step for failure in finding.failures] == ["extra"]
    assert any(line.startswith("failed    extra: not today") for line in told)
    assert not any(line.startswith("remained") for line in told)


async def test_nobody_is_waited_for(held: Rehearse, tmp_path: Path, told: Told) -> None:
    steps = """
        - {key: notes, type: RESOURCE_CREATE, order: 1, configuration: {resource: "*"}}
        - key: agree
          type: CUSTOM
          order: 2
          gate: {kind: APPROVAL, prompt: "really?", approvers: [boss@acme.example]}
        - {key: night, type: CUSTOM, order: 3, configuration: {task: core.wait}, inputs: {seconds: 80000}}
    """
    path = plan(tmp_path, NOTES, steps, "type: MANUAL\nconfiguration: {approvals: {required: 2}}")
    (finding,) = await held(path, seconds=60)
    assert (finding.status, finding.made) == (JobStatus.SUCCEEDED, 2)
    assert any("gate agree is answered" in line for line in told)


@pytest.mark.parametrize("severity", [Severity.WARN, Severity.ERROR])
async def test_what_is_found_beforehand_is_told(
    held: Rehearse, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, severity: Severity
) -> None:
    async def short_of_paper(*_: object) -> list[Diagnostic]:
        return [Diagnostic(severity, "NO_PAPER", "there is hardly any paper", ("text",))]

    monkeypatch.setattr(NoteType, "preflight", short_of_paper)
    (finding,) = await held(plan(tmp_path, "one: {type: core.note, properties: {name: one}}"))
    place = "resources.one.properties.text: there is hardly any paper"
    if severity is Severity.WARN:
        assert (finding.exit, finding.made) == (Exit.WOULD_SUCCEED, 1)
        assert f"warned    {place} (NO_PAPER)" in told
    else:
        assert (finding.status, finding.exit) == (JobStatus.FAILED, Exit.WOULD_FAIL_CLEANLY)
        assert [(one.step, one.message) for one in finding.failures] == [("preflight:core", place)]
        assert (finding.undone, finding.strays) == ([], [])


async def test_a_step_that_there_is_not_is_told(held: Rehearse, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"no step 'tow'.*'two'"):
        await held(plan(tmp_path, NOTES), fail_at=["tow"])


async def test_a_plan_that_makes_no_sense_is_refused_with_its_path(held: Rehearse, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"resources\.one\.properties\.colour.*UNKNOWN_PROPERTY"):
        await held(plan(tmp_path, "one: {type: core.note, properties: {name: one, colour: red}}"))


async def test_a_connection_that_cannot_be_is_refused(held: Rehearse, tmp_path: Path) -> None:
    file = plan(tmp_path, "one: {type: aws.ec2.vpc, properties: {CidrBlock: 10.0.0.0/16}}")
    with pytest.raises(CommandFailed, match=r"subject\.yaml: region: the value does not match"):
        await held(file, region="somewhere")


async def test_it_is_given_up_when_its_time_is_over(held: Rehearse, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"not over after 0\.01 s"):
        await held(plan(tmp_path, NOTES), seconds=0.01)


async def test_policies_judge_it(held: Rehearse, tmp_path: Path) -> None:
    policies = tmp_path / "policies.yml"
    rule = {
        "name": "no-notes",
        "level": "HARD_MANDATORY",
        "subject": "CHANGE",
        "require": "${change.type != 'core.note'}",
    }
    policies.write_text(json.dumps([{**rule, "message": "notes are for paper"}]))
    with pytest.raises(CommandFailed, match=r"notes are for paper.*POLICY_DENIED"):
        await held(plan(tmp_path, NOTES), policies=policies)


def test_without_moto_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moto.server", None)
    with pytest.raises(CommandFailed, match=r"install windlass\[rehearsal\]"), emulated_aws():
        pass


def test_the_command_needs_no_installation(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli", "rehearse", str(example("onboarding-broken")), "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
    )
    assert ended.returncode == Exit.WOULD_FAIL_CLEANLY, ended.stderr
    (document,) = json.loads(ended.stdout)
    assert (document["emulated"], document["status"], document["exit"]) == (True, "ROLLED_BACK", 3)
    assert [failure["step"] for failure in document["failures"]] == ["connect"]
    assert document["undone"] == ["connect", "database", "owner"]
    assert {change["by"] for change in document["changes"]} == {"emulated"}
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())
