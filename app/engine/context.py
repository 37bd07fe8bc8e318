"""What a provider sees of the engine while it works on one step."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self

from app import clock
from app.domain.enums import LogLevel
from app.engine.log import StepLog
from app.engine.work import Work
from app.providers.base import OperationCancelled

Connect = Callable[[str], AbstractAsyncContextManager[Any]]


class StepContext:
    """The engine's side of `app.providers.base.Context`."""

    def __init__(self, work: Work, connection: Any, log: StepLog, workspace: Path, connect: Connect) -> None:
        self._work = work
        self._key = work.resource_key or work.key
        self._log = log
        self._connect = connect
        self._cancelled = asyncio.Event()
        self.connection = connection
        self.workspace = workspace
        self.deadline = clock.monotonic() + work.timeout_seconds

    @property
    def operation_id(self) -> str:
        return self._work.operation_id.hex

    @property
    def attempt(self) -> int:
        return self._work.attempt

    @property
    def owner(self) -> str:
        return f"windlass:{self._work.tenant_slug}:{self._work.stack}:{self._key}"

    def on_behalf_of(self, key: str) -> Self:
        """The same, as the owner of another resource of the stack."""
        other = copy.copy(self)
        other._key = key  # noqa: SLF001  a copy of its own
        return other

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Tell the provider that somebody asked to stop."""
        self._cancelled.set()

    def connect(self, name: str) -> AbstractAsyncContextManager[Any]:
        return self._connect(name)

    @property
    def heard_at(self) -> float:
        """When the provider said something last, or began."""
        return self._log.heard_at

    def log(self, message: str, level: LogLevel = LogLevel.INFO, stream: str = "provider", **fields: Any) -> None:
        self._log.heard_at = clock.monotonic()
        self._log.add(message, level, stream, fields)

    def progress(self, percent: float | None, message: str = "") -> None:
        self._log.heard_at = clock.monotonic()
        self._log.progress(percent, message)

    async def drain(self) -> None:
        await self._log.drain()

    async def sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._cancelled.wait(), seconds)
        except TimeoutError:
            return
        raise OperationCancelled
