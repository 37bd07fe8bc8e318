"""Databases for tests, copied from a migrated one ahead of time: making one takes longer than many a test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading

import asyncpg

_AHEAD = 4
_PATIENCE_SECONDS = 60.0


class Copies:
    """A thread that keeps a few copies of the database `template` ready, and drops those that were used."""

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._ready: queue.Queue[str] = queue.Queue(_AHEAD)
        self._used: queue.Queue[str] = queue.Queue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="databases", daemon=True)
        self._thread.start()

    def take(self) -> str:
        """The name of a database that nobody else has."""
        return self._ready.get(timeout=_PATIENCE_SECONDS)

    def give_back(self, name: str) -> None:
        """Let the database go; whoever is still connected to it is thrown out."""
        self._used.put(name)

    def stop(self) -> None:
        """Make no more."""
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._keep_ready())

    async def _keep_ready(self) -> None:
        connection = await asyncpg.connect(self._server_url)
        numbers = itertools.count(1)
        made: str | None = None
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Empty):
                await connection.execute(f"DROP DATABASE {self._used.get_nowait()} WITH (FORCE)")
            if made is None:
                made = f"test_{next(numbers)}"
                await connection.execute(f"CREATE DATABASE {made} TEMPLATE {self._template}")
            try:
                self._ready.put(made, timeout=0.02)
                made = None
            except queue.Full:
                continue
        await connection.close()
