"""What a step's expressions see when it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.engine import RowMapping

from app.db.sealing import Sealer
from app.db.uow import Transaction
from app.domain.values import Value

_STEPS = text(
    "SELECT step_key, outputs FROM step_run WHERE tenant_id = :tenant AND job_id = :job"
    " AND step_key = ANY(:keys) AND status IN ('SUCCEEDED', 'NO_CHANGE')"
)
_RESOURCES = text(
    "SELECT resource_key, external_id, applied, outputs FROM cloud_resource"
    " WHERE tenant_id = :tenant AND stack = :stack AND status IN ('ACTIVE', 'UPDATING', 'FAILED')"
    " AND split_part(resource_key, '[', 1) = ANY(:keys)"
)
_INSTANCE = re.compile(r"^(?P<key>[^\[]+)\[(?P<each>.*)\]$")


async def read_scope(
    transaction: Transaction, sealer: Sealer, job: RowMapping, spec: Mapping[str, Value]
) -> dict[str, Value]:
    """The names that the step's expressions may use. Reads only the resources and steps that they do use."""
    tenant_id = transaction.tenant_id
    configuration = job["configuration"] or {}
    scope: dict[str, Value] = {
        "parameters": sealer.open(job["inputs"] or {}, tenant_id),
        "plan": configuration.get("plan", {}),
        "tenant": configuration.get("tenant", {}),
        "steps": {},
        "resources": {},
    }
    if spec.get("each"):
        scope["each"] = spec["each"]
    wanted = spec.get("references") or {}
    if wanted.get("steps"):
        rows = await transaction.session.execute(
            _STEPS, {"tenant": tenant_id, "job": job["id"], "keys": wanted["steps"]}
        )
        for key, outputs in rows:
            scope["steps"][key] = {"outputs": sealer.open(outputs or {}, tenant_id)}
    if wanted.get("resources"):
        rows = await transaction.session.execute(
            _RESOURCES, {"tenant": tenant_id, "stack": job["stack"], "keys": wanted["resources"]}
        )
        for key, external_id, applied, outputs in rows:
            seen = {
                "id": external_id,
                "properties": sealer.open(applied or {}, tenant_id),
                "outputs": sealer.open(outputs or {}, tenant_id),
            }
            instance = _INSTANCE.match(key)
            if instance is None:
                scope["resources"][key] = seen
            else:
                scope["resources"].setdefault(instance["key"], {})[instance["each"]] = seen
    return scope
