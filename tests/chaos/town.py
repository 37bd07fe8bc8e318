"""The whole product as processes that anybody may kill: servers, workers, schedulers, APIs; the dead are replaced."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.db.migrating import migrate
from app.db.uow import Database
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.processes import die_with_parent, free_port
from app.embedded.valkey import EmbeddedValkey
from app.services.seeding import create_tenant
from tests.chaos.part import ACCIDENTS, CLOCK_SIGNAL, HELD, SENT, STUCK, VARIABLE, Unfriendly
from tests.chaos.wire import Wire

LEASE_SECONDS = 5.0
HANDS = 8
_TENANTS = ("alpha", "beta")
_AGAIN_SECONDS = 0.3
_EXPECTED_ENDS = {0, 70, 71, -signal.SIGKILL, -signal.SIGTERM}
# Who has a wire to PostgreSQL that may be cut; the others of their kind have none.
_WIRED = {"worker-1": "worker", "worker-2": "worker", "scheduler-1": "scheduler", "api-1": "api"}
_WIRES = ("worker", "scheduler", "api", "customer")


@dataclass(slots=True)
class Part:
    """One process that shall run, under the same name whatever happens to it."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    stopped: bool = False
    again_at: float = 0.0
    # The exit code of each life, and which process it was.
    ends: list[tuple[int, int]] = field(default_factory=list)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None


@dataclass
class Town:
    """Servers and parts. `keep` replaces the dead until it is cancelled."""

    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    environment: dict[str, str] = field(default_factory=dict)
    # Tenant id and token by slug.
    tenants: dict[str, tuple[int, str]] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    # Where the APIs listen.
    ports: list[int] = field(default_factory=list)
    # Wires to PostgreSQL that can be cut, by whose they are; none in a town without.
    wires: dict[str, Wire] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "town.log"

    @property
    def accidents(self) -> Path:
        """Where a file lies for each provider call that is to fail."""
        return self.folder / ACCIDENTS

    @property
    def stuck(self) -> Path:
        """Where a file lies for each note that cannot be deleted for now."""
        return self.folder / STUCK

    @property
    def held(self) -> Path:
        """Where a file lies for each note whose making is to be held back."""
        return self.folder / HELD

    @property
    def sent(self) -> Path:
        """Where what was held back is written down."""
        return self.folder / SENT

    def of(self, kind: str) -> list[Part]:
        """The living parts of a kind, those that are stopped left out."""
        return [part for part in self.parts.values() if part.name.startswith(kind) and part.pid and not part.stopped]

    def start(self, part: Part) -> None:
        with self.log.open("ab") as output:
            part.process = subprocess.Popen(
                [sys.executable, *part.command],
                env={**os.environ, **self.environment, **part.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_prepare,  # noqa: PLW1509
            )
        part.stopped = False

    async def keep(self) -> None:
        """Start again what has died."""
        while True:
            for part in self.parts.values():
                if part.process is not None and part.process.poll() is not None:
                    part.ends.append((part.process.returncode, part.process.pid))
                    part.process = None
                    part.again_at = time.monotonic() + _AGAIN_SECONDS
                if part.process is None and time.monotonic() >= part.again_at:
                    self.start(part)
            await asyncio.sleep(0.05)

    def unexpected_ends(self, began: Collection[int]) -> list[str]:
        """Parts that ended as nobody and nothing made them end. One that cannot begin while a server is away may:
        it is not among those that `began`.
        """
        return [
            f"{part.name} ended with {code}"
            for part in self.parts.values()
            for code, pid in part.ends
            if code not in _EXPECTED_ENDS and not (code == 1 and pid not in began)
        ]

    def stop(self) -> None:
        """End every part: in order, or by force after ten seconds."""
        running = [part.process for part in self.parts.values() if part.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        until = time.monotonic() + 10
        for process in running:
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        self.parts.clear()


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="windlass-chaos-"))
    folder.chmod(0o755)
    for name in (ACCIDENTS, STUCK, HELD, SENT):
        (folder / name).mkdir()
    return folder


_die = die_with_parent(signal.SIGKILL)


def _prepare() -> None:
    """Between fork and exec: die when we do, and do not die of a clock that is set before one looks at it."""
    signal.signal(CLOCK_SIGNAL, signal.SIG_IGN)
    if _die is not None:
        _die()


@asynccontextmanager
async def town(
    workers: int, schedulers: int, world: Unfriendly, *, apis: int = 1, webhooks: int = 0, wired: bool = False
) -> AsyncIterator[Town]:
    """A town of its own, gone afterwards. `wired`: some of it reaches PostgreSQL by wires that can be cut."""
    folder = _folder()
    here = Town(folder, EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey"))
    keeping: asyncio.Task[None] | None = None
    try:
        database_url = await asyncio.to_thread(here.postgres.start)
        redis_url = await asyncio.to_thread(here.valkey.start)
        await asyncio.to_thread(migrate, database_url)
        here.ports = [free_port() for _ in range(apis)]
        here.environment = {
            "WINDLASS_DATABASE_URL": database_url,
            "WINDLASS_REDIS_URL": redis_url,
            "WINDLASS_SECRET_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "WINDLASS_DATA_DIR": str(folder),
            "WINDLASS_LOG_LEVEL": "warning",
            "WINDLASS_LEASE_SECONDS": str(LEASE_SECONDS),
            "WINDLASS_REDISPATCH_SECONDS": "1",
            "WINDLASS_DRAIN_SECONDS": "2",
            "WINDLASS_WORKER_THREADS": str(HANDS),
            "WINDLASS_WEBHOOK_ALLOWED_TARGETS": "127.0.0.0/8",
            VARIABLE: world.dump(),
        }
        await _seed(here, database_url)
        if wired:
            here.wires = {name: Wire(database_url) for name in _WIRES}
            for wire in here.wires.values():
                await wire.open()
        for kind, number in (("api", apis), ("scheduler", schedulers), ("worker", workers), ("webhooks", webhooks)):
            for n in range(1, number + 1):
                here.parts[f"{kind}-{n}"] = _part(here, kind, n)
        keeping = asyncio.create_task(here.keep())
        yield here
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await asyncio.to_thread(here.stop)
        for wire in here.wires.values():
            await wire.close()
        here.valkey.stop()
        here.postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _part(here: Town, kind: str, number: int) -> Part:
    name = f"{kind}-{number}"
    environment = {"WINDLASS_PORT": str(here.ports[number - 1])} if kind == "api" else {}
    if here.wires and name in _WIRED:
        environment["WINDLASS_DATABASE_URL"] = here.wires[_WIRED[name]].leading
    return Part(name, ["-m", "tests.chaos.part", kind], environment)


async def _seed(here: Town, database_url: str) -> None:
    database = Database.connect(database_url, name="chaos-seed", pool_size=2)
    try:
        for slug in _TENANTS:
            here.tenants[slug] = await create_tenant(database, slug.title(), slug, f"admin@{slug}.example")
    finally:
        await database.close()
