"""The four moments of an action."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from app.providers.base import ActionResult, ActionSpec, Context, JsonObject, ResourceState


class Procedure(ABC):
    """One action: run it, find out what an interrupted run did, take it back, or give up what taking back needs."""

    spec: ClassVar[ActionSpec]
    # Whether the resource is another one afterwards, or has other properties.
    changes: ClassVar[bool] = False

    @abstractmethod
    async def run(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        """Does it, or goes on where an earlier run of the same operation was interrupted."""

    @abstractmethod
    async def recover(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult | None:
        """What this operation did; None where it did nothing that remained, or was not finished."""

    async def undo(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:  # noqa: B027
        """Takes it back; safe to repeat."""

    async def finalize(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:  # noqa: B027
        """Gives up the means of taking it back; safe to repeat."""
