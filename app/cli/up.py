"""`windlass up`: everything on one machine, from one command, its data in one folder."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app import clock
from app.cli.serve import listen, seeded
from app.cli.supervisor import Child, Supervisor
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.processes import ServerFailed, free_port, kept_secret
from app.embedded.valkey import EmbeddedValkey
from app.settings import Settings, SettingsError

_MARKER = "windlass-data"
_READY_SECONDS = 60.0
_LOOK_SECONDS = 0.3


def run(data_dir: Path, *, port: int, workers: int, reset: bool) -> int:
    """Run until SIGINT or SIGTERM. Returns the exit code."""
    folder = data_dir.expanduser().resolve()
    output = sys.stdout
    try:
        with _claimed(folder, reset=reset):
            Everything(folder, port, workers).run()
    except (ServerFailed, SettingsError, RuntimeError) as error:
        output.write(f"windlass: {error}\n")
        return 1
    return 0


class Everything:
    """The parts, in the order in which they are started."""

    def __init__(self, folder: Path, port: int, workers: int) -> None:
        self._given = Settings.from_environment(os.environ)
        if workers < 1:
            message = f"--workers: at least one is needed, not {workers}"
            raise SettingsError(message)
        self._folder = folder
        self._port = free_port(port or None) if port == 0 else port
        # Whoever answers there would be taken for ours.
        listen(self._given.host, self._port).close()
        self._workers = workers
        self._supervisor = Supervisor(sys.stdout)
        self._servers: dict[str, EmbeddedPostgres | EmbeddedValkey] = {}
        self._stopping = threading.Event()
        self._began = clock.monotonic()
        self._token = ""
        # One that was killed leaves its addresses behind; nobody shall take them for ours.
        self._addresses = folder / "up.json"
        self._addresses.unlink(missing_ok=True)

    def run(self) -> None:
        """Start everything, keep it running, stop it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        try:
            self._start()
            self._keep()
        finally:
            self._say("stopping")
            self._addresses.unlink(missing_ok=True)
            self._supervisor.stop()
            for server in reversed(self._servers.values()):
                server.stop()

    def _start(self) -> None:
        database_url, redis_url, target_url = self._start_servers()
        key = self._given.secret_key or kept_secret(
            self._folder / "secret.key", lambda: base64.b64encode(secrets.token_bytes(32)).decode()
        )
        environment = {
            "WINDLASS_DATABASE_URL": database_url,
            "WINDLASS_REDIS_URL": redis_url,
            "WINDLASS_SECRET_KEY": key,
            "WINDLASS_DATA_DIR": str(self._folder),
            "WINDLASS_PORT": str(self._port),
        }
        if not self._given.webhook_allowed_targets:
            # Whoever tries this out has a receiver on the same machine.
            environment["WINDLASS_WEBHOOK_ALLOWED_TARGETS"] = "localhost,127.0.0.0/8,::1"
        if not self._given.http_allowed_targets:
            environment["WINDLASS_HTTP_ALLOWED_TARGETS"] = "localhost,127.0.0.0/8,::1"
        if self._given.tofu_state_url is None:
            environment["WINDLASS_TOFU_STATE_URL"] = f"http://127.0.0.1:{self._port}"
        if target_url is not None:
            environment["WINDLASS_DEFAULT_POSTGRES_URL"] = target_url
        self._prepare(Settings.from_environment({**os.environ, **environment}))
        self._supervisor.add(Child("scheduler", "scheduler", environment))
        for number in range(1, self._workers + 1):
            grace = self._given.drain_seconds + 5
            self._supervisor.add(Child(f"worker-{number}", "worker", environment, grace_seconds=grace))
        self._supervisor.add(Child("webhooks", "webhooks", environment))
        self._supervisor.add(Child("api", "api", environment))
        self._await_ready()
        self._write(database_url, redis_url, target_url)
        self._tell()

    def _start_servers(self) -> tuple[str, str, str | None]:
        """Start those that are not given: the addresses of the database, of Valkey, and of what plans deploy to.

        Plans get a server of their own: whoever may use the connection to it is its superuser, and would otherwise be
        that of our own tables.
        """
        given = self._given
        databases: dict[str, EmbeddedPostgres] = {}
        if given.database_url is None:
            databases["postgres"] = EmbeddedPostgres(self._folder / "postgres")
            if given.default_postgres_url is None:
                databases["target"] = EmbeddedPostgres(self._folder / "target")
        with ThreadPoolExecutor() as threads:
            for prepared in [threads.submit(server.prepare) for server in databases.values()]:
                prepared.result()
        wanted: dict[str, EmbeddedPostgres | EmbeddedValkey] = {**databases}
        if given.redis_url is None:
            wanted["valkey"] = EmbeddedValkey(self._folder / "valkey")
        urls = {}
        for name, server in wanted.items():
            # Not in the threads: a server ends when the thread does that has begun it.
            urls[name] = server.start()
            self._servers[name] = server
            self._part(name, urls[name].rpartition("@")[2])
        return (
            given.database_url or urls["postgres"],
            given.redis_url or urls["valkey"],
            given.default_postgres_url or urls.get("target"),
        )

    def _prepare(self, settings: Settings) -> None:
        from app.db.migrating import migrate

        logging.getLogger("alembic").setLevel(logging.WARNING)
        migrate(settings.required("database_url"))
        self._part("migrations", "at the newest revision")
        kept = self._folder / "token"
        earlier = kept.read_text().strip() if kept.exists() else None
        tenant, self._token = asyncio.run(seeded(settings, earlier))
        kept.touch(mode=0o600)
        kept.write_text(self._token)
        self._part("seed", f"tenant {tenant}")

    def _await_ready(self) -> None:
        deadline = clock.monotonic() + _READY_SECONDS
        address = f"http://127.0.0.1:{self._port}/readyz"
        while not self._stopping.is_set():
            if _is_ready(address):
                break
            if clock.monotonic() > deadline:
                message = f"the API is not ready after {_READY_SECONDS:.0f} s"
                raise RuntimeError(message)
            self._supervisor.check()
            self._stopping.wait(0.05)
        for name, pid in self._supervisor.pids().items():
            self._part(name, f"http://127.0.0.1:{self._port}" if name == "api" else f"process {pid}")

    def _keep(self) -> None:
        """Start again what dies, until told to stop."""
        while not self._stopping.wait(_LOOK_SECONDS):
            changed = bool(self._supervisor.check())
            for name, server in self._servers.items():
                if not server.alive():
                    self._say(f"{name} is gone; it is started again")
                    server.start()
                    changed = True
            if changed:
                known = json.loads(self._addresses.read_text())
                self._write(known["database"], known["redis"], known.get("target"))

    def _write(self, database_url: str, redis_url: str, target_url: str | None) -> None:
        """Tell scripts where everything is; replaced as a whole, so that nobody reads half of it."""
        pids = {name: server.pid for name, server in self._servers.items()} | self._supervisor.pids()
        document: dict[str, Any] = {
            "graphql": f"http://127.0.0.1:{self._port}/graphql",
            "websocket": f"ws://127.0.0.1:{self._port}/graphql",
            "token": self._token,
            "database": database_url,
            "redis": redis_url,
            **({} if target_url is None else {"target": target_url}),
            "pids": pids,
        }
        fresh = self._folder / "up.json.new"
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(document, indent=2))
        fresh.replace(self._addresses)

    def _tell(self) -> None:
        seconds = clock.monotonic() - self._began
        self._say(
            f"\nready after {seconds:.1f} s\n"
            f"  GraphQL   http://127.0.0.1:{self._port}/graphql   (WebSocket: ws://127.0.0.1:{self._port}/graphql)\n"
            f"  token     {self._token}\n"
            f"  addresses {self._addresses}\n"
            "  try       .venv/bin/windlass submit examples/onboarding-broken/onboarding-broken.yaml --watch\n"
            "Ctrl-C stops everything; `windlass up --reset` begins with nothing.\n"
        )

    def _part(self, name: str, what: str) -> None:
        self._say(f"{clock.monotonic() - self._began:6.1f} s  {name:<11} {what}")

    def _say(self, line: str) -> None:
        self._supervisor.say(line)


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310  our own address
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def _claimed(folder: Path, *, reset: bool) -> Iterator[None]:
    """The folder, ours alone as long as this process lives."""
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / _MARKER
    if not marker.exists() and any(folder.iterdir()):
        message = f"{folder} holds something that is not Windlass's; name another folder with --data-dir"
        raise RuntimeError(message)
    marker.touch()
    with marker.open("r+") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            message = f"another `windlass up` uses {folder}"
            raise RuntimeError(message) from None
        if reset:
            for item in folder.iterdir():
                if item.name != _MARKER:
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
        yield
