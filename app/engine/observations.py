"""Observations in the database: which are due, who has one, and what was found.

An observation is part of its resource's row: when it is due, whose it is until when, and a fence. Whoever has the
newest fence may write what was found, and only if the resource still is what was looked at and no job works on its
stack: a job knows better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.db import drift
from app.db.sealing import Sealer
from app.db.statements import Row, Statement, dumps
from app.db.uow import Transaction
from app.domain.drifting import Deviation, DriftPolicy, IgnoreRule, as_found, deviations
from app.domain.enums import ChangeAction, DriftReaction, DriftStatus
from app.domain.statuses import RESOURCE, ResourceStatus
from app.domain.values import reveal
from app.engine.settling import Settler
from app.engine.states import conceal
from app.providers.base import ResourceState
from app.providers.registry import Registry

# Tries in a row, crashes of workers included, before nobody knows.
MOST_FAILURES = 3
_FIRST_PAUSE_SECONDS = 15.0

_FREE = (
    " observe_at <= statement_timestamp() AND status IN ('ACTIVE', 'IMPORTING', 'UNKNOWN')"
    " AND (observe_until IS NULL OR observe_until <= statement_timestamp())"
)
# Round robin over tenants; a stack that a job works on is left alone. A lease that ran out is a failure by itself.
_CLAIM = Statement(
    "WITH ranked AS (SELECT id, observe_at, row_number() OVER (PARTITION BY tenant_id ORDER BY observe_at, id) AS turn"  # noqa: S608
    f"  FROM (SELECT id, tenant_id, observe_at FROM cloud_resource r WHERE {_FREE}"
    "    AND NOT EXISTS (SELECT 1 FROM resource_lock l WHERE l.tenant_id = r.tenant_id"
    "      AND l.lock_key = 'stack/' || r.stack) ORDER BY observe_at, id LIMIT 500) due),"
    " picked AS (SELECT c.id FROM cloud_resource c JOIN ranked ON ranked.id = c.id"
    f"  WHERE {_FREE.replace('observe_at <=', 'c.observe_at <=')} ORDER BY ranked.turn, ranked.observe_at LIMIT :limit"
    "  FOR NO KEY UPDATE OF c SKIP LOCKED)"
    " UPDATE cloud_resource c SET observe_until = clock_timestamp() + make_interval(secs => :lease),"
    " observe_fence = c.observe_fence + 1,"
    " observe_failures = c.observe_failures + (c.observe_until IS NOT NULL)::int"
    " FROM picked WHERE c.id = picked.id RETURNING c.tenant_id, c.id, c.observe_fence"
)
# The effect in doubt, if one is. A request of it has arrived, or never will, some time after its step's time was up.
_IN_DOUBT = (
    " LEFT JOIN LATERAL (SELECT e.action, e.operation_id, e.intended, e.before, s.spec, coalesce(e.completed_at,"
    "   e.created_at) + make_interval(secs => s.timeout_seconds + 60) AS until"
    "   FROM step_effect e JOIN step_run s ON s.tenant_id = :tenant AND s.id = e.step_run_id"
    "   WHERE e.tenant_id = :tenant AND e.step_run_id = r.in_doubt_step_id AND e.direction = 'FORWARD'"
    "   AND e.state IN ('INTENT', 'UNKNOWN', 'FAILED') LIMIT 1) d ON r.status = 'UNKNOWN'"
)
_LOOK = Statement(
    "SELECT r.id, r.version, r.stack, r.resource_key, r.type, r.provider, r.connection, r.status, r.external_id,"  # noqa: S608
    " r.applied, r.outputs, r.private, r.state_version, r.observe_failures, r.adopt_id, t.slug,"
    " d.action AS effect_action, d.operation_id AS effect_operation_id, d.intended AS effect_intended,"
    " d.before->>'id' AS effect_before_id"
    f" FROM cloud_resource r JOIN tenant t ON t.id = r.tenant_id{_IN_DOUBT}"
    " WHERE r.tenant_id = :tenant AND r.id = :id AND r.observe_fence = :fence"
)
_HOLD = Statement(
    # All of it is ours.
    "SELECT r.id, r.tenant_id, r.version, r.stack, r.resource_key, r.type, r.connection, r.status, r.applied, r.drift,"  # noqa: S608
    " r.drift_status, r.drift_ignores, r.observe_failures, r.owner_plan_id, p.configuration->'drift' AS policy,"
    " clock_timestamp() AS now, r.in_doubt_step_id, r.adopt_id, d.action AS effect_action,"
    " d.intended AS effect_intended, d.until AS effect_until, d.spec->'dependsOnResources' AS effect_needs,"
    " EXISTS (SELECT 1 FROM resource_lock l WHERE l.tenant_id = :tenant AND l.lock_key = 'stack/' || r.stack) AS locked"
    " FROM cloud_resource r LEFT JOIN deployment_plan p ON p.tenant_id = r.tenant_id AND p.id = r.owner_plan_id"
    f"{_IN_DOUBT}"
    " WHERE r.tenant_id = :tenant AND r.id = :id AND r.observe_fence = :fence FOR NO KEY UPDATE OF r"
)
_LET_GO = Statement("UPDATE cloud_resource SET observe_until = NULL WHERE tenant_id = :tenant AND id = :id")
_AGAIN = Statement(
    "UPDATE cloud_resource SET observe_until = NULL, observe_failures = observe_failures + 1,"
    " observe_error = :error::jsonb, observe_at = clock_timestamp() + make_interval(secs => :pause)"
    " WHERE tenant_id = :tenant AND id = :id"
)
_FOUND = Statement(
    "UPDATE cloud_resource SET drift_status = :drift_status, drift = :drift::jsonb,"
    " observed = CASE WHEN :seen THEN :observed::jsonb ELSE observed END,"
    " drift_checked_at = CASE WHEN :seen THEN clock_timestamp() ELSE drift_checked_at END,"
    " observe_until = NULL, observe_failures = 0, observe_error = :error::jsonb, observe_at = :next::timestamptz,"
    " revert_at = CASE WHEN :reverts THEN coalesce(revert_at, :thaw::timestamptz, clock_timestamp())"
    "   WHEN :drifted THEN revert_at END,"
    " version = version + :changed::boolean::int,"
    " updated_at = CASE WHEN :changed::boolean THEN now() ELSE updated_at END"
    " WHERE tenant_id = :tenant AND id = :id"
)
_TWIN = Statement(
    "SELECT 1 FROM cloud_resource WHERE tenant_id = :tenant AND id <> :id AND type = :type AND external_id = :external"
    " AND connection IS NOT DISTINCT FROM :connection AND status <> ALL(:over::text[]) LIMIT 1"
)
_IMPORTED = Statement(
    "WITH taken AS (UPDATE cloud_resource SET status = 'ACTIVE', desired = :properties::jsonb,"
    " applied = :properties::jsonb, observed = :properties::jsonb, outputs = :outputs::jsonb,"
    " private = :private::jsonb, external_id = :external, state_version = :state_version, revision = revision + 1,"
    " drift_status = 'IN_SYNC', drift_checked_at = clock_timestamp(), observe_until = NULL, observe_failures = 0,"
    " observe_error = NULL, observe_at = :next::timestamptz, version = version + 1, updated_at = now()"
    " WHERE tenant_id = :tenant AND id = :id RETURNING revision)"
    " INSERT INTO resource_revision (tenant_id, resource_id, number, properties, outputs)"
    " SELECT :tenant, :id, revision, :properties::jsonb, :outputs::jsonb FROM taken"
)
_REFUSED = Statement(
    "UPDATE cloud_resource SET status = :status, observe_error = :error::jsonb, observe_until = NULL,"
    " observe_at = NULL, version = version + 1, updated_at = now() WHERE tenant_id = :tenant AND id = :id"
)
_REVERTS = Statement(
    "SELECT DISTINCT tenant_id, owner_plan_id AS id FROM cloud_resource WHERE revert_at <= statement_timestamp()"
    " AND owner_plan_id IS NOT NULL LIMIT :limit"
)
_ENDED = Statement(
    "SELECT tenant_id, id FROM deployment_plan WHERE ttl_at <= statement_timestamp() AND ttl_at IS NOT NULL"
    " ORDER BY ttl_at LIMIT :limit"
)


@dataclass(frozen=True, slots=True)
class Due:
    """A claimed observation; `fence` is the right to write what was found."""

    tenant_id: int
    resource_id: int
    fence: int


@dataclass(frozen=True, slots=True)
class Subject:
    """The resource as it is recorded when it is looked at."""

    due: Due
    row: Row

    @property
    def imports(self) -> bool:
        """Whether it is looked at for the first time."""
        return bool(self.row["status"] == ResourceStatus.IMPORTING)

    @property
    def is_unknown(self) -> bool:
        """Whether nobody knows what became of it."""
        return bool(self.row["status"] == ResourceStatus.UNKNOWN)

    @property
    def is_in_the_making(self) -> bool:
        """Whether an operation in doubt may have made something that is not recorded."""
        row = self.row
        made = row["effect_action"] in (ChangeAction.CREATE, ChangeAction.REPLACE)
        return self.is_unknown and made and row["effect_before_id"] == row["external_id"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look has brought: a state, nothing (the resource is gone), or why nobody can tell."""

    state: ResourceState | None = None
    # Whether that is what the operation in doubt has made.
    made: bool = False
    unsupported: bool = False
    error: Mapping[str, str] | None = None
    # Whether trying again may help.
    transient: bool = False


