"""Keeps processes running: starts them, tells their lines apart, starts them again, stops them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from app import clock
from app.embedded.processes import await_end, die_with_parent, tell

# A child that dies more often than this is not started again: something is wrong with it.
_RESTARTS = 8
_WITHIN_SECONDS = 60.0
_FIRST_PAUSE = 0.2


@dataclass(slots=True)
class Child:
    """One process that shall run: `windlass COMMAND` under a name."""

    name: str
    command: str
    environment: Mapping[str, str]
    grace_seconds: float = 10.0
    process: subprocess.Popen[bytes] | None = None
    again_at: float = 0.0
    ended: deque[float] = field(default_factory=deque)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    def start(self, output: IO[str]) -> None:
        """Start the process; its lines go to `output`, each under its name."""
        self.process = subprocess.Popen(  # noqa: S603  our own interpreter and commands
            [sys.executable, "-m", "app.cli", self.command],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509  one system call, no locks
        )
        threading.Thread(target=_copy, args=(self.process.stdout, self.name, output), daemon=True).start()

    def died(self) -> bool:
        """Whether the process has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def pause(self) -> float | None:
        """Seconds to wait before the next start; None when it died too often."""
        now = clock.monotonic()
        self.ended.append(now)
        while self.ended and now - self.ended[0] > _WITHIN_SECONDS:
            self.ended.popleft()
        if len(self.ended) > _RESTARTS:
            return None
        return float(_FIRST_PAUSE * 2 ** (len(self.ended) - 1))

    def tell(self) -> None:
        """Tell the process to end in order."""
        if self.process is not None:
            tell(self.process, signal.SIGTERM)

    def wait(self, until: float) -> None:
        """Until it has ended; killed when it has not by `until`."""
        if self.process is not None:
            await_end(self.process, max(until - clock.monotonic(), 0))
            self.process = None


class Supervisor:
    """A group of children. `check` is called again and again; it returns the names of those it started anew."""

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self.children: dict[str, Child] = {}

    def add(self, child: Child) -> None:
        """Start a child and keep it running from now on."""
        self.children[child.name] = child
        child.start(self._output)

    def check(self) -> list[str]:
        """Start again what has died. Raises RuntimeError when one dies too often."""
        restarted = []
        now = clock.monotonic()
        for child in self.children.values():
            if child.died() and child.process is not None:
                code = child.process.returncode
                child.process = None
                pause = child.pause()
                if pause is None:
                    message = (
                        f"{child.name} died {_RESTARTS + 1} times within {_WITHIN_SECONDS:.0f} s, last with {code}"
                    )
                    raise RuntimeError(message)
                child.again_at = now + pause
                self.say(f"{child.name} ended with {code}; it is started again in {pause:.1f} s")
            if child.process is None and now >= child.again_at:
                child.start(self._output)
                restarted.append(child.name)
        return restarted

    def pids(self) -> dict[str, int]:
        """The process ids by name."""
        return {name: child.pid for name, child in self.children.items() if child.pid is not None}

    def stop(self) -> None:
        """Tell every child to end, all at once: no worker shall hand its steps on to one that goes next.

        Each has its own time for what it has in hands.
        """
        now = clock.monotonic()
        for child in self.children.values():
            child.tell()
        for child in self.children.values():
            child.wait(now + child.grace_seconds)

    def say(self, line: str) -> None:
        """A line of our own."""
        self._output.write(f"{line}\n")
        self._output.flush()


def _copy(source: IO[bytes] | None, name: str, output: IO[str]) -> None:
    if source is None:
        return
    with source:
        for raw in source:
            output.write(f"{name:>11} │ {raw.decode(errors='replace')}")
            output.flush()
