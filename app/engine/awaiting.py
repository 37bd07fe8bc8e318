"""Waiting in place for what a provider has under way: only where there is no row in which the wait could be kept."""

from __future__ import annotations

from typing import Any

from app.providers.base import Context, ErrorKind, Pending, ProviderError, ResourceState, ResourceType


async def in_place(
    kind: ResourceType, answer: ResourceState | Pending | None, context: Context
) -> ResourceState | None:
    """What comes of the work in the end. The caller sees to it that there is one: the hand is full until then."""
    while isinstance(answer, Pending):
        await context.sleep(answer.poll_after_seconds)
        answer = await kind.poll(context, answer.handle)
    return answer


async def made(kind: ResourceType, intended: dict[str, Any], context: Context) -> ResourceState | None:
    """What the operation of `context` has made of what was `intended`, once that is done. Raises ProviderError."""
    try:
        return await in_place(kind, await kind.recover(context, intended), context)
    except ProviderError as error:
        if error.kind is not ErrorKind.ALREADY_EXISTS:
            raise
        # Somebody else's thing is in that place.
        return None
