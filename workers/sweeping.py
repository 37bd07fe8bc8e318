"""The loop of the sweep, beside a worker's steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from app.engine.sweeping import Sweeper

_logger = structlog.get_logger(__name__)
_LOOK_SECONDS = 1.0


async def keep_sweeping(sweeper: Sweeper, busy: Callable[[], bool]) -> None:
    """Look behind what was undone until cancelled. A `busy` worker does not. Trouble is waited out."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if busy():
            continue
        try:
            await sweeper.round()
        except Exception:  # the next round does what this one could not
            _logger.warning("a round of the sweep failed", exc_info=True)
