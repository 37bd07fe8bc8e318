"""Random games with the engine. `HYPOTHESIS_PROFILE=long` plays for minutes instead of seconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from app.embedded.postgres import EmbeddedPostgres
from tests.conftest import _execute, database
from tests.engine.simulation import Simulation

_QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
CHECKED = settings(
    max_examples=5, stateful_step_count=30, deadline=None, derandomize=True, database=None,
    suppress_health_check=_QUIET, phases=(Phase.generate,),
)  # fmt: skip
PROFILES = {
    "default": CHECKED,
    "long": settings(CHECKED, max_examples=2000, stateful_step_count=60, derandomize=False),
}


@pytest.fixture
def played(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[type[Simulation]]:
    name = "simulated"
    asyncio.run(_execute(postgres_server.url, f"CREATE DATABASE {name} TEMPLATE {migrated_template}"))
    Simulation.url = database(postgres_server, name)
    with asyncio.Runner() as loop:
        Simulation.loop = loop
        yield Simulation
    asyncio.run(_execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.mark.slow
@pytest.mark.timeout(3600 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 120)
@pytest.mark.parametrize("late", [False, True], ids=["random", "late"])
def test_whatever_is_played_the_invariants_hold(
    played: type[Simulation], late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(played, "late", late)
    run_state_machine_as_test(played, settings=PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")])
