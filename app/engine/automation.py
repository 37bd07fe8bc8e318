"""What standing plans hear: the tenant's feed is read once for all of them, and what concerns one becomes a trigger.

The place in the feed moves in the transaction that writes the triggers, under the lock of its row: whoever reads, and
whatever is killed, each event is heard once. What follows from a trigger is decided elsewhere, under the plan's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from app.db import feed
from app.db.away import DATABASE_AWAY
from app.db.feed import HORIZON, FedEvent, Position
from app.db.statements import Row, Statement, dumps
from app.db.uow import Database, Transaction
from app.domain.automation import Automation, Fact, TriggerKind, instant
from app.domain.enums import DriftStatus
from app.domain.events import EventKind, Stream
from app.domain.firing import FAILURES
from app.domain.identity import global_id
from app.domain.statuses import PLAN, PlanStatus

_ACTOR = "system:scheduler"
_PAGE = 500
_logger = structlog.get_logger(__name__)

# Tenants that have standing plans and events that nobody has heard on their behalf.
_UNHEARD = Statement(
    "SELECT f.tenant_id FROM automation_feed f WHERE EXISTS (SELECT FROM plan_automation a"  # noqa: S608
    "  WHERE a.tenant_id = f.tenant_id) AND EXISTS (SELECT FROM event_log e WHERE e.tenant_id = f.tenant_id"
    f"  AND e.feed >= f.feed AND e.feed < {HORIZON}) ORDER BY f.feed LIMIT :limit"
)
# Each part has an index of those it is about; what met a fault of ours is left alone until its time. Round robin over
# tenants, and within one nobody is always the last.
_DUE = Statement(
    "SELECT a.tenant_id, a.plan_id FROM plan_automation a JOIN ("
    " (SELECT tenant_id, plan_id FROM plan_automation WHERE look_at <= statement_timestamp() LIMIT 1000)"
    " UNION (SELECT tenant_id, plan_id FROM plan_automation WHERE fire_at <= statement_timestamp() LIMIT 1000)"
    " UNION (SELECT tenant_id, plan_id FROM plan_trigger WHERE outcome = 'PENDING'"
    "  AND (retry_at IS NULL OR retry_at <= statement_timestamp()) LIMIT 1000)"
    " UNION (SELECT f.tenant_id, f.plan_id FROM plan_automation f JOIN resource_template t"
    "  ON t.tenant_id = f.template_tenant_id AND t.id = f.template_id"
    "  WHERE t.latest_revision_id IS DISTINCT FROM f.seen_revision_id LIMIT 1000)"
    " ) due USING (tenant_id, plan_id) WHERE a.retry_at IS NULL OR a.retry_at <= statement_timestamp()"
    " ORDER BY row_number() OVER (PARTITION BY a.tenant_id ORDER BY random()) LIMIT :limit"
)
_LOCK = Statement(
    "SELECT feed, stream, stream_id, seq FROM automation_feed WHERE tenant_id = :tenant FOR UPDATE SKIP LOCKED"
)
_KEEP = Statement(
    "UPDATE automation_feed SET feed = :feed, stream = :stream, stream_id = :stream_id, seq = :seq"
    " WHERE tenant_id = :tenant"
)
# A plan that stands no more, because it was edited, cancelled or has expired, hears nothing more.
_SWEEP = Statement(
    "WITH gone AS (DELETE FROM plan_automation a USING deployment_plan p WHERE a.tenant_id = :tenant"
    "  AND p.tenant_id = a.tenant_id AND p.id = a.plan_id"
    "  AND (p.is_deleted OR p.status NOT IN ('WAITING', 'PAUSED')) RETURNING a.plan_id)"
    " UPDATE plan_trigger t SET outcome = 'SKIPPED', reason = 'NONE', message = 'the plan waits no more',"
    " payload = NULL, decided_at = clock_timestamp() FROM gone WHERE t.tenant_id = :tenant AND t.plan_id = gone.plan_id"
    " AND t.outcome = 'PENDING'"
)
_LISTENERS = Statement(
    "SELECT a.plan_id, a.automation, a.armed_feed, p.stack FROM plan_automation a JOIN deployment_plan p"
    " ON p.tenant_id = a.tenant_id AND p.id = a.plan_id WHERE a.tenant_id = :tenant ORDER BY a.plan_id"
)
# What is known of plans that events are about: whose runs they are, and how it came to them.
_PLANS = Statement(
    "SELECT p.id, p.plan_name, p.parent_plan_id, p.stack, t.plan_id AS fired_by, t.chain FROM deployment_plan p"
    " LEFT JOIN LATERAL (SELECT plan_id, chain FROM plan_trigger WHERE tenant_id = :tenant AND child_plan_id = p.id"
    "  ORDER BY id LIMIT 1) t ON true WHERE p.tenant_id = :tenant AND p.id = ANY(:ids::bigint[])"
)
_RESOURCES = Statement(
    "SELECT id, stack, resource_key FROM cloud_resource WHERE tenant_id = :tenant AND id = ANY(:ids::bigint[])"
)
_ENTER = Statement(
    "INSERT INTO plan_trigger (tenant_id, plan_id, kind, key, chain, cause)"
    " SELECT :tenant, n.plan, n.kind, n.key, ARRAY(SELECT jsonb_array_elements_text(n.chain::jsonb)::bigint),"
    " n.cause::jsonb FROM unnest(:plans::bigint[], :kinds::text[], :keys::text[], :chains::text[], :causes::text[])"
    " AS n(plan, kind, key, chain, cause) ON CONFLICT DO NOTHING RETURNING plan_id"
)
# Who waits for a run to end waits for those of the same key, whosever they are.
_WAKE = Statement(
    "UPDATE plan_automation a SET look_at = clock_timestamp() FROM plan_trigger t WHERE a.tenant_id = :tenant"
    " AND t.tenant_id = :tenant AND t.child_plan_id = ANY(:ids::bigint[])"
    " AND (a.plan_id = t.plan_id OR a.concurrency_key = t.concurrency_key)"
)
_OVER = PLAN.closed | PLAN.settled | FAILURES
_DRIFTED = frozenset({DriftStatus.MODIFIED, DriftStatus.MISSING})


@dataclass(frozen=True, slots=True)
class _Heard:
    """A fact, where it stands in the feed, and what is told of it."""

    fact: Fact
    feed: int
    key: str
    chain: tuple[int, ...]
    cause: Mapping[str, Any]


async def unheard(transaction: Transaction, limit: int = 16) -> list[int]:
    """Tenants in whose feed there is something new for their standing plans."""
    return [row["tenant_id"] for row in await transaction.fetch(_UNHEARD, {"limit": limit})]


async def due(transaction: Transaction, limit: int = 16) -> list[tuple[int, int]]:
    """The (tenant, plan) of standing plans that have something to decide."""
    return [(row["tenant_id"], row["plan_id"]) for row in await transaction.fetch(_DUE, {"limit": limit})]


async def listen(database: Database, tenant_id: int) -> int:
    """Read on in the tenant's feed, a page at most; how many triggers were entered. Nothing when somebody is at it.

    A fault of ours is logged, so that it keeps no other tenant from being heard.
    """
    try:
        return await _listen(database, tenant_id)
    except DATABASE_AWAY:
        raise
    except Exception:
        _logger.exception("a tenant's feed could not be heard", tenant_id=tenant_id)
        return 0


async def _listen(database: Database, tenant_id: int) -> int:
    async with database.machine(tenant_id, actor=_ACTOR, correlation_id=f"automation-{tenant_id}") as transaction:
        transaction.authorize("the feed is heard on behalf of plans that somebody submitted")
        place = await transaction.fetch_one(_LOCK, {"tenant": tenant_id})
        if place is None:
            return 0
        await transaction.fetch(_SWEEP, {"tenant": tenant_id})
        listeners = await transaction.fetch(_LISTENERS, {"tenant": tenant_id})
        if not listeners:
            return 0
        # What nobody has waited for yet need not be read, however long nobody has.
        beginning = min(row["armed_feed"] for row in listeners)
        here = Position(place["feed"], place["stream"], place["stream_id"], place["seq"])
        settled = await feed.head(transaction)
        events = await feed.read(transaction, max(here, Position(beginning, "", 0, 0)), _PAGE)
        entered = await _enter(transaction, listeners, await _facts(transaction, events))
        await _wake(transaction, events)
        await _keep(transaction, _next(here, settled, events))
        return entered


def _next(here: Position, settled: Position, events: Sequence[FedEvent]) -> Position:
    """Where to go on: behind what was read, or, when that was all, behind what was settled."""
    if len(events) == _PAGE:
        return events[-1].position
    last = max((event.position.feed + 1 for event in events), default=0)
    return max(here, Position(max(last, settled.feed), "", 0, 0))


async def _keep(transaction: Transaction, place: Position) -> None:
    await transaction.fetch(
        _KEEP,
        {
            "tenant": transaction.tenant_id,
            "feed": place.feed,
            "stream": place.stream,
            "stream_id": place.stream_id,
            "seq": place.seq,
        },
    )


async def _facts(transaction: Transaction, events: Sequence[FedEvent]) -> list[_Heard]:
    """What of the events a plan can listen to."""
    succeeded = {event.stream_id for event in events if _succeeded(event)}
    drifted = {event.data["resourceId"] for event in events if _drifted(event)}
    plans = await _by_id(transaction, _PLANS, succeeded)
    resources = await _by_id(transaction, _RESOURCES, drifted)
    heard: list[_Heard] = []
    for event in events:
        key = f"{event.stream}/{event.stream_id}/{event.seq}"
        if _succeeded(event) and event.stream_id in plans:
            heard.append(_success(event, key, plans[event.stream_id]))
        elif _drifted(event) and event.data["resourceId"] in resources:
            heard.append(_drift(event, key, resources[event.data["resourceId"]]))
    return heard


def _succeeded(event: FedEvent) -> bool:
    return event.kind is EventKind.PLAN_STATUS_CHANGED and event.data.get("status") == PlanStatus.SUCCEEDED


def _drifted(event: FedEvent) -> bool:
    """Whether somebody else changed a resource. A job that works on it says so in its own stream, which is no drift."""
    data = event.data
    found = data.get("driftStatus", data.get("drift"))
    return (
        event.kind is EventKind.RESOURCE_CHANGED
        and event.stream is Stream.PLAN
        and found in _DRIFTED
        and isinstance(data.get("resourceId"), int)
    )


def _success(event: FedEvent, key: str, plan: Row) -> _Heard:
    """A run counts for the plan that it is a run of, and for every plan that led to it."""
    upstream = plan["parent_plan_id"] or plan["id"]
    chain = [*(plan["chain"] or ()), plan["fired_by"]] if plan["fired_by"] is not None else [upstream]
    names = {plan["plan_name"], *(global_id("DeploymentPlan", number) for number in {plan["id"], upstream})}
    cause = {
        "at": instant(event.at),
        "plan": plan["plan_name"],
        "planId": global_id("DeploymentPlan", plan["id"]),
        "stack": plan["stack"],
    }
    return _Heard(Fact(TriggerKind.PLAN_SUCCEEDED, names), event.position.feed, key, tuple(chain), cause)


def _drift(event: FedEvent, key: str, resource: Row) -> _Heard:
    """Somebody outside did it, so it begins a chain of its own: the run that made the resource did not lead to it."""
    cause = {
        "at": instant(event.at),
        "resource": resource["resource_key"],
        "stack": resource["stack"],
        "drift": event.data.get("driftStatus", event.data.get("drift")),
    }
    return _Heard(Fact(TriggerKind.DRIFT, {resource["stack"]}), event.position.feed, key, (), cause)


async def _by_id(transaction: Transaction, statement: Statement, ids: Iterable[int]) -> dict[int, Row]:
    wanted = sorted(ids)
    if not wanted:
        return {}
    rows = await transaction.fetch(statement, {"tenant": transaction.tenant_id, "ids": wanted})
    return {row["id"]: row for row in rows}


async def _enter(transaction: Transaction, listeners: Sequence[Row], heard: Sequence[_Heard]) -> int:
    """A trigger for each plan that listens to what was heard, and did when it happened."""
    found: list[tuple[int, _Heard]] = []
    for row in listeners:
        automation = Automation.of(row["automation"])
        found.extend(
            (row["plan_id"], item)
            for item in heard
            if item.feed >= row["armed_feed"] and automation.hears(item.fact, row["stack"])
        )
    if not found:
        return 0
    entered = await transaction.fetch(
        _ENTER,
        {
            "tenant": transaction.tenant_id,
            "plans": [plan_id for plan_id, _ in found],
            "kinds": [item.fact.kind.value for _, item in found],
            "keys": [item.key for _, item in found],
            "chains": [dumps(list(item.chain)) for _, item in found],
            "causes": [dumps(dict(item.cause)) for _, item in found],
        },
    )
    return len(entered)


async def _wake(transaction: Transaction, events: Sequence[FedEvent]) -> None:
    """Runs that are over make room, and count for the circuit breaker."""
    over = {
        event.stream_id
        for event in events
        if event.kind is EventKind.PLAN_STATUS_CHANGED and event.data.get("status") in _OVER
    }
    if over:
        await transaction.fetch(_WAKE, {"tenant": transaction.tenant_id, "ids": sorted(over)})
