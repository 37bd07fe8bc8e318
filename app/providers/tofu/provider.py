"""The provider `tofu`: modules of OpenTofu, or of Terraform where the operator sets its binary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

from app.providers.base import Provider, ResourceType, Schema
from app.providers.tofu.runs import Installation
from app.providers.tofu.workspace import TofuSession, WorkspaceType


class TofuProvider(Provider):
    """Off unless the installation says where its runs find the states. A connection holds credentials of clouds."""

    name = "tofu"
    title = "OpenTofu"
    version = "1"
    config_schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "environment": {
                "type": "object",
                "x-sensitive": True,
                "maxProperties": 50,
                # Names that credentials have. Others tell programs what to load, run or write.
                "propertyNames": {
                    "pattern": "^[A-Z][A-Z0-9_]*_(TOKEN|KEY|KEY_ID|ID|SECRET|PASSWORD|USER|USERNAME|EMAIL|REGION|ZONE"
                    "|PROJECT|CREDENTIALS)$",
                    "not": {"pattern": "^(TF|LD|GIT|SSH)_"},
                },
                "additionalProperties": {"type": "string"},
                "description": "what the module's providers read, as AWS_ACCESS_KEY_ID",
            }
        },
    }

    def __init__(self, installation: Installation) -> None:
        self._types: tuple[ResourceType, ...] = (WorkspaceType(installation),)

    def types(self) -> Sequence[ResourceType]:
        return self._types

    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[TofuSession]:
        return _session(config)


@asynccontextmanager
async def _session(config: Mapping[str, Any]) -> AsyncIterator[TofuSession]:
    yield TofuSession(config)
