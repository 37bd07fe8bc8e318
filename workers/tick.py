"""The loop around the tick: at an interval, and at once when somebody says that something became due."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from app.engine.ticking import tick

if TYPE_CHECKING:
    from app.bus.bells import Bell
    from app.db.uow import Database

_logger = structlog.get_logger(__name__)


async def keep_ticking(
    database: Database, bell: Bell | None, interval_seconds: float, ring_again_seconds: float
) -> None:
    """Tick until cancelled. `bell` cuts the waiting short. Trouble with the database is waited out."""
    while True:
        try:
            done = await tick(database, ring_again_seconds=ring_again_seconds)
            if done.reaped:
                _logger.info("steps were taken from lost workers", steps=done.reaped)
        except Exception:  # the next tick does what this one could not
            _logger.warning("a tick failed", exc_info=True)
            await asyncio.sleep(interval_seconds)
        if bell is None:
            await asyncio.sleep(interval_seconds)
        else:
            await bell.wait(interval_seconds)
