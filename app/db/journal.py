"""Appends to the journal. The counter of a stream lies in the row it belongs to, so the row's lock orders the stream.

Because the counter is taken under that lock and in the same transaction, the order of commits is the order of numbers:
a reader that has seen n will never miss a smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.db.statements import Statement, dumps
from app.db.uow import Transaction
from app.domain.events import Event, Stream

_COUNTERS = {Stream.JOB: "orchestration_job", Stream.PLAN: "deployment_plan"}
# Who follows the tenant does not hear of what is only simulated: its events have no place in the feed.
_FED = {Stream.JOB: "CASE WHEN NOT simulated THEN feed END AS feed", Stream.PLAN: "feed"}


def statement(
    stream: Stream,
    *,
    lines: bool = True,
    condition: str = "",
    also: str = "",
    assignments: str = "",
    returning: str = "",
) -> Statement:
    """The statement that appends to a journal; what `parameters` gives are its values. Without `lines`, events only.

    It may do more in the same round trip: `also` is common table expressions, each begun by a comma, which do nothing
    unless there is a `head`; `assignments` are further columns of the row that the stream belongs to, and `returning`
    further results, each begun by one. Where the `condition`, begun by AND, does not hold there is no head and no
    result.
    """
    # An event fills one number, a batch of lines one for each line; `span` says how many.
    return Statement(
        f"WITH head AS (UPDATE {_COUNTERS[stream]} SET event_seq = event_seq + :total,"  # noqa: S608
        # The place in the tenant's feed (app.db.feed): never below what this stream has had.
        f" feed = greatest(feed, pg_current_xact_id()::text::bigint){assignments}"
        f" WHERE tenant_id = :tenant AND id = :id{condition} RETURNING event_seq - :total AS start, {_FED[stream]}),"
        " events AS (INSERT INTO event_log (tenant_id, stream, stream_id, seq, feed, kind, actor, correlation_id, data)"
        f" SELECT :tenant, '{stream.value}', :id, head.start + e.place, head.feed, e.kind, :actor, :correlation,"
        " e.data::jsonb"
        " FROM head, unnest(:places::bigint[], :kinds::text[], :data::text[]) AS e(place, kind, data))"
        f"{_LINES if lines else ''}{also}"
        f" SELECT start + :total AS last{returning} FROM head"
    )


_LINES = (
    ", lines AS (INSERT INTO job_log (tenant_id, job_id, first_seq, last_seq, step_run_id, step_key, attempt, lines)"
    " SELECT :tenant, :id, head.start + l.place, head.start + l.place + l.span - 1, l.step, l.key, l.attempt,"
    " l.lines::jsonb FROM head, unnest(:line_places::bigint[], :spans::bigint[], :steps::bigint[], :keys::text[],"
    " :attempts::int[], :lines::text[]) AS l(place, span, step, key, attempt, lines))"
)
_APPEND = {stream: statement(stream) for stream in _COUNTERS}


@dataclass(frozen=True, slots=True)
class Lines:
    """A batch of log lines ({"at", "level", "stream", "message", "fields"?}) of one attempt of a step."""

    lines: Sequence[Mapping[str, Any]]
    step_run_id: int | None
    step_key: str | None
    attempt: int | None


Entry = Event | Lines


async def append(transaction: Transaction, stream: Stream, stream_id: int, entries: Sequence[Entry]) -> int:
    """Write `entries` in order; returns the seq of the last. Takes the lock of the owning row.

    Raises LookupError when there is no such row. Lines belong to jobs only.
    """
    if not entries:
        return 0
    row = await transaction.fetch_one(_APPEND[stream], parameters(transaction, stream_id, entries))
    if row is None:
        message = f"the {stream.value.lower()} {stream_id} has no row to number its events"
        raise LookupError(message)
    transaction.rings.streams.add((transaction.tenant_id, stream, stream_id))
    return int(row["last"])


def parameters(transaction: Transaction, stream_id: int, entries: Sequence[Entry]) -> dict[str, Any]:
    """The values of a `statement` that appends `entries`."""
    places: list[int] = []
    place = 1
    for entry in entries:
        places.append(place)
        place += len(entry.lines) if isinstance(entry, Lines) else 1
    events = [(at, entry) for at, entry in zip(places, entries, strict=True) if isinstance(entry, Event)]
    batches = [(at, entry) for at, entry in zip(places, entries, strict=True) if isinstance(entry, Lines)]
    return {
        "total": place - 1,
        "tenant": transaction.tenant_id,
        "id": stream_id,
        "actor": transaction.actor,
        "correlation": transaction.correlation_id,
        "places": [at for at, _ in events],
        "kinds": [event.kind.value for _, event in events],
        "data": [dumps(event.data) for _, event in events],
        "line_places": [at for at, _ in batches],
        "spans": [len(batch.lines) for _, batch in batches],
        "steps": [batch.step_run_id for _, batch in batches],
        "keys": [batch.step_key for _, batch in batches],
        "attempts": [batch.attempt for _, batch in batches],
        "lines": [dumps(list(batch.lines)) for _, batch in batches],
    }


async def append_lines(
    transaction: Transaction,
    job_id: int,
    lines: Sequence[Mapping[str, Any]],
    *,
    step_run_id: int | None,
    step_key: str | None,
    attempt: int | None,
) -> int:
    """Write log lines as one batch; returns the seq of the last."""
    return await append(transaction, Stream.JOB, job_id, [Lines(lines, step_run_id, step_key, attempt)])
