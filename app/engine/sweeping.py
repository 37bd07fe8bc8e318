"""The sweep behind undone effects: what arrives at a provider after its operation was undone is removed.

A request that was under way when its worker died has nobody who hears its answer. Whoever undid the step asked what the
operation had made, and that may have been too early. So the provider is asked again, for an hour and less and less
often, by the id of the operation, which nobody else uses any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import Row, Statement
from app.db.uow import Database, SystemRole, Transaction
from app.domain.operations import EffectState, OperationKind
from app.domain.statuses import RESOURCE
from app.domain.values import reveal
from app.engine import awaiting, undoing
from app.engine.connections import Connections
from app.engine.inheriting import MAKING
from app.engine.observing import DEADLINE_SECONDS, ObservationContext, Place
from app.engine.work import Mode, Undone, Work
from app.providers.base import Idempotency, ProviderError, ResourceState
from app.providers.registry import Registry

_logger = structlog.get_logger(__name__)

FIRST_SECONDS = 5.0
_LONGEST_SECONDS = 900.0
_AGAIN_SECONDS = 30.0
_AT_A_TIME = 4
# Where the outside world deduplicates by the operation id, a late request makes nothing; asking might.
_TELLING = frozenset({Idempotency.NAME, Idempotency.TAG})
# Only where an answer may have been lost: an attempt that ended otherwise has heard what became of its request.
_ARM = Statement(
    "UPDATE step_effect e SET sweep_at = clock_timestamp() + make_interval(secs => :first), sweeps = 0"
    " WHERE e.tenant_id = :tenant AND e.step_run_id = :step AND e.direction = 'FORWARD' AND (:open OR EXISTS ("
    "  SELECT FROM step_attempt a WHERE a.tenant_id = :tenant AND a.step_run_id = :step AND a.direction = 'FORWARD'"
    "  AND (a.ended_at IS NULL OR NOT a.counts OR a.error->>'class' IN ('TIMEOUT', 'INDETERMINATE'))))"
)
# Whoever dies with one in mind, or is not answered, leaves it to somebody else soon; the last look is an hour after the
# effect was undone.
_CLAIM = Statement(
    "UPDATE step_effect SET sweep_at = CASE WHEN completed_at > clock_timestamp() - interval '1 hour'"
    "   THEN clock_timestamp() + make_interval(secs => :again) END"
    " WHERE id = ANY(ARRAY(SELECT id FROM step_effect WHERE sweep_at <= statement_timestamp() ORDER BY sweep_at"
    "   LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED)) RETURNING tenant_id, id"
)
_LOOKED = Statement(
    "UPDATE step_effect SET sweeps = sweeps + 1,"
    " sweep_at = clock_timestamp() + make_interval(secs => least(:first * power(4, sweeps + 1), :longest))"
    " WHERE tenant_id = :tenant AND id = :id AND sweep_at IS NOT NULL"
)
_LOOK = Statement(
    "SELECT e.id, e.operation_id, e.intended, e.sweeps, s.spec, s.step_key, j.stack, t.slug FROM step_effect e"
    " JOIN step_run s ON s.tenant_id = :tenant AND s.id = e.step_run_id"
    " JOIN orchestration_job j ON j.tenant_id = :tenant AND j.id = s.job_id JOIN tenant t ON t.id = :tenant"
    " WHERE e.tenant_id = :tenant AND e.id = :id AND e.state = 'UNDONE'"
)
# What a resource is recorded as is no leftover: an earlier one that was made again, or one that somebody adopted.
_MANAGED = Statement(
    "SELECT 1 FROM cloud_resource WHERE tenant_id = :tenant AND type = :type AND external_id = :external"
    " AND connection IS NOT DISTINCT FROM :connection::text AND status <> ALL(:over::text[]) LIMIT 1"
)


async def arm(ledger: Ledger, registry: Registry, work: Work, outcome: object) -> None:
    """Have the provider asked again later, if a request of the effect that was just undone may still be under way."""
    effect = work.effect
    if work.mode is not Mode.UNDO or not isinstance(outcome, Undone) or ledger.simulated or effect is None:
        return
    if work.operation is not OperationKind.APPLY or effect.action not in MAKING:
        return
    if registry.resource(work.spec["type"]).idempotency in _TELLING:
        left_open = effect.state in (EffectState.INTENT, EffectState.UNKNOWN)
        key = {"tenant": work.tenant_id, "step": work.effect_of}
        await ledger.transaction.fetch(_ARM, {**key, "first": FIRST_SECONDS, "open": left_open})


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Asks what undone operations have made after all, and removes it."""

    database: Database
    registry: Registry
    sealer: Sealer
    connections: Connections
    artifacts: Path

    async def round(self, limit: int = _AT_A_TIME) -> int:
        """Look behind what is due, at most `limit` effects side by side; returns how many things were removed."""
        async with self.database.system(SystemRole.TICK) as transaction:
            due = await transaction.fetch(_CLAIM, {"again": _AGAIN_SECONDS, "limit": limit})
        results = await asyncio.gather(*(self._carry(row["tenant_id"], row["id"]) for row in due))
        return sum(results)

    async def _carry(self, tenant_id: int, effect_id: int) -> bool:
        """Whether something was found and removed. What goes wrong is tried again soon."""
        async with self._transaction(tenant_id, effect_id) as transaction:
            row = await transaction.fetch_one(_LOOK, {"tenant": tenant_id, "id": effect_id})
        try:
            async with asyncio.timeout(2 * DEADLINE_SECONDS):
                removed = row is not None and await self._look_behind(tenant_id, row)
            times = {"first": FIRST_SECONDS, "longest": _LONGEST_SECONDS}
            async with self._transaction(tenant_id, effect_id) as transaction:
                await transaction.fetch(_LOOKED, {**times, "tenant": tenant_id, "id": effect_id})
        except (ProviderError, TimeoutError) as error:
            _logger.info("nobody says what an undone step has made late", effect_id=effect_id, error=str(error))
        except Exception:
            _logger.exception("a look behind an undone step went wrong", effect_id=effect_id)
        else:
            return removed
        return False

    async def _look_behind(self, tenant_id: int, row: Row) -> bool:
        spec = self.sealer.open(row["spec"], tenant_id)
        kind = self.registry.resource(spec["type"])
        folder = self.artifacts / str(tenant_id)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        provider, connection = spec.get("provider"), spec.get("connection")
        async with self.connections.session(tenant_id, provider, connection) as session:
            owner = f"windlass:{row['slug']}:{row['stack']}:{spec.get('resourceKey') or row['step_key']}"
            place = Place(tenant_id, provider, owner, row["operation_id"].hex, row["sweeps"])
            context = ObservationContext(place, session, folder, self.connections)
            intended = reveal(self.sealer.open(row["intended"] or {}, tenant_id))
            made = await awaiting.made(kind, intended, context)
            if made is None or await self._is_managed(tenant_id, row["id"], kind.name, connection, made):
                return False
            outcome = await undoing.remove(kind, made, context)
        _logger.warning("what arrived after its step was undone is removed", type=kind.name, step=row["step_key"])
        return isinstance(outcome, Undone)

    async def _is_managed(
        self, tenant_id: int, effect_id: int, type_: str, connection: str | None, made: ResourceState
    ) -> bool:
        place = {"type": type_, "external": made.id, "connection": connection, "over": sorted(RESOURCE.closed)}
        async with self._transaction(tenant_id, effect_id) as transaction:
            return bool(await transaction.fetch(_MANAGED, {"tenant": tenant_id, **place}))

    @asynccontextmanager
    async def _transaction(self, tenant_id: int, effect_id: int) -> AsyncIterator[Transaction]:
        async with self.database.machine(
            tenant_id, actor="system:sweeper", correlation_id=f"effect-{effect_id}"
        ) as transaction:
            transaction.authorize("engine: the job was authorised when it was made, and its undoing with it")
            yield transaction
