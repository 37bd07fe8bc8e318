"""Appends to the journal. The counter of a stream lies in the row it belongs to, so the row's lock orders the stream.

Because the counter is taken under that lock and in the same transaction, the order of commits is the order of numbers:
a reader that has seen n will never miss a smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import text

from app.db.uow import Transaction
from app.domain.events import Event, Stream

_COUNTERS = {Stream.JOB: "orchestration_job", Stream.PLAN: "deployment_plan"}

_APPEND = {
    stream: text(
        f"WITH head AS (UPDATE {table} SET event_seq = event_seq + :n WHERE tenant_id = :tenant AND id = :id"  # noqa: S608
        " RETURNING event_seq)"
        " INSERT INTO event_log (tenant_id, stream, stream_id, seq, kind, actor, correlation_id, data)"
        f" SELECT :tenant, '{stream.value}', :id, head.event_seq - :n + e.ord, e.kind, :actor, :correlation,"
        " e.data::jsonb"
        " FROM head, unnest(CAST(:kinds AS text[]), CAST(:data AS text[])) WITH ORDINALITY AS e(kind, data, ord)"
        " RETURNING seq"
    )
    for stream, table in _COUNTERS.items()
}

_APPEND_LINES = text(
    "WITH head AS (UPDATE orchestration_job SET event_seq = event_seq + :n WHERE tenant_id = :tenant AND id = :job"
    " RETURNING event_seq)"
    " INSERT INTO job_log (tenant_id, job_id, first_seq, last_seq, step_run_id, step_key, attempt, lines)"
    " SELECT :tenant, :job, head.event_seq - :n + 1, head.event_seq, :step, :key, :attempt, CAST(:lines AS jsonb)"
    " FROM head RETURNING last_seq"
)


async def append(transaction: Transaction, stream: Stream, stream_id: int, events: Sequence[Event]) -> int:
    """Write `events` in order; returns the seq of the last. The caller holds or takes the lock of the owning row."""
    if not events:
        return 0
    result = await transaction.session.execute(
        _APPEND[stream],
        {
            "n": len(events),
            "tenant": transaction.tenant_id,
            "id": stream_id,
            "actor": transaction.actor,
            "correlation": transaction.correlation_id,
            "kinds": [event.kind.value for event in events],
            "data": [orjson.dumps(event.data).decode() for event in events],
        },
    )
    sequence = [row[0] for row in result]
    if len(sequence) != len(events):
        message = f"the {stream.value.lower()} {stream_id} has no row to number its events"
        raise LookupError(message)
    transaction.rings.streams.add((transaction.tenant_id, stream, stream_id))
    return int(max(sequence))


async def append_lines(
    transaction: Transaction,
    job_id: int,
    lines: Sequence[Mapping[str, Any]],
    *,
    step_run_id: int | None,
    step_key: str | None,
    attempt: int | None,
) -> int:
    """Write log lines ({"at", "level", "stream", "message", "fields"?}) as one batch; returns the seq of the last."""
    result = await transaction.session.execute(
        _APPEND_LINES,
        {
            "n": len(lines),
            "tenant": transaction.tenant_id,
            "job": job_id,
            "step": step_run_id,
            "key": step_key,
            "attempt": attempt,
            "lines": orjson.dumps(list(lines)).decode(),
        },
    )
    transaction.rings.streams.add((transaction.tenant_id, Stream.JOB, job_id))
    return int(result.scalar_one())
