"""What plans watch while they wait for their condition: begun, marked, looked at, ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.db.feed import HORIZON
from app.db.statements import Statement, dumps
from app.db.uow import Transaction
from app.domain.conditions import Seen

# The cursor begins before whatever is at work now: it marks once too often rather than never.
_BEGIN = Statement(
    f"WITH cursor AS (INSERT INTO watch_cursor (tenant_id, feed) VALUES (:tenant, {HORIZON} - 1)"  # noqa: S608
    "  ON CONFLICT DO NOTHING)"
    " INSERT INTO plan_watch (tenant_id, plan_id, subjects, look_at, because)"
    " VALUES (:tenant, :plan, :subjects::text[], clock_timestamp(), 'it began to wait')"
    " ON CONFLICT (tenant_id, plan_id) DO UPDATE SET subjects = excluded.subjects, look_at = excluded.look_at,"
    "  because = excluded.because, armed = true, true_since = NULL, seen_at = NULL, fired_at = NULL,"
    "  marks = plan_watch.marks + 1"
)
# What was not seen meanwhile was not seen to be true all the time.
_GO_ON = Statement(
    "UPDATE plan_watch SET look_at = clock_timestamp(), because = 'it waits again', true_since = NULL, seen_at = NULL,"
    " marks = marks + 1 WHERE tenant_id = :tenant AND plan_id = :plan"
)
_REST = Statement("UPDATE plan_watch SET look_at = NULL WHERE tenant_id = :tenant AND plan_id = :plan")
_END = Statement("DELETE FROM plan_watch WHERE tenant_id = :tenant AND plan_id = :plan")
_FORGET_SIGNALS = Statement("DELETE FROM plan_signal WHERE tenant_id = :tenant AND plan_id = :plan")
_READ = Statement(
    "SELECT armed, true_since, seen_at, fired_at, look_at, because, marks FROM plan_watch"
    " WHERE tenant_id = :tenant AND plan_id = :plan"
)
_SETTLE = Statement(
    "UPDATE plan_watch SET armed = :armed, true_since = :true_since, seen_at = :seen_at, fired_at = :fired_at,"
    " look_at = CASE WHEN marks = :marks THEN :look_at ELSE clock_timestamp() END,"
    " because = CASE WHEN marks = :marks THEN :because::text ELSE because END"
    " WHERE tenant_id = :tenant AND plan_id = :plan"
)
_MARK = Statement(
    "UPDATE plan_watch SET marks = marks + 1, look_at = clock_timestamp(), because = left(:because::text, 120)"
    " WHERE tenant_id = :tenant AND plan_id = :plan"
)
_MARK_READERS = Statement(
    "UPDATE plan_watch SET marks = marks + 1, look_at = clock_timestamp(),"
    " because = left(coalesce((SELECT s FROM unnest(subjects) s WHERE s = ANY(:subjects::text[]) LIMIT 1),"
    "  'a run of it has moved on'), 120)"
    " WHERE tenant_id = :tenant AND (subjects && :subjects::text[] OR plan_id = ANY(:plans::bigint[]))"
)
_MARK_ALL = Statement(
    "UPDATE plan_watch SET marks = marks + 1, look_at = clock_timestamp(), because = 'much has changed'"
    " WHERE tenant_id = :tenant"
)
_CURSOR = Statement("SELECT feed FROM watch_cursor WHERE tenant_id = :tenant FOR UPDATE SKIP LOCKED")
_ADVANCE = Statement("UPDATE watch_cursor SET feed = :feed WHERE tenant_id = :tenant")
_SIGNAL = Statement(
    "INSERT INTO plan_signal (tenant_id, plan_id, name, payload, sent_by)"
    " VALUES (:tenant, :plan, :name, :payload::jsonb, :actor)"
    " ON CONFLICT (tenant_id, plan_id, name) DO UPDATE SET payload = excluded.payload, sent_by = excluded.sent_by,"
    " received_at = clock_timestamp(), count = plan_signal.count + 1"
)


@dataclass(frozen=True, slots=True)
class Watch:
    """One plan's memory. `marks` is how often something had changed when it was read."""

    seen: Seen
    look_at: datetime | None
    because: str
    marks: int


