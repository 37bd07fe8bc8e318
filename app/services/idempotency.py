"""A mutation that is sent twice is carried out once.

The key's row is written in the transaction of the mutation: either both are there or neither. A second transaction with
the same key waits on the unique index until the first has ended, and then answers what that one did. Refusals leave no
row, so that what was wrong can be mended and sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from app.db.statements import Statement, dumps
from app.db.uow import Transaction
from app.domain.errors import IdempotencyMismatch, Invalid
from app.services import auditing

KEY_LIMIT = 200
Outcome = dict[str, int | None]

_TAKE = Statement(
    "INSERT INTO idempotency_key (tenant_id, key, operation, fingerprint, result)"
    " VALUES (:tenant, :key, :operation, :fingerprint, '{}'::jsonb) ON CONFLICT DO NOTHING RETURNING key"
)
_READ = Statement("SELECT operation, fingerprint, result FROM idempotency_key WHERE tenant_id = :tenant AND key = :key")
_KEEP = Statement("UPDATE idempotency_key SET result = :result::jsonb WHERE tenant_id = :tenant AND key = :key")


async def once(
    transaction: Transaction, operation: str, key: str, payload: Any, action: Callable[[], Awaitable[Outcome]]
) -> tuple[Outcome, bool]:
    """What `action` gives, and whether it was carried out before. `payload` is what the key stands for, as JSON.

    What is carried out is written into the audit log as `operation`: whatever has a key is something that somebody did.

    Raises Invalid for a key that is empty or too long, IdempotencyMismatch when it was used for something else.
    """
    if not 0 < len(key) <= KEY_LIMIT:
        message = f"an idempotency key has 1 to {KEY_LIMIT} characters"
        raise Invalid(message, path=("idempotencyKey",))
    fingerprint = _fingerprint(payload)
    bound = {"tenant": transaction.tenant_id, "key": key, "operation": operation, "fingerprint": fingerprint}
    if await transaction.fetch_one(_TAKE, bound) is None:
        return await _earlier(transaction, bound), True
    outcome = await action()
    await auditing.record(transaction, operation, outcome)
    await transaction.fetch(_KEEP, {**bound, "result": dumps(outcome)})
    return outcome, False


async def _earlier(transaction: Transaction, bound: Mapping[str, Any]) -> Outcome:
    row = await transaction.fetch_one(_READ, bound)
    if row is None or (row["operation"], row["fingerprint"]) != (bound["operation"], bound["fingerprint"]):
        message = "this idempotency key was used for something else"
        raise IdempotencyMismatch(message, path=("idempotencyKey",))
    # Nothing is done, so nothing needed to be allowed but to ask.
    transaction.authorize("replay of what was carried out")
    outcome: Outcome = row["result"]
    return outcome


def _fingerprint(payload: Any) -> str:
    text = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    return hashlib.sha256(text).hexdigest()
