"""The loops around the tick and the dispatch: at an interval, and when somebody says that something became due."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

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
    from collections.abc import Awaitable, Callable

    from app.bus.bells import Bell
    from app.db.uow import Database
    from app.services.dependencies import Dependencies

_logger = structlog.get_logger(__name__)
_TIDY_SECONDS = 60.0
_SEAL_SECONDS = 3.0
# Between one dispatch and the next: the longest where nobody hears, and another in a worker, which has work to do.
_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.04
_PAUSE_OF_WORKERS_SECONDS = 0.25
# So long the broker has for saying how many wait.
_ANSWER_SECONDS = 0.5
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


async def keep_dispatching(
    database: Database,
    bell: Bell | None,
    interval_seconds: float,
    ring_again_seconds: float,
    queued: Callable[[], int],
) -> None:
    """Ring for what is due at every interval, and when `bell` rings, until cancelled.

    Apart from the tick, which has more to do: whoever hands a job in does not wait for that. `queued` says how many
    rings have not been heard yet: while there is more to ring for than there is room it is asked again, more and more
    seldom as long as nobody hears.
    """
    hands, before, pause, is_full = 0, 0, _PAUSE_SECONDS, False
    while True:
        if not is_full:
            await _wait(bell, interval_seconds)
        waiting = await _queued(queued)
        is_heard, before = waiting is None or waiting < before, waiting or 0
        # A worker leaves it to the scheduler, where there is one.
        is_full = before > (hands // 2 if bell is not None else 0)
        try:
            if not is_full:
                done = await dispatch(database, ring_again_seconds=ring_again_seconds, queued=waiting)
                # Whoever was at it may have looked before there was anything to see.
                is_full, hands, before = done.is_full or not done.ran, done.hands, before + done.rung
        except Exception:  # the next tick does what this could not
            _logger.warning("due steps could not be rung for", exc_info=True)
            is_full = False
        if bell is None:
            pause = _PAUSE_OF_WORKERS_SECONDS
        else:
            pause = _PAUSE_SECONDS if is_heard or not is_full else min(2 * pause, _LONGEST_PAUSE_SECONDS)
        # Where one ring follows another, all of a moment are answered together.
        await asyncio.sleep(pause)


async def keep_ticking(
    database: Database,
    dependencies: Dependencies,
    bell: Bell | None,
    interval_seconds: float,
    ring_again_seconds: float,
    keep_log_days: int = 0,
    queued: Callable[[], int] | None = None,
) -> None:
    """Tick until cancelled. `bell` cuts the waiting short. Trouble with the database is waited out.

    `queued` says how many rings have not been heard yet; without it, and without an answer, as many are rung for as
    may be due.

    What the tick finds due on a schedule, or a condition, is seen to here: the engine carries jobs, and making one is a
    service.
    """
    chores = _Chores(database, keep_log_days)
    while True:
        try:
            await chores.do_what_is_due()
            waiting = None if queued is None else await _queued(queued)
            done = await tick(database, ring_again_seconds=ring_again_seconds, queued=waiting)
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
        if bell is not None:
            await asyncio.sleep(min(_PAUSE_OF_TICKS_SECONDS, interval_seconds))
        await _wait(bell, interval_seconds)


async def _wait(bell: Bell | None, seconds: float) -> None:
    if bell is None:
        await asyncio.sleep(seconds)
    else:
        await bell.wait(seconds)


async def _queued(queued: Callable[[], int]) -> int | None:
    """None where the broker does not say so: rings may be lost then, and are repeated."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await asyncio.to_thread(queued)
    except (RedisError, OSError, TimeoutError):
        return None


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
