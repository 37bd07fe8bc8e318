"""One action on many plans: each refused or done for itself, or all of them or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.principal import Principal
from app.db.models import DeploymentPlan
from app.db.uow import Transaction
from app.domain.enums import RetryMode
from app.domain.errors import DomainError, Invalid, LimitExceeded, Required
from app.reads import plans as reads
from app.reads.filters import PlanFilter
from app.services.dependencies import Dependencies
from app.services.plans.authoring import PlanAction, delete, submit
from app.services.plans.execution import ExecutePlan, RetryPlan, cancel, execute, retry, rollback
from app.services.plans.pausing import pause, resume
from app.services.plans.scopes import RollbackPlan

MOST_ITEMS = 100

# The rows that a verb is about: "plan", and "job" where there is one.
Outcome = dict[str, int | None]
Verb = Callable[[Transaction, Principal, int, Dependencies], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Item:
    """What came of one plan: what it is about, or why it was refused."""

    plan_id: int
    outcome: Outcome = field(default_factory=dict)
    error: DomainError | None = None


class Refused(Exception):
    """At least one plan refuses, so that nothing was done to any."""

    def __init__(self, items: Sequence[Item]) -> None:
        super().__init__(f"{sum(item.error is not None for item in items)} of {len(items)} plans refuse")
        self.items = tuple(items)


async def chosen(
    session: AsyncSession, tenant_id: int, plan_ids: Sequence[int] | None, wanted: PlanFilter | None, most: int
) -> tuple[int, ...]:
    """The plans that are meant, in the order given, or oldest first where a filter finds them.

    Raises Required, Invalid and LimitExceeded; more than `most` are refused rather than cut off.
    """
    if not 0 < most <= MOST_ITEMS:
        message = f"between 1 and {MOST_ITEMS} plans can be acted on at once"
        raise LimitExceeded(message, path=("maxItems",))
    if (plan_ids is None) == (wanted is None):
        message = "name the plans by planIds, or find them by a filter"
        raise Required(message, path=("planIds",)) if plan_ids is None else Invalid(message, path=("filter",))
    if plan_ids is None and wanted is not None:
        query = reads.listed(tenant_id, wanted).with_only_columns(DeploymentPlan.id)
        plan_ids = list((await session.scalars(query.order_by(DeploymentPlan.id).limit(most + 1))).all())
    found = tuple(dict.fromkeys(plan_ids or ()))
    if len(found) > most:
        message = f"more than {most} plans are meant"
        raise LimitExceeded(message, path=("filter",) if wanted is not None else ("planIds",))
    return found


async def act_on_all(
    transaction: Transaction, principal: Principal, plan_ids: Sequence[int], verb: Verb, dependencies: Dependencies
) -> list[Item]:
    """Do it to every plan, in this transaction; the answers in the order of `plan_ids`.

    Raises Refused, with every refusal and not only the first, if any plan refuses.
    """
    items: dict[int, Item] = {}
    # In one order, so that two that do this at a time cannot wait for each other.
    for plan_id in sorted(plan_ids):
        try:
            async with transaction.session.begin_nested():
                outcome = await verb(transaction, principal, plan_id, dependencies)
            items[plan_id] = Item(plan_id, outcome)
        except DomainError as error:
            items[plan_id] = Item(plan_id, error=error)
    found = [items[plan_id] for plan_id in plan_ids]
    if any(item.error is not None for item in found):
        raise Refused(found)
    return found


def verb_of(action: str) -> Verb:
    """What carries out the action on one plan. Raises Invalid for one that needs to be told more than the plan."""
    verb = _VERBS.get(action)
    if verb is None:
        message = f"{action} needs to be told more than the plan; in bulk there are {', '.join(_VERBS)}"
        raise Invalid(message, path=("action",))
    return verb


def _on_plan(action: Callable[..., Awaitable[DeploymentPlan | None]]) -> Verb:
    async def verb(transaction: Transaction, principal: Principal, plan_id: int, dependencies: Dependencies) -> Outcome:
        await action(transaction, principal, PlanAction(plan_id), dependencies)
        return {"plan": plan_id}

    return verb


async def _execute(transaction: Transaction, principal: Principal, plan_id: int, dependencies: Dependencies) -> Outcome:
    job = await execute(transaction, principal, ExecutePlan(plan_id), dependencies)
    return {"plan": plan_id, "job": job.id}


async def _retry(transaction: Transaction, principal: Principal, plan_id: int, dependencies: Dependencies) -> Outcome:
    job = await retry(transaction, principal, RetryPlan(plan_id, RetryMode.RESUME), dependencies)
    return {"plan": plan_id, "job": None if job is None else job.id}


async def _rollback(
    transaction: Transaction, principal: Principal, plan_id: int, dependencies: Dependencies
) -> Outcome:
    job = await rollback(transaction, principal, RollbackPlan(plan_id), dependencies)
    return {"plan": plan_id, "job": job.id}


_VERBS: dict[str, Verb] = {
    "SUBMIT": _on_plan(submit),
    "EXECUTE": _execute,
    "PAUSE": _on_plan(pause),
    "RESUME": _on_plan(resume),
    "CANCEL": _on_plan(cancel),
    "RETRY": _retry,
    "ROLLBACK": _rollback,
    "DELETE": _on_plan(delete),
}
