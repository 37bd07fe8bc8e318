"""A short `make chaos` and `make chaos-live`: every part of the product is killed while plans are carried out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.schema import node

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_whatever_is_killed_every_job_ends_as_it_has_to() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--seed", "1", "--jobs", "6", "--settle", "30"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "Violations: 0" in done.stdout


@pytest.mark.long
def test_whatever_is_killed_foreign_clients_are_told_what_is_stored() -> None:
    try:
        node.install()
    except node.NoPackages as error:
        pytest.skip(f"no packages from the npm registry: {error}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.live", "--seed", "1", "--rounds", "1", "--clients", "10", "--rage", "8"],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "Violations: 0" in done.stdout
