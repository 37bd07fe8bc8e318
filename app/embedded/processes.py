"""Server processes of our own: started, watched, stopped within a deadline, gone when we are gone."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class ServerFailed(Exception):
    """A server does not start, or does not stay; the message has the end of its log."""


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    when_orphaned: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, as `user` if one is named, its output going to `log`.

    It gets `when_orphaned` when we die.
    """
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603  commands of ours
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            start_new_session=True,
            preexec_fn=die_with_parent(when_orphaned),  # noqa: PLW1509  one system call, no locks
        )


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a child does between fork and exec so that the kernel signals it when its parent is gone. Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number))

    return ask


def stop(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> None:
    """Signal the process and wait for it; after `seconds` it is killed."""
    tell(process, number)
    await_end(process, seconds)


def tell(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the process, unless it has ended."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def await_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the process; after `seconds` it is killed."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def free_port(preferred: int | None = None) -> int:
    """A port of 127.0.0.1 that nobody listens on; `preferred` if it is one."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    message = "no port of 127.0.0.1 is free"
    raise ServerFailed(message)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """The text in `path`, made once and readable by its owner only."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(make())
    return path.read_text().strip()
