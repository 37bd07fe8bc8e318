"""Programs that providers run: with limits, a group of their own, and every line heard as it is said.

No shell, nothing of the worker's environment, and nobody of the group is left when the program has ended. What leaves
the group by a session of its own is not followed: who must be sure of that gives programs a container.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app import clock
from app.providers import launcher
from app.providers.base import Context, OperationCancelled

_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 2.0
_CHUNK = 64 * 1024
_LONGEST_LINE = 8 * 1024
_PIPE_BYTES = 60 * 1024

Hear = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use; None: what the worker may. `processes` counts all of the user's, and none of root's."""

    cpu_seconds: int | None = None
    memory_bytes: int | None = None
    file_bytes: int | None = None
    files: int | None = None
    processes: int | None = None

    def document(self) -> dict[str, int]:
        """By the names that the machine has for them."""
        named = {
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.files,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_CORE": 0,
        }
        return {name: most for name, most in named.items() if most is not None}


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, and where. `environment` is all of its environment; `uid`: as whom, where the worker is root."""

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    stdin: bytes = b""
    limits: Limits = Limits()
    uid: int | None = None
    # What it is sent first when it has to stop; SIGKILL follows.
    farewell: signal.Signals = signal.SIGTERM
    grace_seconds: float = _GRACE_SECONDS

    @property
    def is_too_large(self) -> bool:
        """Whether arguments and environment together are more than the launcher can be told."""
        return len(self._told()) > _PIPE_BYTES

    async def run(self, context: Context, hear: Hear) -> int:
        """Runs it; `hear` is given every line with its stream, "stdout" or "stderr". Returns the exit code.

        An exit code below zero is a signal's number. Raises OperationCancelled when somebody asks to stop or the time
        is up, after the program has ended.
        """
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", launcher.__file__, str(reading),
                cwd=self.folder,
                env={},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(reading,),
                start_new_session=True,
            )  # fmt: skip
            # Less than a pipe holds, so that nobody waits.
            os.write(writing, self._told())
        finally:
            os.close(reading)
            os.close(writing)
        hearing = [asyncio.ensure_future(_relay(process.stdout, "stdout", hear)),
                   asyncio.ensure_future(_relay(process.stderr, "stderr", hear))]  # fmt: skip
        telling = asyncio.ensure_future(_tell(process, self.stdin))
        ending = asyncio.ensure_future(process.wait())
        try:
            # `wait` also waits for the pipes, which those whom it has left behind may hold.
            while process.returncode is None:
                if (await asyncio.wait({ending}, timeout=_LOOK_SECONDS))[0]:
                    break
                if context.cancelled or clock.monotonic() > context.deadline:
                    message = f"{Path(self.argv[0]).name} was stopped"
                    raise OperationCancelled(message)
        finally:
            await asyncio.shield(self._end(process, ending))
            # Whoever held the pipes is dead by now: what is in them is all that there will be.
            await asyncio.wait(hearing, timeout=_GRACE_SECONDS)
            for task in (*hearing, telling):
                task.cancel()
            await asyncio.gather(*hearing, telling, return_exceptions=True)
        return await ending

    def _told(self) -> bytes:
        told = {"argv": list(self.argv), "environment": dict(self.environment), "uid": self.uid,
                "limits": self.limits.document()}  # fmt: skip
        return json.dumps(told).encode()

    async def _end(self, process: asyncio.subprocess.Process, ending: asyncio.Future[int]) -> None:
        if process.returncode is None:
            _signal_group(process.pid, self.farewell)
            await asyncio.wait({ending}, timeout=self.grace_seconds)
        # Also when it has ended by itself: it may have left somebody behind.
        _signal_group(process.pid, signal.SIGKILL)
        await asyncio.wait({ending}, timeout=_GRACE_SECONDS)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def _tell(process: asyncio.subprocess.Process, content: bytes) -> None:
    stdin = process.stdin
    if stdin is None:
        return
    # A program need not read what it is told.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(content)
        await stdin.drain()
    stdin.close()


async def _relay(stream: asyncio.StreamReader | None, name: str, hear: Hear) -> None:
    """Lines as they come; one without end is cut into pieces."""
    if stream is None:
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    while chunk := await stream.read(_CHUNK):
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        while len(rest) > _LONGEST_LINE:
            lines.append(rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
        for line in lines:
            await hear(name, line.rstrip("\r"))
    if rest:
        await hear(name, rest)
