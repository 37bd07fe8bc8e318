"""What plans depend on: declared by whoever makes them, or read by an expression from plans["name"].outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import BigInteger, exists, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import upstream as statements
from app.db.models import DeploymentPlan, PlanDependency
from app.db.uow import Transaction
from app.domain.enums import PlanType
from app.domain.errors import Conflict, Cyclic, Diagnostic, Invalid, LimitExceeded, NotFound, Severity
from app.domain.graph import DependencyGraph, Edge
from app.domain.identity import global_id
from app.domain.naming import hint, nearest
from app.domain.planning import Deployment
from app.domain.statuses import PLAN
from app.domain.upstream import MOST, NEVER, UNDER_WAY, Mention, Upstream
from app.domain.values import UNKNOWN
from app.services.dependencies import Dependencies

_PATH = ("dependsOnPlanIds",)
# More than a chain of plans ever has: whoever goes beyond has other problems.
_MOST_EDGES = 10_000


async def read_by(
    session: AsyncSession,
    tenant_id: int,
    plan_id: int | None,
    plan_name: str,
    found: Sequence[Mention],
    dependencies: Dependencies,
) -> tuple[Upstream, ...]:
    """The plans that expressions mean by their names, with what they have put out.

    Raises Invalid, with a diagnostic for every place, where there is none, or where a plan means itself.
    """
    if not found:
        return ()
    places = {mention.name: mention for mention in reversed(found)}
    if len(places) > MOST:
        message = f"a plan reads the outputs of at most {MOST} others, this one of {len(places)}"
        raise LimitExceeded(message, path=found[0].path)
    rows = await session.execute(
        text(statements.NAMED),
        {"tenant": tenant_id, "plan": plan_id, "names": sorted(places), "under_way": sorted(UNDER_WAY)},
    )
    ids = {row.name: row.id for row in rows if row.id is not None and row.name != plan_name}
    missing = [mention for name, mention in sorted(places.items()) if name not in ids]
    if missing:
        raise await _unknown(session, tenant_id, plan_name, missing)
    query = text(statements.OUTPUTS).columns(id=BigInteger, outputs=JSONB)
    done = await session.execute(query, {"tenant": tenant_id, "ids": sorted(ids.values())})
    outputs = {row.id: dependencies.sealer.open(row.outputs or {}, tenant_id) for row in done}
    return tuple(Upstream(number, name, outputs.get(number, UNKNOWN)) for name, number in sorted(ids.items()))


async def declare(transaction: Transaction, plan: DeploymentPlan, ids: Sequence[int]) -> None:
    """Let the plan wait for these, and for no others that were declared before.

    Raises NotFound, LimitExceeded, Invalid for what can never succeed, Cyclic where one of them waits for the plan.
    """
    wanted = list(dict.fromkeys(ids))
    if len(wanted) > MOST:
        message = f"a plan depends on at most {MOST} others"
        raise LimitExceeded(message, path=_PATH)
    found = await transaction.session.execute(
        select(DeploymentPlan).where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.id.in_(wanted),
            ~DeploymentPlan.is_deleted,
        )
    )
    rows = {row.id: row for row in found.scalars()}
    for number in wanted:
        _refuse_hopeless(rows.get(number), plan)
    await transaction.session.flush()
    await transaction.fetch(statements.DECLARE, {"tenant": transaction.tenant_id, "plan": plan.id, "ids": wanted})
    try:
        await _refuse_circles(transaction, plan)
    except Cyclic as error:
        raise Cyclic(error.message, cycles=error.cycles, path=_PATH) from error


async def keep(transaction: Transaction, plan: DeploymentPlan, deployment: Deployment) -> None:
    """Remember which plans this one reads, so that it waits for them. Raises Cyclic where one of them waits for it."""
    if not deployment.upstream and plan.preview is None:
        return
    await transaction.session.flush()
    read = {
        "ids": [found.plan_id for found in deployment.upstream],
        "names": [found.name for found in deployment.upstream],
    }
    await transaction.fetch(statements.KEEP, {"tenant": transaction.tenant_id, "plan": plan.id, **read})
    if not all(found.is_known for found in deployment.upstream):
        await _refuse_circles(transaction, plan)


async def forget_read(transaction: Transaction, plan: DeploymentPlan) -> None:
    """What the plan reads is to be found out anew."""
    nothing: dict[str, list[object]] = {"ids": [], "names": []}
    await transaction.fetch(statements.KEEP, {"tenant": transaction.tenant_id, "plan": plan.id, **nothing})


async def inherit(transaction: Transaction, parent: DeploymentPlan, child: DeploymentPlan) -> None:
    """Let a run wait for what the plan that made it was told to wait for."""
    ids = {"tenant": transaction.tenant_id, "parent": parent.id, "child": child.id}
    await transaction.fetch(statements.INHERIT, ids)


async def refuse_while_depended_on(transaction: Transaction, plan: DeploymentPlan) -> None:
    """Raises Conflict while a plan that is not over depends on this one."""
    dependent = await transaction.session.execute(
        select(DeploymentPlan.plan_name)
        .where(
            DeploymentPlan.tenant_id == transaction.tenant_id,
            DeploymentPlan.status.not_in(PLAN.closed),
            ~DeploymentPlan.is_deleted,
            exists().where(
                PlanDependency.tenant_id == transaction.tenant_id,
                PlanDependency.plan_id == DeploymentPlan.id,
                PlanDependency.upstream_id == plan.id,
            ),
        )
        .limit(4)
    )
    names = [row.plan_name for row in dependent]
    if names:
        listed = ", ".join(f"'{name}'" for name in names[:3]) + (" and others" if len(names) > 3 else "")
        message = f"plans that are not over depend on it: {listed}"
        raise Conflict(message, path=("planId",))


async def _unknown(session: AsyncSession, tenant_id: int, plan_name: str, missing: Sequence[Mention]) -> Invalid:
    known = await session.scalars(
        select(DeploymentPlan.plan_name)
        .where(DeploymentPlan.tenant_id == tenant_id, ~DeploymentPlan.is_deleted)
        .order_by(DeploymentPlan.id.desc())
        .limit(200)
    )
    names = sorted(set(known) - {plan_name})
    faults = []
    for mention in missing:
        message = f"in {mention.text}: no plan '{mention.name}' has succeeded, or is on its way to"
        suggestion = nearest(mention.name, names)
        if mention.name == plan_name:
            message, suggestion = f"in {mention.text}: a plan cannot read its own outputs", None
        faults.append(Diagnostic(Severity.ERROR, "UNKNOWN_REFERENCE", message, mention.path, suggestion))
    message = "; ".join(f"{fault.message}{hint(fault.suggestion)}" for fault in faults[:5])
    return Invalid(message, path=faults[0].path, diagnostics=faults)


def _refuse_hopeless(upstream: DeploymentPlan | None, plan: DeploymentPlan) -> None:
    if upstream is None:
        message = "there is no such plan"
        raise NotFound(message, path=_PATH)
    if upstream.id == plan.id:
        message = "a plan cannot wait for itself"
        raise Invalid(message, path=_PATH)
    if upstream.status in NEVER:
        message = f"the plan '{upstream.plan_name}' is {upstream.status}: it will never succeed"
        raise Invalid(message, path=_PATH)
    if _makes_runs(upstream):
        message = f"the plan '{upstream.plan_name}' makes runs of its own and never succeeds itself: name one of them"
        raise Invalid(message, path=_PATH)


def _makes_runs(plan: DeploymentPlan) -> bool:
    schedule: Mapping[str, object] = plan.schedule or {}
    condition: Mapping[str, object] = plan.condition or {}
    return (
        plan.plan_type is PlanType.AUTOMATED
        or (plan.plan_type is PlanType.SCHEDULED and schedule.get("recurrence") is not None)
        or (plan.plan_type is PlanType.CONDITIONAL and condition.get("fire") == "EACH")
    )


async def _refuse_circles(transaction: Transaction, plan: DeploymentPlan) -> None:
    await transaction.fetch(statements.ONE_AT_A_TIME, {"tenant": transaction.tenant_id})
    rows = await transaction.fetch(
        statements.WAITED_FOR, {"tenant": transaction.tenant_id, "plan": plan.id, "most": _MOST_EDGES}
    )
    edges = [
        Edge(
            global_id("DeploymentPlan", row["upstream_id"]),
            global_id("DeploymentPlan", row["plan_id"]),
            explicit=row["declared"],
            path=_PATH[0] if row["declared"] else f'plans["{row["read_as"]}"]',
        )
        for row in rows
    ]
    DependencyGraph([key for edge in edges for key in (edge.source, edge.target)], edges).check()
