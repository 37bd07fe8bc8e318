"""A short `make chaos`: every part of the product is killed once while plans are carried out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_whatever_is_killed_every_job_ends_as_it_has_to() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--seed", "1", "--jobs", "6", "--settle", "30"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "Violations: 0" in done.stdout