async def begin(transaction: Transaction, plan_id: int, subjects: Iterable[str]) -> None:
    """Let a plan whose lock is held watch `subjects` from now on, as if it had never seen anything."""
    await transaction.fetch(_BEGIN, {**_key(transaction, plan_id), "subjects": list(subjects)})


async def go_on(transaction: Transaction, plan_id: int) -> None:
    """Let a plan that was paused look again; that it fired before is remembered."""
    await transaction.fetch(_GO_ON, _key(transaction, plan_id))


async def rest(transaction: Transaction, plan_id: int) -> None:
    """Stop the timer of a plan that is paused."""
    await transaction.fetch(_REST, _key(transaction, plan_id))


async def end(transaction: Transaction, plan_id: int) -> None:
    """The plan waits no more."""
    await transaction.fetch(_END, _key(transaction, plan_id))


async def forget_signals(transaction: Transaction, plan_id: int) -> None:
    """What the plan was sent has had its effect, or is void."""
    await transaction.fetch(_FORGET_SIGNALS, _key(transaction, plan_id))


async def read(transaction: Transaction, plan_id: int) -> Watch | None:
    row = await transaction.fetch_one(_READ, _key(transaction, plan_id))
    if row is None:
        return None
    seen = Seen(row["armed"], row["true_since"], row["seen_at"], row["fired_at"])
    return Watch(seen, row["look_at"], row["because"], row["marks"])


async def settle(
    transaction: Transaction, plan_id: int, watch: Watch, seen: Seen, look_at: datetime, because: str
) -> None:
    """Remember what was seen, and look again at `look_at`; at once if it was marked since `watch` was read."""
    values: dict[str, Any] = {
        "armed": seen.armed,
        "true_since": seen.true_since,
        "seen_at": seen.seen_at,
        "fired_at": seen.fired_at,
        "look_at": look_at,
        "because": because,
        "marks": watch.marks,
    }
    await transaction.fetch(_SETTLE, {**_key(transaction, plan_id), **values})


async def mark(transaction: Transaction, plan_id: int, because: str) -> None:
    """Let one plan be looked at now."""
    await transaction.fetch(_MARK, {**_key(transaction, plan_id), "because": because})


async def mark_readers(transaction: Transaction, subjects: Iterable[str], plans: Iterable[int]) -> None:
    """Let those be looked at that watch one of `subjects`, and `plans`."""
    values = {"tenant": transaction.tenant_id, "subjects": sorted(subjects), "plans": sorted(plans)}
    await transaction.fetch(_MARK_READERS, values)


async def mark_all(transaction: Transaction) -> None:
    """Let all of the tenant's be looked at."""
    await transaction.fetch(_MARK_ALL, {"tenant": transaction.tenant_id})


async def take_cursor(transaction: Transaction) -> int | None:
    """The place up to which the tenant's feed was looked through; None when somebody else is at it."""
    row = await transaction.fetch_one(_CURSOR, {"tenant": transaction.tenant_id})
    return None if row is None else int(row["feed"])


async def advance_cursor(transaction: Transaction, feed: int) -> None:
    await transaction.fetch(_ADVANCE, {"tenant": transaction.tenant_id, "feed": feed})


async def signal(transaction: Transaction, plan_id: int, name: str, payload: Mapping[str, Any] | None) -> None:
    """Keep a signal for a plan whose lock is held, in place of an earlier one of the name, and let it be looked at."""
    values = {"name": name, "payload": None if payload is None else dumps(payload), "actor": transaction.actor}
    await transaction.fetch(_SIGNAL, {**_key(transaction, plan_id), **values})
    await mark(transaction, plan_id, f'signals["{name}"]')


def _key(transaction: Transaction, plan_id: int) -> dict[str, Any]:
    return {"tenant": transaction.tenant_id, "plan": plan_id}
