"""The provider `command`: off unless the installation names programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from app.providers.base import Provider, ResourceType, TaskType
from app.providers.command.task import Allowance, RunTask


class CommandProvider(Provider):
    """Programs of the workers' machine. It needs no connection."""

    name = "command"
    title = "Command"
    version = "1"

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def types(self) -> Sequence[ResourceType]:
        return ()

    def tasks(self) -> Sequence[TaskType]:
        return (RunTask(self._allowance),)

    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[None]:  # noqa: ARG002
        return _nothing()


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield None
