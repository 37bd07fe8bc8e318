"""Which transitions of the declared machines the tests have taken: after a run of all of them, all must have been.

Tests of the domain are not counted: they ask the machines about themselves.
"""

from __future__ import annotations

import os
from enum import StrEnum

import pytest

from app.domain.lifecycle import Lifecycle
from app.domain.statuses import JOB, PLAN, RESOURCE, STEP

Transition = tuple[str, str, str]
MACHINES: tuple[Lifecycle[StrEnum], ...] = (PLAN, JOB, STEP, RESOURCE)  # type: ignore[assignment]
_LEASES = "leases are held per step, so a job goes on when a worker is lost: docs/decisions/0004-state-machines.md"
_LOOKS = "a condition may read outputs, so a step is judged when it is READY: docs/decisions/0004-state-machines.md"
# The only ones that nothing takes, each with the reason.
EXCUSED: dict[Transition, str] = {
    ("plan", "RUNNING", "worker_lost"): _LEASES,
    ("job", "RUNNING", "lease_lost"): _LEASES,
    ("job", "PAUSING", "lease_lost"): _LEASES,
    ("job", "ROLLING_BACK", "lease_lost"): _LEASES,
    ("step", "PENDING", "when_false"): _LOOKS,
}
taken: set[Transition] = set()


def watch(patch: pytest.MonkeyPatch) -> None:
    """Note every transition from now on."""
    after = Lifecycle.after

    def noted(self: Lifecycle[StrEnum], status: StrEnum, event: str) -> StrEnum:
        target = after(self, status, event)
        if not os.environ.get("PYTEST_CURRENT_TEST", "tests/domain/").startswith("tests/domain/"):
            taken.add((self.name, status.value, event))
        return target

    patch.setattr(Lifecycle, "after", noted)


def declared() -> dict[Transition, str]:
    """All transitions, with what each is called."""
    return {
        (machine.name, source.value, event): f"{machine.name} {source} --{event}--> {target}"
        for machine in MACHINES
        for source, event, target in machine.edges
    }


def faults(seen: set[Transition]) -> list[str]:
    """What a run of all tests that has seen these transitions leaves to be wished for."""
    named = declared()
    missing = [f"never taken: {named[one]}" for one in named if one not in seen and one not in EXCUSED]
    excused = [f"excused and taken: {named[one]}" for one in named if one in seen and one in EXCUSED]
    unknown = [f"excused and not declared: {' '.join(one)}" for one in EXCUSED if one not in named]
    return missing + excused + unknown
