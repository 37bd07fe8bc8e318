"""Planted bugs of live streams, which `make chaos-live` must find."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.reads import streams

_LIKELY = 0.02


def _line_lost() -> None:
    read = streams.lines_after

    async def lose(*arguments: Any, after: int, until: int) -> Any:
        batch = await read(*arguments, after=after, until=until)
        return replace(batch, items=batch.items[1:]) if batch.items and random.random() < _LIKELY else batch

    streams.lines_after = lose  # type: ignore[assignment]


def _line_twice() -> None:
    read = streams.lines_after

    async def repeat(*arguments: Any, after: int, until: int) -> Any:
        # Far enough to meet a line: events have numbers, too.
        back = 3 if random.random() < _LIKELY else 0
        return await read(*arguments, after=max(0, after - back), until=until)

    streams.lines_after = repeat  # type: ignore[assignment]


def _event_lost() -> None:
    read = streams.events_after

    async def lose(*arguments: Any, after: int, until: int) -> Any:
        batch = await read(*arguments, after=after, until=until)
        return replace(batch, items=batch.items[:-1]) if batch.items and random.random() < 5 * _LIKELY else batch

    streams.events_after = lose  # type: ignore[assignment]


LIVE_BUGS: dict[str, Callable[[], None]] = {
    "line-lost": _line_lost,
    "line-twice": _line_twice,
    "event-lost": _event_lost,
}
