"""Writes down what was seen of a condition or a trigger. The one place that does, so that the record stays bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.db.statements import Statement, dumps
from app.db.uow import Transaction
from app.domain.enums import StatusReason

# Of one plan. Those that saw the same in a row are one, so this is many changes and not many minutes.
KEPT: Final = 200
_LONGEST_TRIGGER = 120

# Time goes on by itself: that it did is nothing new. What ran is always an entry of its own.
_RECORD = Statement(
    "WITH newest AS (SELECT id, result, inputs, skip_reason, spawned_plan_id FROM condition_evaluation"
    "  WHERE tenant_id = :tenant AND plan_id = :plan ORDER BY at DESC, id DESC LIMIT 1),"
    " again AS (UPDATE condition_evaluation e SET last_at = clock_timestamp(), times = e.times + 1,"
    "  inputs = :inputs::jsonb, message = :message::text FROM newest n WHERE e.tenant_id = :tenant AND e.id = n.id"
    "  AND n.result = :result::boolean AND n.inputs - 'time' = :inputs::jsonb - 'time'"
    "  AND n.skip_reason IS NOT DISTINCT FROM :skip_reason::text"
    "  AND n.spawned_plan_id IS NULL AND :spawned::bigint IS NULL RETURNING e.id),"
    " fresh AS (INSERT INTO condition_evaluation"
    "  (tenant_id, plan_id, result, trigger, inputs, skip_reason, message, spawned_plan_id)"
    "  SELECT :tenant, :plan, :result::boolean, :trigger::text, :inputs::jsonb, :skip_reason::text, :message::text,"
    "  :spawned::bigint"
    "  WHERE NOT EXISTS (SELECT FROM again) RETURNING id),"
    " dropped AS (DELETE FROM condition_evaluation WHERE tenant_id = :tenant AND plan_id = :plan"
    "  AND EXISTS (SELECT FROM fresh) AND id IN (SELECT id FROM condition_evaluation WHERE tenant_id = :tenant"
    "   AND plan_id = :plan ORDER BY at DESC, id DESC OFFSET :kept::bigint))"
    " SELECT coalesce((SELECT id FROM again), (SELECT id FROM fresh)) AS id"
)


async def record_evaluation(
    transaction: Transaction,
    plan_id: int,
    result: bool,
    trigger: str,
    inputs: Mapping[str, Any],
    skip_reason: StatusReason | None = None,
    spawned_plan_id: int | None = None,
    *,
    message: str | None = None,
) -> int:
    """Record one evaluation of a plan whose lock the caller holds; returns the id of its row.

    `trigger` says what made us look, `inputs` what was read (under "time" what always changes), `message` is for a
    person. One that saw what the one before it saw, and made nothing run, is counted with that. The newest KEPT stay.
    """
    row = await transaction.fetch_one(
        _RECORD,
        {
            "tenant": transaction.tenant_id,
            "plan": plan_id,
            "result": result,
            "trigger": trigger[:_LONGEST_TRIGGER],
            "inputs": dumps(dict(inputs)),
            "skip_reason": None if skip_reason is None else skip_reason.value,
            "message": message,
            "spawned": spawned_plan_id,
            "kept": KEPT - 1,
        },
    )
    if row is None:
        fault = f"no evaluation of plan {plan_id} was recorded"
        raise LookupError(fault)
    return int(row["id"])
