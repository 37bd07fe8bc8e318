"""Rows of a stack's resources are entered by one transaction at a time.

Two plans that are to bring about the same resource share its row, whether a plan is being handed in or a worker finds
that the row was closed by the job before: whoever comes second sees what the first has entered, and does not enter it
twice.
"""

from __future__ import annotations

from typing import Final

from app.db.statements import Statement
from app.db.uow import Transaction

_ALONE: Final = Statement("SELECT pg_advisory_xact_lock(77078, hashtext(:stack))")


async def enter_alone(transaction: Transaction, stack: str) -> None:
    """Wait until nobody else enters resources into the stack, until the transaction ends."""
    await transaction.fetch(_ALONE, {"stack": f"{transaction.tenant_id}/{stack}"})
