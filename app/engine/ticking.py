"""The tick: what must happen by itself, done by whoever comes first.

Any number of processes may tick. The advisory lock and the work are the same transaction, so there is no leader that
could fall silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.db.statements import Statement
from app.db.uow import Database, SystemRole
from app.engine import automation, plan_timers, recovery, timers, watches
from app.engine.dispatching import dispatch

_MINE = Statement("SELECT pg_try_advisory_xact_lock(77077, 1) AS mine")


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did. `ran` is False when another process was at all but lost workers and due steps."""

    ran: bool
    reaped: int = 0
    admitted: int = 0
    expired: int = 0
    rung: int = 0
    # (tenant, plan) of schedules to be fired, each in a transaction of its own.
    due_plans: Sequence[tuple[int, int]] = ()
    # Tenants with news for conditions, and (tenant, plan) of conditions to be looked at.
    stirred: Sequence[int] = ()
    due_watches: Sequence[tuple[int, int]] = ()
    # (tenant, plan) of standing plans that have heard something, likewise.
    heard_plans: Sequence[tuple[int, int]] = ()


async def tick(database: Database, *, ring_again_seconds: float, limit: int = 256, queued: int | None = None) -> Ticked:
    """One round: lost workers, waiting jobs and due steps, plans whose time is over, passed deadlines.

    Lost workers come first and apart: all else may have to wait for what one of them holds. `queued`: as in `dispatch`.
    """
    reaped = (await recovery.reap(database)).steps
    dispatched = await dispatch(database, ring_again_seconds=ring_again_seconds, limit=limit, queued=queued)
    async with database.system(SystemRole.TICK) as transaction:
        mine = await transaction.fetch_one(_MINE, {})
        if mine is None or not mine["mine"]:
            return Ticked(ran=False, reaped=reaped, admitted=dispatched.admitted, rung=dispatched.rung)
        expired = await plan_timers.expire(transaction)
        due_plans = await plan_timers.due(transaction)
        stirred, due_watches = await watches.stirred(transaction), await watches.due(transaction)
        heard_plans = await automation.due(transaction)
        unheard = await automation.unheard(transaction)
        overdue = await timers.overdue(transaction)
    # After the commit: each is acted on in its own tenant, and must not wait for a lock of this transaction.
    for timer in overdue:
        await timers.fire(database, timer)
    for tenant_id in unheard:
        await automation.listen(database, tenant_id)
    return Ticked(
        True, reaped, dispatched.admitted, expired, dispatched.rung, due_plans, stirred, due_watches, heard_plans
    )
