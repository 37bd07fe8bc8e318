"""Plants the mutants one by one and lets crash points and games look for them: `python -m tests.engine.hunting`.

Prints a table; the exit code is 1 when a mutant survives everything, or when a proof complains without a mutant.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from app.db.migrating import migrate
from app.embedded.postgres import EmbeddedPostgres
from tests.engine.crashes import MortalWorkshop, cases, suffer
from tests.engine.mutants import MUTANTS, planted
from tests.engine.simulation import Simulation

_HUNTS = ("crash", "random", "late")
GAMES = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=(Phase.generate,), print_blob=False,
)  # fmt: skip


@dataclass
class Ground:
    """A server, and databases on it that are used once."""

    url: str
    template: str = "migrated"
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def at(self, name: str) -> str:
        return f"{self.url.rpartition('/')[0]}/{name}"

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def database(self) -> str:
        """The name of a fresh database."""
        name = f"hunted_{next(self._numbers)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {self.template}")
        return name

    async def drop(self, name: str) -> None:
        await self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def ground() -> Iterator[Ground]:
    """A server of our own."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-hunt-"))
    server = EmbeddedPostgres(folder / "postgres", durable=False)
    try:
        place = Ground(server.start())
        asyncio.run(place.execute(f"CREATE DATABASE {place.template}"))
        migrate(place.at(place.template))
        yield place
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def by_crashes(place: Ground) -> str | None:
    """The first crash point that something is wrong at, and what; None when nothing is."""
    for case in cases():
        fault = asyncio.run(_crash(place, case.name))
        if fault is not None:
            return f"{case.name}: {fault}"
    return None


async def _crash(place: Ground, name: str) -> str | None:
    case = next(case for case in cases() if case.name == name)
    database = await place.database()
    folder = Path(tempfile.mkdtemp(prefix="windlass-hunt-"))
    connection = await asyncpg.connect(place.at(database))
    tenant = await connection.fetchval("INSERT INTO tenant (name, slug) VALUES ('Acme', 'acme') RETURNING id")
    user = await connection.fetchval(
        "INSERT INTO app_user (tenant_id, email, display_name, role) VALUES ($1, 'a@acme.test', 'A', 'ADMIN')"
        " RETURNING id",
        tenant,
    )
    await connection.close()
    workshop = await MortalWorkshop.open_mortal(place.at(database), tenant, user, folder, case)
    try:
        _, faults = await suffer(workshop, case, seconds=6)
        return faults[0] if faults else None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        await workshop.close()
        await place.drop(database)
        shutil.rmtree(folder, ignore_errors=True)


def by_games(place: Ground, *, late: bool, games: settings = GAMES) -> str | None:
    """What is wrong in the first game that is lost; None when none is."""
    database = asyncio.run(place.database())
    Simulation.url, Simulation.late = place.at(database), late
    try:
        with asyncio.Runner() as loop:
            Simulation.loop = loop
            run_state_machine_as_test(Simulation, settings=games)
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("AssertionError: ", "")
    finally:
        asyncio.run(place.drop(database))


def main() -> int:
    parser = argparse.ArgumentParser(prog="hunting", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="which mutants; by default all that crash points or games are known to catch"
    )
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    names = given.names or [name for name, mutant in MUTANTS.items() if mutant.caught_by in _HUNTS]
    out = sys.stdout
    out.write("| mutant | crash points | games, random | games, late | first complaint |\n|---|--:|--:|--:|---|\n")
    survivors = []
    with ground() as place:
        for name in ["none", *names]:
            found = dict(_hunt(place, name))
            row = " | ".join(cell for cell, _ in found.values())
            first = next((complaint for _, complaint in found.values() if complaint), "-")
            out.write(f"| {name} | {row} | {first.splitlines()[0][:110]} |\n")
            out.flush()
            if (first == "-") != (name == "none"):
                survivors.append(name)
    if survivors:
        out.write(f"\nNot as it should be: {', '.join(survivors)}\n")
    return 1 if survivors else 0


def _hunt(place: Ground, name: str) -> Iterator[tuple[str, tuple[str, str | None]]]:
    hunts: dict[str, Callable[[], str | None]] = {
        "crash": lambda: by_crashes(place),
        "random": lambda: by_games(place, late=False),
        "late": lambda: by_games(place, late=True),
    }
    for kind, hunt in hunts.items():
        began = time.monotonic()
        with nullcontext() if name == "none" else planted(name):
            complaint = hunt()
        seconds = time.monotonic() - began
        yield kind, (f"{seconds:.1f} s" if complaint else "-", complaint)


if __name__ == "__main__":
    sys.exit(main())
