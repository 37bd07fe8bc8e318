"""The whole product as its users start it: processes, embedded servers, real clients."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

START_SECONDS = 90


@dataclass
class Up:
    """One `windlass up`."""

    folder: Path
    process: subprocess.Popen[bytes]
    known: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path, *arguments: str) -> Up:
        (folder / "up.json").unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        with (folder.parent / "up.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "up", "--data-dir", str(folder), "--port", "0", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, "WINDLASS_LEASE_SECONDS": "5"},
            )
        up = cls(folder, process)
        up.await_ready()
        return up

    def await_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder.parent / "up.log").read_text()[-4000:]
            if (self.folder / "up.json").exists():
                self.reread()
                return
            time.sleep(0.05)
        raise AssertionError((self.folder.parent / "up.log").read_text()[-4000:])

    def reread(self) -> dict[str, int]:
        """The newest process ids."""
        self.known = json.loads((self.folder / "up.json").read_text())
        pids: dict[str, int] = self.known["pids"]
        return pids

    def kill(self) -> None:
        """End it as a machine that loses its power does."""
        self.process.kill()
        self.process.wait(10)

    def start_again(self) -> None:
        """On the same folder."""
        self.process = Up.start(self.folder).process
        self.reread()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0

    def ask(self, query: str, variables: dict[str, Any] | None = None, *, token: str | None = None) -> dict[str, Any]:
        """The data of an answer without errors."""
        response = httpx.post(
            self.known["graphql"],
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {token or self.known['token']}"},
            timeout=20,
        )
        answer = response.json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.folder.parent / "up.log").read_text()[-6000:]
            time.sleep(0.05)


@pytest.fixture(scope="package")
def shared_up() -> Iterator[Up]:
    """One for all tests, each of which leaves it working. Not for longer: its processes take time even at rest."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-e2e-"))
    folder.chmod(0o755)
    running = Up.start(folder / "data")
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)
