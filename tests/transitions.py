"""Which transitions of the declared machines the tests have taken, told at the end of a run of all of them.

Tests of the domain are not counted: they ask the machines about themselves.
"""

from __future__ import annotations

import os
from enum import StrEnum

import pytest

from app.domain.lifecycle import Lifecycle
from app.domain.statuses import JOB, PLAN, RESOURCE, STEP

MACHINES: tuple[Lifecycle[StrEnum], ...] = (PLAN, JOB, STEP, RESOURCE)  # type: ignore[assignment]
taken: set[tuple[str, str, str]] = set()


def watch(patch: pytest.MonkeyPatch) -> None:
    """Note every transition from now on."""
    after = Lifecycle.after

    def noted(self: Lifecycle[StrEnum], status: StrEnum, event: str) -> StrEnum:
        target = after(self, status, event)
        if not os.environ.get("PYTEST_CURRENT_TEST", "tests/domain/").startswith("tests/domain/"):
            taken.add((self.name, status.value, event))
        return target

    patch.setattr(Lifecycle, "after", noted)


def never() -> list[str]:
    """The declared transitions that no test has taken."""
    return [
        f"{machine.name} {source} --{event}--> {target}"
        for machine in MACHINES
        for source, event, target in machine.edges
        if (machine.name, source.value, event) not in taken
    ]
