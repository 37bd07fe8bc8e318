"""Hooks of standing plans: made and renewed by people, called by the world outside."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from app.auth.principal import Principal
from app.db.models import DeploymentPlan, PlanAutomation, PlanHook, PlanTrigger
from app.db.places import hook_place
from app.db.sealing import Sealer
from app.db.statements import Statement
from app.db.uow import Database, SystemRole, Transaction
from app.domain.automation import Automation, TriggerKind, instant
from app.domain.enums import Permission, PlanType
from app.domain.errors import IllegalState, NotFound
from app.domain.hooks import SECRET_BYTES, TOKEN_PREFIX, USUAL_RATE, Call, hash_of, written_secret
from app.domain.statuses import PlanStatus
from app.domain.values import Secret, reveal
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.plans import automation as standing_plans
from app.services.plans.authoring import find

_ACTOR = "system:hook"
_BY_TOKEN = Statement("SELECT tenant_id, plan_id FROM plan_hook WHERE token_hash = :hash")


class UnknownHook(Exception):
    """There is no such hook, or there is no more."""


class BadSignature(Exception):
    """The hook's calls are signed, and this one is not, or wrongly, or long ago."""


class NotListening(Exception):
    """The hook's plan does not wait for calls now."""


class TooMany(Exception):
    """The hook was called too often; it may be called again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class RotateHook:
    """A new address for a plan's hook; the old one, if any, is of no use from then on."""

    plan_id: int
    signed: bool = False


