"""The four moments of an action of a database."""

from __future__ import annotations

from abc import ABC, abstractmethod

from app.providers.base import ActionResult, Context, JsonObject, ResourceState


class Procedure(ABC):
    """One action: run it, find out what an interrupted run did, take it back, or give up what taking back needs."""

    @abstractmethod
    async def run(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        """Does it. What an earlier interrupted run of the same operation left behind is cleared away first."""

    @abstractmethod
    async def recover(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult | None:
        """What this operation did; None where it did nothing that remained."""

    @abstractmethod
    async def undo(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:
        """Takes it back; safe to repeat."""

    @abstractmethod
    async def finalize(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:
        """Gives up the means of taking it back; safe to repeat."""
