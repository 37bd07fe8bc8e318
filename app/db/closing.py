"""What a job leaves behind when it is over: its stack is free, and its resources say what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.db import drift, tails, transitions
from app.db.statements import dumps
from app.db.uow import Transaction
from app.domain.statuses import RESOURCE, ResourceStatus


async def close(transaction: Transaction, job_id: int, plan_id: int, stack: str, *, failed: bool) -> None:
    """Close an ended job. Whoever waits for what is free now is told after the commit."""
    key: dict[str, Any] = {"tenant": transaction.tenant_id, "id": job_id, "plan": plan_id, "stack": stack}
    logs = dumps(await tails.tail(transaction, job_id))
    closed = await transaction.fetch_one(transitions.CLOSE_JOB, {**key, "failed": failed, "logs": logs})
    if closed is not None:
        transaction.rings.freed |= closed["awaited"]
        await drift.tell_all(transaction, [_left(row) for row in closed["left_behind"] or []])


async def close_simulation(transaction: Transaction, job_id: int) -> None:
    """Close an ended job that was only simulated: nothing of what it has made up stays."""
    logs = dumps(await tails.tail(transaction, job_id))
    await transaction.fetch(transitions.CLOSE_SIMULATION, {"tenant": transaction.tenant_id, "id": job_id, "logs": logs})


def _left(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with the status that the machine of resources says that the statement has written."""
    before = ResourceStatus(row["previous"])
    event = "abandon" if before is ResourceStatus.PLANNED else "lost"
    return {**row, "status": RESOURCE.after(before, event)}
