"""Chains the entries of the audit log, a few seconds after they were written."""

from __future__ import annotations

from app.db import audit
from app.db.uow import Database, SystemRole

_TENANTS = 500
_ENTRIES = 1_000


async def seal_audit(database: Database) -> int:
    """Seal what is not sealed yet, of as many tenants as one turn takes; returns how many entries that were.

    Any number of processes may do it at a time: one waits for the other, tenant by tenant.
    """
    async with database.system(SystemRole.TICK) as transaction:
        tenants = await audit.waiting(transaction, _TENANTS)
    sealed = 0
    for tenant_id in tenants:
        async with database.machine(tenant_id, actor="system:audit", correlation_id="audit") as transaction:
            transaction.authorize("the audit log is sealed")
            sealed += await audit.seal(transaction, _ENTRIES)
    return sealed
