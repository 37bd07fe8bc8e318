"""Waiting in place for what a provider has under way: only where there is no row in which the wait could be kept."""

from __future__ import annotations

from app.providers.base import Context, Pending, ResourceState, ResourceType


async def in_place(
    kind: ResourceType, answer: ResourceState | Pending | None, context: Context
) -> ResourceState | None:
    """What comes of the work in the end. The caller sees to it that there is one: the hand is full until then."""
    while isinstance(answer, Pending):
        await context.sleep(answer.poll_after_seconds)
        answer = await kind.poll(context, answer.handle)
    return answer
