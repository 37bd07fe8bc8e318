"""What a step's expressions see when it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from app.db import upstream
from app.db.ledger import Ledger
from app.db.sealing import Sealer
from app.db.statements import Statement
from app.domain.values import Value
from app.engine.records import record_of

_STEPS = Statement(
    "SELECT step_key, outputs FROM step_run WHERE tenant_id = :tenant AND job_id = :job"
    " AND step_key = ANY(:keys) AND status IN ('SUCCEEDED', 'NO_CHANGE')"
)
_INSTANCE = re.compile(r"^(?P<key>[^\[]+)\[(?P<each>.*)\]$")


async def read_scope(ledger: Ledger, sealer: Sealer, spec: Mapping[str, Value]) -> dict[str, Value]:
    """The names that the step's expressions may use. Reads only the resources and steps that they do use."""
    transaction = ledger.transaction
    tenant_id = transaction.tenant_id
    configuration = ledger.configuration
    scope: dict[str, Value] = {
        "parameters": sealer.open(ledger.inputs, tenant_id),
        "plan": configuration.get("plan", {}),
        "tenant": configuration.get("tenant", {}),
        "steps": {},
        "resources": {},
    }
    if spec.get("each"):
        scope["each"] = spec["each"]
    wanted = spec.get("references") or {}
    if wanted.get("steps"):
        # What came of a step a moment ago may not be written yet.
        known = {key: {"outputs": ledger.outputs[key]} for key in wanted["steps"] if key in ledger.outputs}
        found = {
            "tenant": tenant_id,
            "job": ledger.job_id,
            "keys": [key for key in wanted["steps"] if key not in known],
        }
        for row in await transaction.fetch(_STEPS, found) if found["keys"] else ():
            scope["steps"][row["step_key"]] = {"outputs": sealer.open(row["outputs"] or {}, tenant_id)}
        scope["steps"] |= known
    if wanted.get("plans"):
        scope["plans"] = await _upstream(ledger, sealer, wanted["plans"])
    if wanted.get("resources"):
        found = {
            "tenant": tenant_id,
            "job": ledger.job_id,
            "stack": ledger.row["stack"],
            "keys": wanted["resources"],
        }
        for row in await transaction.fetch(record_of(ledger).visible, found):
            key = row["resource_key"]
            seen = {
                "id": row["external_id"],
                "properties": sealer.open(row["applied"] or {}, tenant_id),
                "outputs": sealer.open(row["outputs"] or {}, tenant_id),
            }
            instance = _INSTANCE.match(key)
            if instance is None:
                scope["resources"][key] = seen
            else:
                scope["resources"].setdefault(instance["key"], {})[instance["each"]] = seen
    return scope


async def _upstream(ledger: Ledger, sealer: Sealer, names: Sequence[str]) -> dict[str, Value]:
    """What other plans have put out, by the names under which the job knows them."""
    tenant_id = ledger.transaction.tenant_id
    ids = {name: number for name, number in (ledger.configuration.get("plans") or {}).items() if name in names}
    rows = await ledger.transaction.fetch(upstream.READ_OUTPUTS, {"tenant": tenant_id, "ids": list(ids.values())})
    outputs = {row["id"]: sealer.open(row["outputs"] or {}, tenant_id) for row in rows}
    return {name: {"outputs": outputs[number]} for name, number in ids.items() if number in outputs}
