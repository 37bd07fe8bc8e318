"""What an administrator sets a tenant's limits to, and what happens to who wants more."""

from __future__ import annotations

from dataclasses import dataclass

from app.auth.principal import Principal
from app.db.models import TenantLimit
from app.db.uow import Transaction
from app.domain.enums import Permission
from app.domain.errors import LimitExceeded, QuotaExceeded
from app.domain.limits import HIGHEST, PLANS, QUEUED, RESOURCES, SIMULATED
from app.reads import limits
from app.services.authorizing import authorize
from app.services.faults import refuse


@dataclass(frozen=True, slots=True)
class SetLimits:
    """New limits of the tenant; None leaves one as it is."""

    max_running_jobs: int | None = None
    max_queued_jobs: int | None = None
    max_resources: int | None = None
    max_plans: int | None = None


async def set_limits(transaction: Transaction, principal: Principal, command: SetLimits) -> None:
    """Give the principal's tenant other limits. What is under way goes on, also where it is more than that."""
    authorize(transaction, principal, Permission.ADMIN)
    wanted = {
        "maxRunningJobs": command.max_running_jobs,
        "maxQueuedJobs": command.max_queued_jobs,
        "maxResources": command.max_resources,
        "maxPlans": command.max_plans,
    }
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
        max_resources=command.max_resources or now.max_resources,
        max_plans=command.max_plans or now.max_plans,
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


async def refuse_more_plans(transaction: Transaction) -> None:
    """Raises QuotaExceeded when as many plans are not over as may be."""
    limit = (await limits.limits_of(transaction.session, transaction.tenant_id)).max_plans
    if limit is None:
        return
    used = await limits.open_plans(transaction.session, transaction.tenant_id)
    if used >= limit:
        message = f"{used} plans are not over, of {limit} that may be"
        raise QuotaExceeded(message, key=PLANS, limit=limit, used=used)


async def refuse_more_resources(transaction: Transaction, more: int) -> None:
    """Raises QuotaExceeded when the tenant would have more resources than it may with so many more."""
    limit = (await limits.limits_of(transaction.session, transaction.tenant_id)).max_resources
    if limit is None or more <= 0:
        return
    used = await limits.resources(transaction.session, transaction.tenant_id)
    if used + more > limit:
        message = f"{used} resources are there, of {limit} that may be, and this would be {more} more"
        raise QuotaExceeded(message, key=RESOURCES, limit=limit, used=used)


async def refuse_more_simulations(transaction: Transaction) -> None:
    """Raises QuotaExceeded when as many jobs are simulated as may be under way: a simulation waits for nothing, so that
    nothing else holds it back.
    """
    limit = (await limits.limits_of(transaction.session, transaction.tenant_id)).max_running_jobs
    used = await limits.simulated(transaction.session, transaction.tenant_id)
    if used >= limit:
        message = f"{used} jobs are simulated already, of {limit} that may"
        raise QuotaExceeded(message, key=SIMULATED, limit=limit, used=used)
