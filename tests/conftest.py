"""Real servers for all tests: started once, a fresh migrated database for each test that asks for one."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.db.migrating import migrate
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey
from tests import transitions

TEMPLATE = "migrated"
_ROOM = 4 * 1024**3
_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def transitions_taken() -> Iterator[None]:
    """Every transition that a test takes is noted; see tests/transitions.py."""
    with pytest.MonkeyPatch.context() as patch:
        transitions.watch(patch)
        yield


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A process that ran a part of the tests says what it has seen; whoever ran all of them must have seen it all."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["transitions"] = sorted(transitions.taken)
    elif exitstatus == pytest.ExitCode.OK and _ran_everything(session.config) and transitions.faults(transitions.taken):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class _Gathering:
    """Hears what the processes say that run a part of the tests each."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        said = getattr(node, "workeroutput", {}).get("transitions", ())
        transitions.taken.update(tuple(transition) for transition in said)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Gathering())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After a run of everything, the transitions that were never taken."""
    if _ran_everything(config):
        named = transitions.declared()
        count = len(transitions.taken & named.keys())
        terminalreporter.section(f"{count} of {len(named)} declared transitions were taken")
        for fault in transitions.faults(transitions.taken):
            terminalreporter.line(fault, red=True)


def _ran_everything(config: pytest.Config) -> bool:
    """Whether nothing was left out but what is left out of every run."""
    chosen = config.option
    whole = config.args == config.getini("testpaths") and not chosen.keyword and chosen.markexpr == "not long"
    return whole and not (
        chosen.collectonly or getattr(chosen, "deselect", None) or chosen.ignore or chosen.ignore_glob
    )


def _in_memory() -> str | None:
    """Where files cost nothing, if there is such a place and enough of it: a database for each test is many files."""
    place = Path("/dev/shm")
    return str(place) if place.is_dir() and shutil.disk_usage(place).free > _ROOM else None


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder that a server running as another user can reach; pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """PostgreSQL for the whole session; `url` is the superuser's."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-test-", dir=_in_memory()))
    server = EmbeddedPostgres(folder / "postgres", durable=False)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[EmbeddedValkey]:
    """Valkey for the whole session."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-test-"))
    server = EmbeddedValkey(folder / "valkey", durable=False)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """A database at the head of the migrations, to be copied."""
    asyncio.run(_execute(postgres_server.url, f"CREATE DATABASE {TEMPLATE}"))
    migrate(database(postgres_server, TEMPLATE))
    return TEMPLATE


@pytest.fixture
async def database_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own, as its owner."""
    # Not ahead of time, beside other tests: a transaction anywhere on the server holds back all tenants' feeds.
    name = f"test_{next(_numbers)}"
    # A copy of its files takes half as long as one through the log, which nobody will need.
    copied = f"CREATE DATABASE {name} TEMPLATE {migrated_template} STRATEGY FILE_COPY"
    await _execute(postgres_server.url, copied)
    yield database(postgres_server, name)
    await _execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_database_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without any table."""
    name = f"empty_{next(_numbers)}"
    await _execute(postgres_server.url, f"CREATE DATABASE {name}")
    yield database(postgres_server, name)
    await _execute(postgres_server.url, f"DROP DATABASE {name} WITH (FORCE)")


def database(server: EmbeddedPostgres, name: str) -> str:
    """The URL of another database of the server."""
    return f"{server.url.rpartition('/')[0]}/{name}"


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
