"""The provider `core`: what every installation has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

from app.providers.base import Provider, ResourceType, Schema, TaskType
from app.providers.core.note import NoteType
from app.providers.core.tasks import AssertTask, LogTask, PassTask, WaitTask


class CoreProvider(Provider):
    """Tasks that structure a workflow, and the note. A session is the name of a folder; None for the main one."""

    name = "core"
    title = "Core"
    version = "1"
    config_schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "folder": {
                "type": "string",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,49}$",
                "description": "where the notes are, inside the tenant's folder",
            }
        },
    }

    def types(self) -> Sequence[ResourceType]:
        return (NoteType(),)

    def tasks(self) -> Sequence[TaskType]:
        return (PassTask(), WaitTask(), AssertTask(), LogTask())

    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[str | None]:
        return _folder(config)


@asynccontextmanager
async def _folder(config: Mapping[str, Any]) -> AsyncIterator[str | None]:
    yield config.get("folder")
