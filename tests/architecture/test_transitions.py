"""A run of all tests fails when a declared transition was not taken, and a run of some of them does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import transitions

ROOT = Path(__file__).parents[2]
# Two processes take one transition each; both together is all that there is.
_SUITE = """
import pytest
from app.domain.statuses import PLAN, PlanStatus

@pytest.mark.parametrize("event", ["submit", "cancel"])
def test_taken(event):
    PLAN.after(PlanStatus.DRAFT, event)
"""
_CONFTEST = """
from tests import transitions
from tests.conftest import *
from tests.conftest import pytest_configure, pytest_sessionfinish, pytest_terminal_summary
transitions.EXCUSED.clear()
declared = transitions.declared
WANTED = {("plan", "DRAFT", "submit"), ("plan", "DRAFT", "cancel")}
transitions.declared = lambda: {one: name for one, name in declared().items() if one in WANTED}
"""
_SETTINGS = """
[pytest]
testpaths = suite
addopts = -p no:cacheprovider -m 'not long'
markers = long: takes long
"""


def run(folder: Path, *arguments: str, suite: str = _SUITE) -> subprocess.CompletedProcess[str]:
    """pytest, spread over processes, on a house of two tests of which two transitions are wanted."""
    (folder / "suite").mkdir(exist_ok=True)
    (folder / "pytest.ini").write_text(_SETTINGS)
    (folder / "suite/conftest.py").write_text(_CONFTEST)
    (folder / "suite/test_part.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.slow
def test_all_tests_have_to_take_all_transitions(tmp_path: Path) -> None:
    whole = run(tmp_path)
    assert (whole.returncode, "2 of 2 declared transitions were taken" in whole.stdout) == (0, True), whole.stdout
    lacking = run(tmp_path, suite=_SUITE.replace('["submit", "cancel"]', '["submit"]'))
    told = f"never taken: {transitions.declared()['plan', 'DRAFT', 'cancel']}"
    assert (lacking.returncode, told in lacking.stdout) == (1, True), lacking.stdout


@pytest.mark.slow
def test_a_part_of_the_tests_is_asked_for_nothing(tmp_path: Path) -> None:
    part = run(tmp_path, "-k", "submit")
    assert (part.returncode, "declared transitions" in part.stdout) == (0, False), part.stdout


def test_what_is_excused_is_declared_and_not_taken() -> None:
    everything = set(transitions.declared())
    assert transitions.faults(everything - transitions.EXCUSED.keys()) == []
    one = next(iter(transitions.EXCUSED))
    assert transitions.faults(everything - transitions.EXCUSED.keys() | {one}) == [
        f"excused and taken: {transitions.declared()[one]}"
    ]
