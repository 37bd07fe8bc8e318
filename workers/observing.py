"""The loop beside a worker's steps: looks at resources, and acts where they drift or have lived long enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from app.db.uow import Database, SystemRole
from app.engine import observations
from app.services.plans import reverting
from app.services.plans.firing import DuePlan

if TYPE_CHECKING:
    from app.engine.observing import Observer
    from app.services.dependencies import Dependencies

_logger = structlog.get_logger(__name__)
# Of each worker; looking comes after doing.
AT_A_TIME = 2


async def observe_once(database: Database, observer: Observer, dependencies: Dependencies, limit: int) -> int:
    """One round: looks, then reactions, each in a transaction of its own. Returns how many resources were looked at."""
    looked = await observer.round(limit) if limit else 0
    async with database.system(SystemRole.TICK) as transaction:
        drifted = await observations.to_revert(transaction)
        outlived = await observations.outlived(transaction)
    for tenant_id, plan_id in drifted:
        await reverting.revert(database, DuePlan(tenant_id, plan_id), dependencies)
    for tenant_id, plan_id in outlived:
        await reverting.tear_down(database, DuePlan(tenant_id, plan_id), dependencies)
    return looked


async def keep_observing(
    database: Database,
    observer: Observer,
    dependencies: Dependencies,
    interval_seconds: float,
    busy: Callable[[], bool],
) -> None:
    """Go round until cancelled. A `busy` worker looks at nothing. Trouble with the database is waited out."""
    while True:
        looked = 0
        try:
            looked = await observe_once(database, observer, dependencies, 0 if busy() else AT_A_TIME)
        except Exception:  # the next round does what this one could not
            _logger.warning("a round of observations failed", exc_info=True)
        if looked < AT_A_TIME:
            await asyncio.sleep(interval_seconds)
