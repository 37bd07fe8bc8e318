"""Appends to the journal. The counter of a stream lies in the row it belongs to, so the row's lock orders the stream.

Because the counter is taken under that lock and in the same transaction, the order of commits is the order of numbers:
a reader that has seen n will never miss a smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.db import chunks
from app.db.statements import Statement, dumps
from app.db.uow import Transaction
from app.domain.enums import LogLevel
from app.domain.events import Event, Stream
from app.domain.logs import DEFAULT_ROOM, LogLine, LogRoom, chunked, micros_of

_COUNTERS = {Stream.JOB: "orchestration_job", Stream.PLAN: "deployment_plan"}
# Who follows the tenant does not hear of what is only simulated: its events have no place in the feed.
_FED = {Stream.JOB: "CASE WHEN NOT simulated THEN feed END AS feed", Stream.PLAN: "feed"}


def statement(
    stream: Stream,
    *,
    lines: bool = True,
    events: bool = True,
    condition: str = "",
    also: str = "",
    assignments: str = "",
    returning: str = "",
) -> Statement:
    """The statement that appends to a journal; what `parameters` gives are its values.

    Without `lines` it takes events only, and without `events` lines only.

    It may do more in the same round trip: `also` is common table expressions, each begun by a comma, which do nothing
    unless there is a `head`; `assignments` are further columns of the row that the stream belongs to, and `returning`
    further results, each begun by one. Where the `condition`, begun by AND, does not hold there is no head and no
    result.
    """
    # An event fills one number, a batch of lines one for each line; `span` says how many.
    growth = _GROWTH if lines else ":total"
    written = (_WRITTEN if lines else ":total") + " AS start"
    return Statement(
        f"WITH head AS (UPDATE {_COUNTERS[stream]} SET event_seq = event_seq + {growth},"  # noqa: S608
        # The place in the tenant's feed (app.db.feed): never below what this stream has had.
        " feed = greatest(feed, pg_current_xact_id()::text::bigint), event_at = clock_timestamp()"
        f"{_COUNTS if lines else ''}{assignments}"
        f" WHERE tenant_id = :tenant AND id = :id{condition} RETURNING event_seq AS last, event_seq - {written},"
        f" {_FED[stream]}, event_at AS at{_COUNTED if lines else ''})"
        f"{_events(stream, lines=lines) if events else ''}"
        f"{_LINES if lines else ''}{also}"
        f" SELECT head.last{', head.left_out IS NOT NULL AS full' if lines else ''}{returning} FROM head"
    )


def _events(stream: Stream, *, lines: bool) -> str:
    return (
        ", events AS (INSERT INTO event_log"  # noqa: S608
        " (tenant_id, stream, stream_id, seq, feed, at, kind, actor, correlation_id, data)"
        f" SELECT :tenant, '{stream.value}', :id, head.start + {_PLACE if lines else 'e.place'}, head.feed, head.at,"
        f" e.kind, :actor, :correlation, e.data::jsonb FROM head, {_EVENTS_AND_BARE if lines else _EVENTS})"
    )


_EVENTS = "unnest(:places::bigint[], :kinds::text[], :data::text[]) AS e(place, kind, data)"
_EVENTS_AND_BARE = (
    "unnest(:places::bigint[], :kinds::text[], :data::text[], :bare_places::bigint[]) AS e(place, kind, data, bare)"
)
# A log that has reached its bound takes no more lines, and none of their numbers. `log_left_out` is null until then,
# 0 in the statement that reaches it, which adds one line to say so, and counts afterwards.
_REACHES = "(log_lines + :line_count::bigint >= :most_lines::bigint OR log_bytes + :line_bytes::bigint >= :most_bytes)"
_GROWTH = (
    f"CASE WHEN log_left_out IS NOT NULL THEN :bare::bigint WHEN {_REACHES} THEN :total::bigint + 1"
    " ELSE :total::bigint END"
)
_COUNTS = (
    ", log_lines = log_lines + CASE WHEN log_left_out IS NULL THEN :line_count::bigint ELSE 0 END,"
    " log_bytes = log_bytes + CASE WHEN log_left_out IS NULL THEN :line_bytes::bigint ELSE 0 END,"
    " log_left_out = CASE WHEN log_left_out IS NOT NULL THEN log_left_out + :line_count::bigint"
    f" WHEN {_REACHES} THEN 0 END"
)
_WRITTEN = (
    "CASE WHEN log_left_out IS NULL THEN :total::bigint WHEN log_left_out = 0 THEN :total::bigint + 1"
    " ELSE :bare::bigint END"
)
_COUNTED = ", log_left_out AS left_out, log_lines, log_bytes"
_PLACE = "CASE WHEN head.left_out > 0 THEN e.bare ELSE e.place END"
_INTO = (
    "INSERT INTO job_log (tenant_id, job_id, first_seq, at, last_seq, step_run_id, step_key, attempt, size, levels,"
    " codec, body)"
)
_LINES = (
    # Numbers and names of ours only.
    f", lines AS ({_INTO} SELECT :tenant, :id, head.start + l.place, head.at,"  # noqa: S608
    " head.start + l.place + l.span - 1, l.step, l.key, l.attempt, l.size, l.levels, l.codec, l.body FROM head,"
    " unnest(:line_places::bigint[], :spans::bigint[], :steps::bigint[], :keys::text[], :attempts::int[],"
    " :sizes::int[], :levels::smallint[], :codecs::smallint[], :bodies::bytea[])"
    " AS l(place, span, step, key, attempt, size, levels, codec, body) WHERE coalesce(head.left_out, 0) = 0)"
    f", mark AS ({_INTO} SELECT :tenant, :id, head.last, head.at, head.last, NULL, NULL, NULL, length(told.body),"
    f" {chunks.bits([LogLevel.WARN])}, {chunks.PLAIN}, told.body FROM head, convert_to(jsonb_build_array("
    "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint, '[]'::jsonb,"
    f" '{chunks.LEVELS.index(LogLevel.WARN)}', 'engine', jsonb_build_array('TRUNCATED: the log of this job is full'"
    " || ' with ' || head.log_lines || ' lines of ' || head.log_bytes || ' bytes; further lines are left out'),"
    " jsonb_build_object('0', jsonb_build_object('truncated', true, 'lines', head.log_lines, 'bytes',"
    " head.log_bytes)))::text, 'UTF8') AS told(body) WHERE head.left_out = 0)"
)
_APPEND = {Stream.JOB: statement(Stream.JOB), Stream.PLAN: statement(Stream.PLAN, lines=False)}
_APPEND_EVENTS = statement(Stream.JOB, lines=False)
# Only who holds the step may still say something: what a worker says that has lost it, nobody hears.
_HOLDS = (
    " AND EXISTS (SELECT FROM step_run h WHERE h.tenant_id = :tenant AND h.id = :holder AND h.fence = :fence"
    " AND h.worker_id IS NOT NULL)"
)
# Something was said, so the step is not silent yet. A full log hears nothing more: then only its worker can tell.
_HEARD = (
    "silent_at = clock_timestamp() + CASE WHEN (SELECT log_left_out FROM orchestration_job WHERE tenant_id = :tenant"
    " AND id = :id) IS NULL THEN make_interval(secs => heartbeat_seconds) END"
)


def _holder_appends(*, lines: bool, progress: bool, watched: bool) -> Statement:
    shown = ", ".join([*(["percent = :percent"] if progress else []), *([_HEARD] if watched else [])])
    where = "WHERE tenant_id = :tenant AND id = :holder AND EXISTS (SELECT FROM head)"
    also = f", shown AS (UPDATE step_run SET {shown} {where})" if shown else ""  # noqa: S608  all of it is ours
    return statement(Stream.JOB, lines=lines, events=progress, condition=_HOLDS, also=also)


_HOLDER_APPENDS = {
    (lines, progress, watched): _holder_appends(lines=lines, progress=progress, watched=watched)
    for lines in (False, True)
    for progress in (False, True)
    for watched in (False, True)
}


@dataclass(frozen=True, slots=True)
class Lines:
    """Log lines of one attempt of a step, and how far the log of the job may grow.

    `packed`: the same lines as chunks, each with its number of lines, where that was done beforehand.
    """

    lines: Sequence[LogLine]
    step_run_id: int | None
    step_key: str | None
    attempt: int | None
    room: LogRoom = DEFAULT_ROOM
    packed: Sequence[tuple[int, chunks.Packed]] = ()


Entry = Event | Lines


@dataclass(frozen=True, slots=True)
class Holder:
    """Who appends while a step runs: only as long as it holds the step. `percent` is how far the step is.

    `watched`: it must not fall silent, so that it was heard is noted.
    """

    step_run_id: int
    fence: int
    percent: float | None = None
    watched: bool = False


async def append(transaction: Transaction, stream: Stream, stream_id: int, entries: Sequence[Entry]) -> int:
    """Write `entries` in order; returns the seq of the last. Takes the lock of the owning row.

    Raises LookupError when there is no such row. Lines belong to jobs only.
    """
    if not entries:
        return 0
    lines = any(isinstance(entry, Lines) for entry in entries)
    query = _APPEND[stream] if lines or stream is Stream.PLAN else _APPEND_EVENTS
    row = await transaction.fetch_one(query, parameters(transaction, stream_id, entries))
    if row is None:
        message = f"the {stream.value.lower()} {stream_id} has no row to number its events"
        raise LookupError(message)
    transaction.rings.streams.add((transaction.tenant_id, stream, stream_id))
    return int(row["last"])


async def append_held(
    transaction: Transaction, job_id: int, entries: Sequence[Entry], holder: Holder, *, progress: bool
) -> bool | None:
    """Write what a running step has to say, as the one statement of its transaction.

    None when the step has another holder, and nothing is written; otherwise whether the log is full by now. With
    `progress` the step shows how far it is.
    """
    lines = any(isinstance(entry, Lines) for entry in entries)
    values = parameters(transaction, job_id, entries)
    values |= {"holder": holder.step_run_id, "fence": holder.fence, "percent": holder.percent}
    row = await transaction.fetch_last(_HOLDER_APPENDS[lines, progress, holder.watched], values)
    if row is None:
        return None
    transaction.rings.streams.add((transaction.tenant_id, Stream.JOB, job_id))
    return bool(lines and row["full"])


def parameters(transaction: Transaction, stream_id: int, entries: Sequence[Entry]) -> dict[str, Any]:
    """The values of a `statement` that appends `entries`."""
    events: list[tuple[int, Event]] = []
    batches: list[tuple[int, Lines, int, chunks.Packed]] = []
    place = 1
    for entry in entries:
        if isinstance(entry, Event):
            events.append((place, entry))
            place += 1
            continue
        for span, packed in entry.packed or [(len(piece), chunks.pack(piece)) for piece in chunked(entry.lines)]:
            batches.append((place, entry, span, packed))
            place += span
    room = batches[0][1].room if batches else DEFAULT_ROOM
    return {
        "total": place - 1,
        "tenant": transaction.tenant_id,
        "id": stream_id,
        "actor": transaction.actor,
        "correlation": transaction.correlation_id,
        "places": [at for at, _ in events],
        "kinds": [event.kind.value for _, event in events],
        "data": [dumps(event.data) for _, event in events],
        # Where the events stand when the log is full and the lines are left out.
        "bare": len(events),
        "bare_places": list(range(1, len(events) + 1)),
        "line_count": sum(span for _, _, span, _ in batches),
        "line_bytes": sum(packed.size for *_, packed in batches),
        "most_lines": room.lines,
        "most_bytes": room.bytes,
        "line_places": [at for at, *_ in batches],
        "spans": [span for _, _, span, _ in batches],
        "steps": [batch.step_run_id for _, batch, _, _ in batches],
        "keys": [batch.step_key for _, batch, _, _ in batches],
        "attempts": [batch.attempt for _, batch, _, _ in batches],
        "sizes": [packed.size for *_, packed in batches],
        "levels": [packed.levels for *_, packed in batches],
        "codecs": [packed.codec for *_, packed in batches],
        "bodies": [packed.body for *_, packed in batches],
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
    """Write log lines ({"at", "level", "stream", "message", "fields"?}) as one batch; returns the seq of the last."""
    given = [
        LogLine(
            micros_of(datetime.fromisoformat(line["at"])),
            LogLevel(line["level"]),
            line["stream"],
            line["message"],
            line.get("fields"),
        )
        for line in lines
    ]
    return await append(transaction, Stream.JOB, job_id, [Lines(given, step_run_id, step_key, attempt)])