@dataclass(frozen=True, slots=True)
class RotatedHook:
    """What its owner has to keep: nobody can ever show it again."""

    plan: DeploymentPlan
    token: str = field(repr=False)
    signing_secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a token leads."""

    tenant_id: int
    plan_id: int
    token_hash: bytes = field(repr=False)


async def rotate(
    transaction: Transaction, principal: Principal, command: RotateHook, dependencies: Dependencies
) -> RotatedHook:
    """Make the hook of a plan, or renew it. Raises IllegalState for a plan that does not listen to calls."""
    authorize(transaction, principal, Permission.EXECUTE)
    plan = await find(transaction, command.plan_id, None)
    if plan.plan_type is not PlanType.AUTOMATED or not await _takes_calls(transaction, plan):
        message = "only an AUTOMATED plan with a trigger on WEBHOOK has a hook"
        raise IllegalState(message, status=plan.status, path=("planId",))
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    secret = written_secret(secrets.token_bytes(SECRET_BYTES)) if command.signed else None
    whose = {"tenant_id": transaction.tenant_id, "plan_id": plan.id}
    new = {
        "token_hash": hash_of(token),
        "signing_secret": None
        if secret is None
        else dependencies.sealer.seal(Secret(secret), transaction.tenant_id, hook_place(plan.id)),
        "updated_by": transaction.actor,
        "updated_at": func.now(),
    }
    made = insert(PlanHook).values(whose | new | {"created_by": transaction.actor})
    await transaction.session.execute(made.on_conflict_do_update(index_elements=list(whose), set_=new))
    return RotatedHook(plan, token, secret)


async def revoke(transaction: Transaction, principal: Principal, plan_id: int) -> DeploymentPlan:
    """Take the hook of a plan away: its address is of no use from now on. Raises NotFound where there is none."""
    authorize(transaction, principal, Permission.EXECUTE)
    plan = await find(transaction, plan_id, None)
    gone = await transaction.session.execute(
        delete(PlanHook)
        .where(PlanHook.tenant_id == transaction.tenant_id, PlanHook.plan_id == plan.id)
        .returning(PlanHook.plan_id)
    )
    if gone.scalar_one_or_none() is None:
        message = "the plan has no hook"
        raise NotFound(message, path=("planId",))
    return plan


async def _takes_calls(transaction: Transaction, plan: DeploymentPlan) -> bool:
    document = await standing_plans.document_of(transaction, plan)
    return Automation.of(document).listens(TriggerKind.WEBHOOK)


async def locate(database: Database, token: str) -> Address:
    """Where the token leads. Raises UnknownHook, whatever is wrong with it."""
    hashed = hash_of(token)
    if hashed is None:
        raise UnknownHook
    async with database.system(SystemRole.AUTH) as transaction:
        row = await transaction.fetch_one(_BY_TOKEN, {"hash": hashed})
    if row is None:
        raise UnknownHook
    return Address(row["tenant_id"], row["plan_id"], hashed)


async def deliver(database: Database, sealer: Sealer, address: Address, call: Call, correlation_id: str) -> str:
    """Take a call, once for each of its ids; returns that id, or the one it is given.

    Raises UnknownHook, BadSignature, NotListening, TooMany.
    """
    async with database.write(address.tenant_id, actor=_ACTOR, correlation_id=correlation_id) as transaction:
        transaction.authorize("whoever knows the token of a hook may call it")
        # One call at a time, so that the rate holds.
        hook = await transaction.session.scalar(
            select(PlanHook)
            .where(
                PlanHook.tenant_id == address.tenant_id,
                PlanHook.plan_id == address.plan_id,
                PlanHook.token_hash == address.token_hash,
            )
            .with_for_update()
        )
        if hook is None:
            raise UnknownHook
        now = await transaction.session.scalar(select(func.clock_timestamp()))
        if now is None or not _is_authentic(hook, sealer, call, now.timestamp()):
            raise BadSignature
        if call.id is not None and await _is_known(transaction, address, call.id):
            return call.id
        automation = await _listening(transaction, address)
        rate = automation.rate or USUAL_RATE
        calls = await _calls_since(transaction, address, rate.count, rate.per)
        if calls is not None:
            raise TooMany(calls)
        key = call.id or f"msg_{uuid4().hex}"
        transaction.session.add(
            PlanTrigger(
                tenant_id=address.tenant_id,
                plan_id=address.plan_id,
                kind=TriggerKind.WEBHOOK,
                key=key,
                chain=[],
                cause={"at": instant(now), "id": key},
                payload=call.payload,
            )
        )
        await transaction.session.flush()
        return key


def _is_authentic(hook: PlanHook, sealer: Sealer, call: Call, now: float) -> bool:
    if hook.signing_secret is None:
        return True
    return call.is_signed(reveal(sealer.open(hook.signing_secret, hook.tenant_id, hook_place(hook.plan_id))), now)


async def _is_known(transaction: Transaction, address: Address, key: str) -> bool:
    found = await transaction.session.scalar(
        select(PlanTrigger.id).where(
            PlanTrigger.tenant_id == address.tenant_id,
            PlanTrigger.plan_id == address.plan_id,
            PlanTrigger.kind == TriggerKind.WEBHOOK,
            PlanTrigger.key == key,
        )
    )
    return found is not None


async def _listening(transaction: Transaction, address: Address) -> Automation:
    document = await transaction.session.scalar(
        select(PlanAutomation.automation)
        .join(
            DeploymentPlan,
            (DeploymentPlan.tenant_id == PlanAutomation.tenant_id) & (DeploymentPlan.id == PlanAutomation.plan_id),
        )
        .where(
            PlanAutomation.tenant_id == address.tenant_id,
            PlanAutomation.plan_id == address.plan_id,
            DeploymentPlan.status.in_([PlanStatus.WAITING, PlanStatus.PAUSED]),
            ~DeploymentPlan.is_deleted,
        )
    )
    automation = None if document is None else Automation.of(document)
    if automation is None or not automation.listens(TriggerKind.WEBHOOK):
        raise NotListening
    return automation


async def _calls_since(transaction: Transaction, address: Address, most: int, per: timedelta) -> float | None:
    """For how many seconds no more calls can be taken; None when one can."""
    seconds = func.extract("epoch", PlanTrigger.created_at + per - func.clock_timestamp())
    found = await transaction.session.scalars(
        select(seconds)
        .where(
            PlanTrigger.tenant_id == address.tenant_id,
            PlanTrigger.plan_id == address.plan_id,
            PlanTrigger.kind == TriggerKind.WEBHOOK,
            PlanTrigger.created_at > func.clock_timestamp() - per,
        )
        .order_by(PlanTrigger.id.desc())
        .limit(most)
    )
    waits = [float(wait) for wait in found]
    return waits[-1] if len(waits) == most else None
