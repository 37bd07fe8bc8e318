"""The peers: each in an environment of its own, made when it is first needed, since their dependencies contradict ours.

A peer is a folder with `requirements.txt`, everything pinned, and `flow.py`, a program that is called with a URL of
PostgreSQL, a number of workflows and a number of those to warm up with, and whose last line is a JSON object: a rate
for each way in which it ran them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import asyncpg
import orjson

_HERE = Path(__file__).parent
_ENVIRONMENTS = _HERE.parent.parent / ".tools" / "peers"
_INSTALL_SECONDS = 300
_RUN_SECONDS = 150


class PeerFailed(Exception):
    """A peer cannot be installed or does not run; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer as it is run here. `ways` gives the row of the table for each rate that its program prints."""

    name: str
    folder: str
    jobs: int
    warm_up: int
    ways: dict[str, str]
    # An extension of PostgreSQL without which the peer keeps its data in a file of its own.
    extension: str | None = None

    @property
    def version(self) -> str:
        lines = (_HERE / self.folder / "requirements.txt").read_text().splitlines()
        return next(line for line in lines if line.startswith(f"{self.folder}==")).partition("==")[2]


PEERS = (
    Peer("Procrastinate", "procrastinate", 150, 16, {"chain": "a chain of five, 8 at a time"}),
    Peer(
        "DBOS", "dbos", 64, 8,
        {
            "started": "start_workflow, 8 at a time",
            "all_started": "start_workflow, all at once",
            "queued": "queue, 8 at a time",
        },
    ),
    Peer("Prefect", "prefect", 8, 2, {"eight": "8 at a time"}, extension="pg_trgm"),
    Peer("Dagster", "dagster", 6, 1, {"one": "in process, one by one"}),
)  # fmt: skip


async def install(peer: Peer) -> None:
    """Make the peer's environment unless it is there. Raises PeerFailed."""
    place, requirements = _ENVIRONMENTS / peer.folder, _HERE / peer.folder / "requirements.txt"
    made_of = sha256(requirements.read_bytes()).hexdigest()
    stamp = place / "made-of"
    if stamp.exists() and stamp.read_text() == made_of:
        return
    # `uv run` says where it is; it need not be on the path.
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        message = "there is no uv to install it with"
        raise PeerFailed(message)
    await _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)], _INSTALL_SECONDS)
    await _run(
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            str(place / "bin" / "python"),
            "--requirements",
            str(requirements),
        ],
        _INSTALL_SECONDS,
    )
    stamp.write_text(made_of)


async def measure(peer: Peer, server_url: str) -> dict[str, float]:
    """Workflows per second of each of the peer's ways, by their titles. Raises PeerFailed."""
    url = await _database(peer, server_url)
    command = [str(_ENVIRONMENTS / peer.folder / "bin" / "python"), str(_HERE / peer.folder / "flow.py")]
    printed = await _run([*command, url, str(peer.jobs), str(peer.warm_up)], _RUN_SECONDS)
    rates = orjson.loads(printed.strip().splitlines()[-1])
    return {f"{peer.name}: {title}": float(rates[way]) for way, title in peer.ways.items()}


async def has_what_it_needs(peer: Peer, server_url: str) -> bool:
    """Whether the peer can keep its data on our server."""
    if peer.extension is None:
        return True
    connection = await asyncpg.connect(server_url)
    try:
        found: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = $1)", peer.extension
        )
    finally:
        await connection.close()
    return found


async def _database(peer: Peer, server_url: str) -> str:
    """A fresh database of the peer's own on our server; no URL where it cannot use it."""
    if not await has_what_it_needs(peer, server_url):
        return ""
    name = f"peer_{peer.folder}"
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return f"{server_url.rpartition('/')[0]}/{name}"


async def _run(command: list[str], seconds: float) -> str:
    """What the command prints. Raises PeerFailed with the end of its errors; nothing that it started stays."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        async with asyncio.timeout(seconds):
            printed, errors = await process.communicate()
    except TimeoutError:
        message = f"it did not end within {seconds:.0f} s"
        raise PeerFailed(message) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise PeerFailed(lines[-1] if lines else f"exit code {process.returncode}")
    return printed.decode()
