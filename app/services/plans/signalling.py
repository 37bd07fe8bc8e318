"""Signals to plans that wait: a word from outside that a condition reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.auth.principal import Principal
from app.db import watches
from app.db.models import DeploymentPlan
from app.db.statements import dumps
from app.db.uow import Transaction
from app.domain.conditions import Condition, Root
from app.domain.enums import Permission
from app.domain.errors import IllegalState, LimitExceeded, UnknownReference
from app.domain.naming import hint, nearest
from app.domain.statuses import PlanStatus
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.plans.authoring import find

_LARGEST = 16 * 1024


@dataclass(frozen=True, slots=True)
class SignalPlan:
    """A signal: its name as the condition has it, and whatever is to be said with it."""

    plan_id: int
    name: str
    payload: Mapping[str, Any] | None = None


async def signal(
    transaction: Transaction, principal: Principal, command: SignalPlan, dependencies: Dependencies
) -> DeploymentPlan:
    """Tell a plan that waits. The newest signal of a name stays, until the plan has run because of it.

    Raises IllegalState when the plan does not wait for a condition, UnknownReference for a name that it does not read.
    """
    del dependencies
    authorize(transaction, principal, Permission.EXECUTE)
    plan = await find(transaction, command.plan_id, None)
    if plan.status is not PlanStatus.WAITING or plan.condition is None:
        message = f"a plan that is {plan.status} waits for no signal"
        raise IllegalState(message, status=plan.status, path=("planId",))
    known = Condition.of(plan.condition).names(Root.SIGNALS)
    if command.name not in known:
        message = f"the plan's condition reads no signal of this name{hint(nearest(command.name, known))}"
        raise UnknownReference(message, path=("name",))
    if len(dumps(command.payload)) > _LARGEST:
        message = f"the payload of a signal has at most {_LARGEST} characters"
        raise LimitExceeded(message, path=("payload",))
    await watches.signal(transaction, plan.id, command.name, command.payload)
    return plan
