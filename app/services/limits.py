"""What an administrator sets a tenant's limits to, and what happens to who wants more."""

from __future__ import annotations

from dataclasses import dataclass

from app.auth.principal import Principal
from app.db.models import TenantLimit
from app.db.uow import Transaction
from app.domain.enums import Permission
from app.domain.errors import LimitExceeded, QuotaExceeded
from app.domain.limits import HIGHEST, QUEUED
from app.reads import limits
from app.services.authorizing import authorize
from app.services.faults import refuse


@dataclass(frozen=True, slots=True)
class SetLimits:
    """New limits of the tenant; None leaves one as it is."""

    max_running_jobs: int | None = None
    max_queued_jobs: int | None = None


async def set_limits(transaction: Transaction, principal: Principal, command: SetLimits) -> None:
    """Give the principal's tenant other limits. What is under way goes on, also where it is more than that."""
    authorize(transaction, principal, Permission.ADMIN)
    wanted = {"maxRunningJobs": command.max_running_jobs, "maxQueuedJobs": command.max_queued_jobs}
    message = f"a limit is between 1 and {HIGHEST}"
    refuse(
        [
            LimitExceeded(message, path=("limits", name))
            for name, value in wanted.items()
            if value is not None and not 1 <= value <= HIGHEST
        ]
    )
    now = await limits.limits_of(transaction.session, transaction.tenant_id)
    row = TenantLimit(
        tenant_id=transaction.tenant_id,
        max_running_jobs=command.max_running_jobs or now.max_running_jobs,
        max_queued_jobs=command.max_queued_jobs or now.max_queued_jobs,
    )
    await transaction.session.merge(row)
    await transaction.session.flush()
    # Jobs that were held back may start.
    transaction.rings.freed = True


async def refuse_beyond(transaction: Transaction) -> None:
    """Raises QuotaExceeded when more jobs wait than may, with the one that this transaction has made.

    Transactions that do this at the same time do not see each other's.
    """
    limit = (await limits.limits_of(transaction.session, transaction.tenant_id)).max_queued_jobs
    used = await limits.queued(transaction.session, transaction.tenant_id) - 1
    if used >= limit:
        message = f"{used} jobs wait already, of {limit} that may"
        raise QuotaExceeded(message, key=QUEUED, limit=limit, used=used)
