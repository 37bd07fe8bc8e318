"""Sessions with the outside world, kept open between operations."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from app import clock
from app.providers.base import ErrorKind, ProviderError
from app.providers.registry import Registry

Key = tuple[str, str, str, str]
# The providers that need no connection of the tenant's, with the configuration that stands for one.
WITHOUT_CONNECTION: Mapping[str, Mapping[str, Any]] = {"core": {}, "command": {}, "tofu": {}}


@dataclass(slots=True, eq=False)
class _Entry:
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    session: Any = None
    opened: bool = False
    users: int = 0
    idle_since: float = 0.0


class Sessions:
    """At most `limit` sessions; one that nobody used for `idle_seconds` is closed.

    A session is shared by everybody who asks with the same tenant, connection and configuration, and by nobody else: a
    changed password leads to a new session. Belongs to one event loop.
    """

    def __init__(self, registry: Registry, *, limit: int = 64, idle_seconds: float = 60.0) -> None:
        self._registry = registry
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._entries: dict[Key, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @asynccontextmanager
    async def session(
        self, tenant: str, provider: str, connection: str, config: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        """The session of a tenant's connection; `config` is plain, without Secrets. THROTTLED when all are in use."""
        key = (tenant, provider, connection, _digest(config))
        await self.close_idle()
        entry = await self._claim(key)
        try:
            async with entry.opening:
                if not entry.opened:
                    opening = self._registry.provider(provider).session(config)
                    entry.session = await entry.stack.enter_async_context(opening)
                    entry.opened = True
            yield entry.session
        finally:
            entry.users -= 1
            entry.idle_since = clock.monotonic()
            if not entry.opened and not entry.users:
                self._entries.pop(key, None)

    async def close_idle(self) -> None:
        """Closes what nobody has used for long."""
        before = clock.monotonic() - self._idle_seconds
        await self._close([key for key, entry in self._idle() if entry.idle_since <= before])

    async def close(self) -> None:
        """Closes everything. Nobody may be using a session any more."""
        await self._close(list(self._entries))

    async def _claim(self, key: Key) -> _Entry:
        if key not in self._entries and len(self._entries) >= self._limit:
            longest = min(self._idle(), key=lambda item: item[1].idle_since, default=None)
            if longest is None:
                message = f"all {self._limit} sessions of this worker are in use"
                raise ProviderError(ErrorKind.THROTTLED, message, retry_after_seconds=1.0)
            await self._close([longest[0]])
        entry = self._entries.setdefault(key, _Entry())
        entry.users += 1
        return entry

    def _idle(self) -> list[tuple[Key, _Entry]]:
        return [(key, entry) for key, entry in self._entries.items() if not entry.users]

    async def _close(self, keys: list[Key]) -> None:
        # Out of the dictionary first: nobody may be given a session that is being closed.
        for entry in [self._entries.pop(key) for key in keys]:
            await entry.stack.aclose()


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
