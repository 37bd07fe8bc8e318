"""Planted bugs of live streams, which `make chaos-live` must find."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.domain.cursors import Place
from app.reads import streams

_LIKELY = 0.02


def _line_lost() -> None:
    """Now and then, of the first lines of a look in the ordinary or the short way."""
    read, read_on = streams.lines_after, streams.lines_since

    def without(batch: Any) -> Any:
        return replace(batch, items=batch.items[1:]) if batch.items and random.random() < _LIKELY else batch

    async def lose(*arguments: Any, **named: Any) -> Any:
        return without(await read(*arguments, **named))

    async def lose_on(*arguments: Any, **named: Any) -> Any:
        found = await read_on(*arguments, **named)
        return None if found is None else (found[0], without(found[1]))

    streams.lines_after = lose
    streams.lines_since = lose_on


def _line_twice() -> None:
    read, read_on = streams.lines_after, streams.lines_since

    def earlier(after: Place) -> Place:
        # Far enough to meet a line: events have numbers, too.
        return Place(max(0, after.seq - 3)) if random.random() < _LIKELY else after

    async def repeat(*arguments: Any, after: Place, **named: Any) -> Any:
        return await read(*arguments, after=earlier(after), **named)

    async def repeat_on(*arguments: Any, after: Place, **named: Any) -> Any:
        return await read_on(*arguments, after=earlier(after), **named)

    streams.lines_after = repeat
    streams.lines_since = repeat_on


def _event_lost() -> None:
    read = streams.events_after

    async def lose(*arguments: Any, **named: Any) -> Any:
        batch = await read(*arguments, **named)
        return replace(batch, items=batch.items[:-1]) if batch.items and random.random() < 5 * _LIKELY else batch

    streams.events_after = lose


LIVE_BUGS: dict[str, Callable[[], None]] = {
    "line-lost": _line_lost,
    "line-twice": _line_twice,
    "event-lost": _event_lost,
}
