"""Settles resources whose state nobody knows, once no job works on their stack: by what is found outside.

A creation that was cut off is asked for by its operation id; what is recorded already is read; what somebody wants
taken as it is, is read under the identity that was named. Where nothing is found although a request may still be under
way, the answer is not believed yet.
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
from app.domain.drifting import Deviation, DriftPolicy, deviations
from app.domain.enums import ChangeAction, DriftStatus
from app.domain.statuses import RESOURCE, ResourceStatus
from app.domain.values import Value, reveal
from app.engine.inheriting import MAKING
from app.engine.states import Hidden, pack, words_in
from app.providers.base import ResourceState
from app.providers.registry import Registry

# Who cannot be reached now is asked again later, for as long as nobody decides otherwise.
_LATER_SECONDS = 3600.0
_OPEN = "state IN ('INTENT', 'UNKNOWN', 'FAILED')"
_TWIN = Statement(
    "SELECT 1 FROM cloud_resource WHERE tenant_id = :tenant AND id <> :id AND type = :type AND external_id = :external"
    " AND connection IS NOT DISTINCT FROM :connection AND status <> ALL(:over::text[]) LIMIT 1"
)
_TAKEN = Statement(
    "WITH taken AS (UPDATE cloud_resource SET status = :status, desired = :properties::jsonb,"
    " applied = :properties::jsonb, observed = :properties::jsonb, outputs = :outputs::jsonb,"
    " private = :private::jsonb, external_id = :external, state_version = :state_version, revision = revision + 1,"
    " drift_status = 'IN_SYNC', drift = NULL, drift_checked_at = clock_timestamp(), observe_until = NULL,"
    " observe_failures = 0, observe_error = NULL, observe_at = :next::timestamptz, in_doubt_step_id = NULL,"
    " adopt_id = NULL, revert_at = NULL, depends_on = coalesce(:needs::text[], depends_on), version = version + 1,"
    " updated_at = now() WHERE tenant_id = :tenant AND id = :id RETURNING revision)"
    " INSERT INTO resource_revision (tenant_id, resource_id, number, properties, outputs)"
    " SELECT :tenant, :id, revision, :properties::jsonb, :outputs::jsonb FROM taken"
)
_FOUND = Statement(
    "UPDATE cloud_resource SET status = :status, drift_status = :drift_status, drift = :drift::jsonb,"
    " observed = coalesce(:observed::jsonb, observed), drift_checked_at = clock_timestamp(), observe_until = NULL,"
    " observe_failures = 0, observe_error = NULL, observe_at = :next::timestamptz, in_doubt_step_id = NULL,"
    " adopt_id = NULL, version = version + 1, updated_at = now() WHERE tenant_id = :tenant AND id = :id"
)
_GONE = Statement(
    "UPDATE cloud_resource SET status = :status, is_deleted = true, drift_status = 'NOT_CHECKED', drift = NULL,"
    " observed = NULL, observe_until = NULL, observe_failures = 0, observe_error = NULL, observe_at = NULL,"
    " in_doubt_step_id = NULL, adopt_id = NULL, version = version + 1, updated_at = now()"
    " WHERE tenant_id = :tenant AND id = :id"
)
_NOT_YET = Statement(
    "UPDATE cloud_resource SET observe_until = NULL, observe_failures = 0, observe_error = :error::jsonb,"
    " observe_at = :next::timestamptz, adopt_id = NULL, version = version + 1, updated_at = now()"
    " WHERE tenant_id = :tenant AND id = :id"
)
_EFFECT = Statement(
    "UPDATE step_effect SET state = :state, after = coalesce(:after::jsonb, after), completed_at = clock_timestamp()"  # noqa: S608
    f" WHERE tenant_id = :tenant AND step_run_id = :step AND direction = 'FORWARD' AND {_OPEN}"
)


@dataclass(frozen=True, slots=True)
class Settler:
    """Writes down what was found of a resource that is UNKNOWN. `held` is its locked row, with its effect in doubt."""

    registry: Registry
    sealer: Sealer

    async def settle(
        self,
        transaction: Transaction,
        held: Row,
        state: ResourceState | None,
        error: Mapping[str, str] | None,
        *,
        made: bool,
    ) -> None:
        """`made`: the state is what the operation in doubt has made."""
        if state is not None and error is None and await self._is_managed(transaction, held, state):
            error = {"code": "ALREADY_MANAGED", "message": f"{state.id} is managed as another resource already"}
        if error is None and state is None:
            error = _too_early(held)
        if error is not None:
            await self._leave(transaction, held, error)
        elif state is None:
            await self._vanished(transaction, held)
        elif made or held["adopt_id"] is not None or held["applied"] is None or self._is_intended(held, state):
            await self._take(transaction, held, state, made=made)
        else:
            await self._compare(transaction, held, state)

    async def _leave(self, transaction: Transaction, held: Row, error: Mapping[str, str]) -> None:
        """It stays unknown; why is on it for whoever has to decide."""
        until = error.get("until")
        told = {name: text for name, text in error.items() if name != "until"}
        later = held["now"].timestamp() + _LATER_SECONDS
        next_at = datetime.fromisoformat(until) if until else datetime.fromtimestamp(later, held["now"].tzinfo)
        await transaction.fetch(_NOT_YET, {**_key(transaction, held), "error": dumps(told), "next": next_at})

    async def _vanished(self, transaction: Transaction, held: Row) -> None:
        target = RESOURCE.after(ResourceStatus(held["status"]), "observed_absent")
        await transaction.fetch(_GONE, {**_key(transaction, held), "status": target.value})
        if held["effect_action"] == ChangeAction.DELETE:
            await self._close(transaction, held, "DONE", None)
        await drift.tell(transaction, held, target, DriftStatus.NOT_CHECKED)

    async def _take(self, transaction: Transaction, held: Row, state: ResourceState, *, made: bool) -> None:
        """What was found is what counts as applied from now on."""
        target = RESOURCE.after(ResourceStatus(held["status"]), "observed")
        hidden = self._hidden(transaction, held)
        seal, tenant_id = self.sealer.seal, transaction.tenant_id
        await transaction.fetch(
            _TAKEN,
            {
                **_key(transaction, held),
                "status": target.value,
                "properties": dumps(seal(hidden.properties(state), tenant_id)),
                "outputs": dumps(seal(hidden.outputs(state.outputs), tenant_id)),
                "private": dumps(state.private),
                "external": state.id,
                "state_version": state.version,
                "needs": held["effect_needs"] if made else None,
                "next": _next(held),
            },
        )
        ours = made or self._is_intended(held, state)
        # What somebody has pointed at was not made by the operation: a rollback of that one leaves it alone.
        await self._close(transaction, held, "DONE" if ours else "UNDONE", self._packed(transaction, held, state, ours))
        await drift.tell(transaction, held, target, DriftStatus.IN_SYNC)

    async def _compare(self, transaction: Transaction, held: Row, state: ResourceState) -> None:
        """It is there, and as it was or otherwise."""
        target = RESOURCE.after(ResourceStatus(held["status"]), "observed")
        kind, hidden = self.registry.resource(held["type"]), self._hidden(transaction, held)
        found: tuple[Deviation, ...] = ()
        status, observed = DriftStatus.UNSUPPORTED, None
        if kind.observable:
            applied = reveal(self.sealer.open(held["applied"], transaction.tenant_id))
            found = deviations(kind.compare(state.properties, applied), [], held["now"])
            status = DriftStatus.MODIFIED if found else DriftStatus.IN_SYNC
            observed = dumps(self.sealer.seal(hidden.properties(state), transaction.tenant_id))
        await transaction.fetch(
            _FOUND,
            {
                **_key(transaction, held),
                "status": target.value,
                "drift_status": status.value,
                "drift": self._sealed(found, transaction.tenant_id) if found else None,
                "observed": observed,
                "next": _next(held),
            },
        )
        await drift.tell(transaction, held, target, status)

    def _is_intended(self, held: Row, state: ResourceState) -> bool:
        """Whether an update in doubt has been carried out."""
        if held["effect_action"] != ChangeAction.UPDATE or held["effect_intended"] is None:
            return False
        intended = reveal(self.sealer.open(held["effect_intended"], held["tenant_id"]))
        wanted = self.registry.resource(held["type"]).compare(state.properties, intended)
        return wanted.action is ChangeAction.NO_CHANGE

    async def _is_managed(self, transaction: Transaction, held: Row, state: ResourceState) -> bool:
        twin = {"type": held["type"], "connection": held["connection"], "external": state.id}
        key = _key(transaction, held)
        return bool(await transaction.fetch(_TWIN, {**key, **twin, "over": sorted(RESOURCE.closed)}))

    async def _close(self, transaction: Transaction, held: Row, state: str, after: str | None) -> None:
        if held["in_doubt_step_id"] is not None:
            key = {"tenant": transaction.tenant_id, "step": held["in_doubt_step_id"]}
            await transaction.fetch(_EFFECT, {**key, "state": state, "after": after})

    def _packed(self, transaction: Transaction, held: Row, state: ResourceState, ours: bool) -> str | None:
        hidden = self._hidden(transaction, held)
        return dumps(pack(state, hidden, self.sealer, transaction.tenant_id)) if ours else None

    def _hidden(self, transaction: Transaction, held: Row) -> Hidden:
        known = [self.sealer.open(held[name], transaction.tenant_id) for name in ("effect_intended", "applied")]
        return Hidden(self.registry.secret(held["type"]), words_in(*(tree for tree in known if tree is not None)))

    def _sealed(self, found: tuple[Deviation, ...], tenant_id: int) -> str:
        documents: Value = [deviation.document() for deviation in found]
        return dumps(self.sealer.seal(documents, tenant_id))


def _too_early(held: Row) -> dict[str, str] | None:
    """Why nothing that was found does not count yet: a request of the operation in doubt may still arrive."""
    if held["adopt_id"] is not None:
        return {"code": "NOT_FOUND", "message": f"there is no {held['adopt_id']}"}
    until, makes = held["effect_until"], held["effect_action"] in MAKING
    if not makes or until is None or until <= held["now"]:
        return None
    message = f"nothing is there yet; a request may be under way until {until:%Y-%m-%d %H:%M:%S} UTC"
    return {"code": "UNSETTLED", "message": message, "until": until.isoformat()}


def _next(held: Row) -> datetime | None:
    policy = DriftPolicy.of({"drift": held["policy"]})
    return None if policy.every is None else held["now"] + policy.every


def _key(transaction: Transaction, held: Row) -> dict[str, Any]:
    return {"tenant": transaction.tenant_id, "id": held["id"]}
