"""The loops around the tick and the dispatch: at an interval, and when somebody says that something became due."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from app import clock
from app.db.away import DATABASE_AWAY, took_too_long
from app.engine.dispatching import dispatch
from app.engine.housekeeping import tidy, tidy_logs
from app.engine.sealing import seal_audit
from app.engine.ticking import tick
from app.services.plans import triggering
from app.services.plans.firing import DuePlan, fire
from app.services.plans.watching import DueWatch, look, notice

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from app.bus.bells import Bell
    from app.db.uow import Database
    from app.services.dependencies import Dependencies

_logger = structlog.get_logger(__name__)
_TIDY_SECONDS = 60.0
_SEAL_SECONDS = 3.0
_QUIET_SECONDS = 60.0
# Between one answer to a bell and the next.
_PAUSE_SECONDS = 0.01
_PAUSE_OF_TICKS_SECONDS = 0.05


class _Chores:
    """What is done every now and then, whether anything is due or not."""

    def __init__(self, database: Database, keep_log_days: int) -> None:
        self._database = database
        self._keep_log_days = keep_log_days
        self._tidied_at = self._sealed_at = clock.monotonic()

    async def do_what_is_due(self) -> None:
        now = clock.monotonic()
        if now - self._tidied_at > _TIDY_SECONDS:
            self._tidied_at = now
            await tidy(self._database)
            await tidy_logs(self._database, self._keep_log_days)
        if now - self._sealed_at > _SEAL_SECONDS:
            self._sealed_at = now
            await seal_audit(self._database)


async def keep_dispatching(database: Database, bell: Bell, ring_again_seconds: float) -> None:
    """Ring for what is due whenever `bell` rings, until cancelled; for what nobody said anything about the tick does.

    Apart from the tick, which has more to do: whoever hands a job in does not wait for that.
    """
    while True:
        if not await bell.wait(_QUIET_SECONDS):
            continue
        try:
            ran = (await dispatch(database, ring_again_seconds=ring_again_seconds)).ran
        except Exception:  # the next tick does what this could not
            _logger.warning("due steps could not be rung for", exc_info=True)
        else:
            if not ran:
                # Whoever was at it may have looked before there was anything to see.
                bell.ring()
        # Where one ring follows another, all of a moment are answered together.
        await asyncio.sleep(_PAUSE_SECONDS)


async def keep_ticking(
    database: Database,
    dependencies: Dependencies,
    bell: Bell | None,
    interval_seconds: float,
    ring_again_seconds: float,
    keep_log_days: int = 0,
) -> None:
    """Tick until cancelled. `bell` cuts the waiting short. Trouble with the database is waited out.

    What the tick finds due on a schedule, or a condition, is seen to here: the engine carries jobs, and making one is a
    service.
    """
    chores = _Chores(database, keep_log_days)
    while True:
        try:
            await chores.do_what_is_due()
            done = await tick(database, ring_again_seconds=ring_again_seconds)
            if done.reaped:
                _logger.info("steps were taken from lost workers", steps=done.reaped)
            for tenant_id, plan_id in done.due_plans:
                await _see_to(fire(database, DuePlan(tenant_id, plan_id), dependencies))
            for tenant_id in done.stirred:
                await _see_to(notice(database, tenant_id))
            for tenant_id, plan_id in done.due_watches:
                await _see_to(look(database, DueWatch(tenant_id, plan_id), dependencies))
            for tenant_id, plan_id in done.heard_plans:
                await _see_to(triggering.fire(database, DuePlan(tenant_id, plan_id), dependencies))
        except Exception:  # the next tick does what this one could not
            _logger.warning("a tick failed", exc_info=True)
            await asyncio.sleep(interval_seconds)
        if bell is None:
            await asyncio.sleep(interval_seconds)
        else:
            await asyncio.sleep(min(_PAUSE_OF_TICKS_SECONDS, interval_seconds))
            await bell.wait(max(interval_seconds - _PAUSE_OF_TICKS_SECONDS, 0.0))


async def _see_to(deed: Awaitable[object]) -> None:
    """One thing that is due. One that waits in vain for what somebody holds keeps no other from its time: the next tick
    would find it first again, and wait for as long.
    """
    try:
        await deed
    except DATABASE_AWAY as error:
        if not took_too_long(error):
            raise
        _logger.warning("what is due had to wait for too long", exc_info=True)