async def claim(transaction: Transaction, limit: int, lease_seconds: float) -> list[Due]:
    """Take observations that are due, of all tenants; at most `limit`."""
    rows = await transaction.fetch(_CLAIM, {"limit": limit, "lease": lease_seconds})
    return [Due(row["tenant_id"], row["id"], row["observe_fence"]) for row in rows]


async def to_revert(transaction: Transaction, limit: int = 16) -> list[tuple[int, int]]:
    """The (tenant, plan) whose resources drifted and are to be put back."""
    return [(row["tenant_id"], row["id"]) for row in await transaction.fetch(_REVERTS, {"limit": limit})]


async def outlived(transaction: Transaction, limit: int = 16) -> list[tuple[int, int]]:
    """The (tenant, plan) whose resources have lived as long as they were to."""
    return [(row["tenant_id"], row["id"]) for row in await transaction.fetch(_ENDED, {"limit": limit})]


async def look(transaction: Transaction, due: Due) -> Subject | None:
    """What is to be looked at; None when somebody else has taken it over."""
    key = {"tenant": due.tenant_id, "id": due.resource_id, "fence": due.fence}
    row = await transaction.fetch_one(_LOOK, key)
    return None if row is None else Subject(due, row)


@dataclass(frozen=True, slots=True)
class Archivist:
    """Writes down what was found."""

    registry: Registry
    sealer: Sealer

    async def record(self, transaction: Transaction, subject: Subject, finding: Finding) -> bool:
        """Write the finding. False, and nothing written of it, when the resource is no longer what was looked at."""
        due = subject.due
        key = {"tenant": due.tenant_id, "id": due.resource_id}
        held = await transaction.fetch_one(_HOLD, {**key, "fence": due.fence})
        if held is None:
            return False
        moved = held["version"] != subject.row["version"] or held["status"] != subject.row["status"]
        if moved or held["locked"]:
            await transaction.fetch(_LET_GO, key)
            return False
        if finding.error is not None and finding.transient and held["observe_failures"] + 1 < MOST_FAILURES:
            pause = _FIRST_PAUSE_SECONDS * 2 ** held["observe_failures"]
            await transaction.fetch(_AGAIN, {**key, "error": dumps(finding.error), "pause": pause})
        elif subject.is_unknown:
            settler = Settler(self.registry, self.sealer)
            await settler.settle(transaction, held, finding.state, finding.error, made=finding.made)
        elif subject.imports:
            await self._import(transaction, held, finding)
        else:
            await self._compare(transaction, held, finding)
        return True

    async def _compare(self, transaction: Transaction, held: Row, finding: Finding) -> None:
        key = {"tenant": transaction.tenant_id, "id": held["id"]}
        kind = self.registry.resource(held["type"])
        policy = DriftPolicy.of({"drift": held["policy"]})
        rules = [IgnoreRule.from_document(stored) for stored in held["drift_ignores"] or ()]
        applied = self.sealer.open(held["applied"] or {}, transaction.tenant_id)
        found: tuple[Deviation, ...] = ()
        status, observed = DriftStatus.IN_SYNC, None
        if finding.unsupported:
            status = DriftStatus.UNSUPPORTED
        elif finding.error is not None:
            status = DriftStatus.UNKNOWN
        elif finding.state is None:
            status = DriftStatus.MISSING
        else:
            observed = self.sealer.seal(conceal(finding.state.properties, kind.secret), transaction.tenant_id)
            back = kind.compare(finding.state.properties, reveal(applied))
            found = deviations(back, rules, held["now"])
            if found:
                status = DriftStatus.MODIFIED
        changed = status != held["drift_status"] or found != self._known(held, transaction.tenant_id)
        drifted = status in (DriftStatus.MODIFIED, DriftStatus.MISSING)
        thaw = policy.thaw(held["now"]) if drifted else None
        accepts = drifted and policy.reaction is DriftReaction.ACCEPT
        await transaction.fetch(
            _FOUND,
            {
                **key,
                "drift_status": status.value,
                "drift": self._sealed(found, transaction.tenant_id) if found else None,
                "seen": finding.error is None and not finding.unsupported,
                "observed": None if observed is None else dumps(observed),
                "error": None if finding.error is None else dumps(dict(finding.error)),
                # What is to be accepted once the freeze is over is looked at again then.
                "next": None if finding.unsupported else _next(policy, rules, held["now"], thaw if accepts else None),
                "thaw": thaw,
                # Whoever has thrown the plan away that puts it back is not given the same one again.
                "reverts": drifted and changed and policy.reaction is DriftReaction.PLAN,
                "drifted": drifted,
                "changed": changed,
            },
        )
        resource = ResourceStatus(held["status"])
        if accepts and thaw is None:
            resource, status = await self._accept(transaction, held, status, conceal(applied, kind.secret), found)
        if status != held["drift_status"] or resource != held["status"]:
            await drift.tell(transaction, held, resource, status)

    def _known(self, held: Row, tenant_id: int) -> tuple[Deviation, ...]:
        return tuple(Deviation.from_document(self.sealer.open(stored, tenant_id)) for stored in held["drift"] or ())

    def _sealed(self, found: tuple[Deviation, ...], tenant_id: int) -> str:
        return dumps(self.sealer.seal([deviation.document() for deviation in found], tenant_id))

    async def _accept(
        self,
        transaction: Transaction,
        held: Row,
        status: DriftStatus,
        applied: Mapping[str, Any],
        found: tuple[Deviation, ...],
    ) -> tuple[ResourceStatus, DriftStatus]:
        if status is DriftStatus.MISSING:
            gone = await drift.accept_absence(transaction, held["id"], ResourceStatus(held["status"]))
            return gone, DriftStatus.NOT_CHECKED
        properties = as_found(applied, found)
        sealed = self.sealer.seal(properties, transaction.tenant_id)
        await drift.accept_properties(transaction, held["id"], sealed)
        return ResourceStatus(held["status"]), DriftStatus.IN_SYNC

    async def _import(self, transaction: Transaction, held: Row, finding: Finding) -> None:
        key = {"tenant": transaction.tenant_id, "id": held["id"]}
        state, error = finding.state, finding.error
        if state is not None:
            twin = {"type": held["type"], "connection": held["connection"], "external": state.id}
            if await transaction.fetch(_TWIN, {**key, **twin, "over": sorted(RESOURCE.closed)}):
                error = {"code": "ALREADY_MANAGED", "message": f"{state.id} is managed as another resource already"}
        if state is None or error is not None:
            target = RESOURCE.after(ResourceStatus.IMPORTING, "fail")
            refusal = dumps(dict(error or {"code": "NOT_FOUND", "message": "there is no such thing"}))
            await transaction.fetch(_REFUSED, {**key, "status": target.value, "error": refusal})
            await drift.tell(transaction, held, target, DriftStatus.NOT_CHECKED)
            return
        secret = self.registry.secret(held["type"])
        await transaction.fetch(
            _IMPORTED,
            {
                **key,
                "properties": dumps(self.sealer.seal(conceal(state.properties, secret), transaction.tenant_id)),
                "outputs": dumps(self.sealer.seal(state.outputs, transaction.tenant_id)),
                "private": dumps(state.private),
                "external": state.id,
                "state_version": state.version,
                "next": _next(DriftPolicy.of({"drift": held["policy"]}), [], held["now"]),
            },
        )
        target = RESOURCE.after(ResourceStatus.IMPORTING, "ok")
        await drift.tell(transaction, held, target, DriftStatus.IN_SYNC)


def _next(policy: DriftPolicy, rules: list[IgnoreRule], now: datetime, thaw: datetime | None = None) -> datetime | None:
    """When to look again: as often as the plan says, and when a rule ends that hides something, or a freeze."""
    times = [rule.expires_at for rule in rules if rule.expires_at is not None and rule.holds(now)]
    times += [] if thaw is None else [thaw]
    if policy.every is not None:
        times.append(now + policy.every)
    return min(times, default=None)
