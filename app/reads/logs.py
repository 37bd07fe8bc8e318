"""The log lines of jobs, in order: pages both ways, the next of a stream, and what retention has taken.

Lines lie in chunks that PostgreSQL does not look into (app.db.chunks). It passes over chunks by their step, their
levels and their place; what is left is unpacked and filtered here. Every look is bounded in lines and bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import repeat
from json.encoder import encode_basestring
from typing import Any, NamedTuple

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db import chunks
from app.db.pages import Window
from app.domain.cursors import Place
from app.domain.enums import LogLevel
from app.domain.logs import moment_of, stamps
from app.reads.filters import LogFilter, at_least

LOOK_CHUNKS = 512
LOOK_BYTES = 1024 * 1024
# Unpacking more than this at once is done beside the loop that everybody else waits for.
_MUCH = 128 * 1024
_LAST = 2**63 - 1
_LEVELS = {str(number): level for number, level in enumerate(chunks.LEVELS)}
_NOTHING = chunks.Columns([], "", [], [], {})


class Line(NamedTuple):
    """One line of a job's log; `seq` is its place in the job's one sequence of facts and lines.

    `micros` are microseconds since 1970, in UTC. `written` is when its chunk was: app.domain.cursors.
    """

    seq: int
    micros: int
    level: LogLevel
    stream: str
    message: str
    fields: dict[str, Any] | None
    step_key: str | None
    attempt: int | None
    written: datetime

    @property
    def place(self) -> Place:
        return Place(self.seq, self.written)

    @property
    def at(self) -> datetime:
        return moment_of(self.micros)


@dataclass(frozen=True, slots=True)
class Reach:
    """Numbers from `after` to `until`, without the first and with the second; `backwards` begins at the end."""

    after: int = 0
    until: int = _LAST
    backwards: bool = False


class Chunk(NamedTuple):
    """A stored chunk; `place` is the number of its first line, `written` when it was."""

    place: int
    last: int
    written: datetime
    step_key: str | None
    attempt: int | None
    codec: int
    body: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Look:
    """Some chunks in the order they were asked for; if not `done`, more may follow."""

    chunks: list[Chunk]
    done: bool


@dataclass(frozen=True, slots=True)
class LinePage:
    """Lines in order, and whether others that fit come before and after them."""

    lines: list[Line]
    has_next: bool
    has_previous: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What retention left of a log: the place before its first line, that line's moment, and how many lines went."""

    before: int
    since: datetime | None
    lost: int


def _statement(order: str) -> Any:
    # Chunks are found by the number of their first line; the one that `after` lies in begins at or before it. Of each
    # job only so many are looked at, and of those only as many taken as have the lines and bytes that are wanted.
    return text(
        "SELECT wanted.id, c.first_seq, c.last_seq, c.at, c.step_key, c.attempt, c.codec, c.size, c.met, c.body"  # noqa: S608
        " FROM unnest(CAST(:ids AS bigint[]), CAST(:afters AS bigint[]), CAST(:untils AS bigint[]))"
        " AS wanted (id, low, high)"
        # Apart, and kept apart by the OFFSET: row-level security lets no condition with a sub-select into an index.
        " CROSS JOIN LATERAL (SELECT coalesce((SELECT e.first_seq FROM job_log AS e WHERE e.tenant_id = :tenant"
        "   AND e.job_id = wanted.id AND e.first_seq <= wanted.low ORDER BY e.first_seq DESC LIMIT 1), 0) AS low"
        "   OFFSET 0) AS edge"
        " CROSS JOIN LATERAL (SELECT b.*, count(*) OVER () AS met,"
        f" sum(b.lines) OVER (ORDER BY b.first_seq {order}) - b.lines AS lines_before,"
        f" sum(b.size) OVER (ORDER BY b.first_seq {order}) - b.size AS size_before"
        " FROM (SELECT l.first_seq, l.last_seq, l.at, l.step_key, l.attempt, l.codec, l.size, l.body,"
        " least(l.last_seq, wanted.high) - greatest(l.first_seq - 1, wanted.low) AS lines FROM job_log AS l"
        " WHERE l.tenant_id = :tenant AND l.job_id = wanted.id"
        " AND l.first_seq >= edge.low AND l.first_seq <= wanted.high AND l.last_seq > wanted.low"
        " AND (CAST(:levels AS int) IS NULL OR l.levels & CAST(:levels AS int) <> 0)"
        " AND (CAST(:step AS text) IS NULL OR l.step_key = CAST(:step AS text))"
        f" ORDER BY l.first_seq {order} LIMIT :chunks) AS b) AS c"
        " WHERE c.lines_before < :lines AND c.size_before < :bytes"
        f" ORDER BY wanted.id, c.first_seq {order}"
    )


# The index gives every partition's chunks in order, and a few of them are wanted. A plan made for the usual job, which
# has few, would fetch and sort all of them, and a job of many small chunks would be slow.
_IN_ORDER = text("SELECT set_config('enable_sort', 'off', true)")
_FORWARD = _statement("ASC")
_BACKWARD = _statement("DESC")
_KEPT = text(
    "SELECT j.id, coalesce(f.first_seq, j.event_seq + 1) - 1 AS before, f.at, (SELECT count(*) FROM event_log e"
    "   WHERE e.tenant_id = :tenant AND e.stream = 'JOB' AND e.stream_id = j.id AND e.seq > :after"
    "   AND e.seq < coalesce(f.first_seq, j.event_seq + 1)) AS events"
    " FROM orchestration_job j LEFT JOIN LATERAL (SELECT l.first_seq, l.at FROM job_log l WHERE l.tenant_id = :tenant"
    "   AND l.job_id = j.id ORDER BY l.first_seq LIMIT 1) f ON true"
    " WHERE j.tenant_id = :tenant AND j.id = ANY (CAST(:jobs AS bigint[]))"
)


async def look(
    session: AsyncSession,
    tenant_id: int,
    reaches: Mapping[int, Reach],
    wanted: LogFilter,
    *,
    lines: int,
    backwards: bool = False,
    most_bytes: int = LOOK_BYTES,
) -> dict[int, Look]:
    """The next chunks of each job that may have what is wanted: enough for `lines` lines, if all of them fit."""
    levels = None if wanted.min_level is None else chunks.bits(at_least(wanted.min_level))
    await session.execute(_IN_ORDER)
    rows = await session.execute(
        _BACKWARD if backwards else _FORWARD,
        {
            "ids": list(reaches),
            "afters": [reach.after for reach in reaches.values()],
            "untils": [reach.until for reach in reaches.values()],
            "tenant": tenant_id,
            "levels": levels,
            "step": wanted.step_key,
            "chunks": min(lines + 1, LOOK_CHUNKS),
            "lines": lines,
            "bytes": most_bytes,
        },
    )
    found: dict[int, list[Chunk]] = {number: [] for number in reaches}
    met = dict.fromkeys(reaches, 0)
    for number, first, last, written, step_key, attempt, codec, size, there, body in rows:
        found[number].append(Chunk(first, last, written, step_key, attempt, codec, body, size))
        met[number] = there
    most = min(lines + 1, LOOK_CHUNKS)
    return {
        number: Look(parts, done=len(parts) == met[number] and met[number] < most) for number, parts in found.items()
    }


async def lines_in(parts: Sequence[Chunk], wanted: LogFilter, reach: Reach, enough: int = _LAST) -> list[Line]:
    """The lines in these chunks that are wanted, in the chunks' order, backwards within each where the reach is.

    Chunks behind the one with which there are `enough` lines are not looked into.
    """
    if sum(part.size for part in parts) > _MUCH:
        return await asyncio.to_thread(_lines_in, parts, wanted, reach, enough)
    return _lines_in(parts, wanted, reach, enough)


async def pages(
    session: AsyncSession, tenant_id: int, ids: Sequence[int], wanted: LogFilter, reach: Reach, size: int
) -> dict[int, LinePage]:
    """The first `size` lines of each job within the reach, or the last ones where it is backwards."""
    found = await _gather(session, tenant_id, dict.fromkeys(ids, reach), wanted, size + 1)
    below: dict[int, list[Line]] = {}
    above: dict[int, list[Line]] = {}
    if reach.after > 0:
        before = Reach(0, reach.after, backwards=True)
        below = await _gather(session, tenant_id, dict.fromkeys(ids, before), wanted, 1)
    if reach.until < _LAST:
        above = await _gather(session, tenant_id, dict.fromkeys(ids, Reach(reach.until)), wanted, 1)
    answer = {}
    for number, lines in found.items():
        more = len(lines) > size
        kept = lines[:size]
        answer[number] = LinePage(
            lines=kept[::-1] if reach.backwards else kept,
            has_next=bool(above.get(number)) or (more and not reach.backwards),
            has_previous=bool(below.get(number)) or (more and reach.backwards),
        )
    return answer


def reach_of(window: Window, after: int | None, before: int | None) -> Reach:
    """What a page may have, by the places that its window's cursors name."""
    until = _LAST if before is None else max(before - 1, 0)
    return Reach(after or 0, until, window.backwards)


async def kept(session: AsyncSession, tenant_id: int, ids: Sequence[int], after: int = 0) -> dict[int, Kept]:
    """What retention left of each job's log behind `after`; nothing of jobs that the tenant does not have.

    Events and lines share their numbers without a gap, and events stay: what is missing among the numbers are lines.
    """
    rows = await session.execute(_KEPT, {"tenant": tenant_id, "jobs": list(ids), "after": after})
    return {row.id: Kept(row.before, row.at, max(0, row.before - after - row.events)) for row in rows}


def packed(lines: Sequence[Line]) -> list[list[Any]]:
    """The lines as [seq, at, level, stream, stepKey, attempt, message] each."""
    moments = stamps([line.micros for line in lines])
    return [
        [seq, at, level, stream, step_key, attempt, message]
        for (seq, _, level, stream, message, _, step_key, attempt, _), at in zip(lines, moments, strict=True)
    ]


def objects(parts: Sequence[Chunk], wanted: LogFilter, reach: Reach) -> bytes:
    """The lines in these chunks that are wanted, as JSON objects, each followed by a line feed.

    Put together from texts: a dictionary a line would take three times as long.
    """
    found: list[str] = []
    for part in parts:
        columns, chosen = _chosen(part, wanted, reach)
        if not chosen:
            continue
        streams = {stream: encode_basestring(stream) for stream in set(columns.streams)}
        shared = f'"stepKey":{_json(part.step_key)},"attempt":{_json(part.attempt)},"message":'
        levels, messages, fields = columns.levels, columns.messages, columns.fields
        moments = stamps([columns.moments[place] for place in chosen])
        found += [
            f'{{"seq":{part.place + place},"at":"{at}","level":"{_LEVELS[levels[place]]}",'
            f'"stream":{streams[columns.streams[place]]},{shared}{encode_basestring(messages[place])}'
            + (f',"fields":{_json(fields[place])}}}\n' if place in fields else "}\n")
            for place, at in zip(chosen, moments, strict=True)
        ]
    return "".join(found).encode()


@dataclass(slots=True)
class _Search:
    """How far the lines of one job are gathered."""

    reach: Reach
    lines: list[Line] = field(default_factory=list)


async def _gather(
    session: AsyncSession, tenant_id: int, reaches: Mapping[int, Reach], wanted: LogFilter, count: int
) -> dict[int, list[Line]]:
    """The first `count` lines of each job within its reach, in its direction; all reaches have the same one."""
    searches = {number: _Search(reach) for number, reach in reaches.items()}
    left = dict(searches)
    # Filters that leave little are looked for in larger pieces.
    ask = count
    while left:
        backwards = next(iter(left.values())).reach.backwards
        asked = {number: search.reach for number, search in left.items()}
        for number, found in (await look(session, tenant_id, asked, wanted, lines=ask, backwards=backwards)).items():
            search = left[number]
            search.lines += await lines_in(found.chunks, wanted, search.reach, count - len(search.lines))
            if found.done or len(search.lines) >= count:
                del left[number]
                continue
            edge = found.chunks[-1]
            reach = search.reach
            search.reach = Reach(reach.after, edge.place - 1, True) if backwards else Reach(edge.last, reach.until)
        ask = min(max(ask * 8, 1_000), 50_000)
    return {number: search.lines[:count] for number, search in searches.items()}


def _lines_in(parts: Sequence[Chunk], wanted: LogFilter, reach: Reach, enough: int) -> list[Line]:
    found: list[Line] = []
    for part in parts:
        found += _lines_of(part, wanted, reach)
        if len(found) >= enough:
            break
    return found


def _lines_of(part: Chunk, wanted: LogFilter, reach: Reach) -> Iterable[Line]:
    columns, chosen = _chosen(part, wanted, reach)
    if not chosen:
        return ()
    seqs = range(part.place, part.place + len(columns.messages))
    lists: Sequence[Sequence[Any]] = (seqs, columns.moments, columns.levels, columns.streams, columns.messages)
    # Most often it is all of them.
    some = lists if chosen == range(len(seqs)) else [[values[place] for place in chosen] for values in lists]
    places, moments, levels, streams, messages = some
    rows = zip(
        places,
        moments,
        map(_LEVELS.__getitem__, levels),
        streams,
        messages,
        map(columns.fields.get, chosen),
        repeat(part.step_key),
        repeat(part.attempt),
        repeat(part.written),
        strict=False,
    )
    # Not by way of Line(…), which takes three times as long.
    return map(partial(tuple.__new__, Line), rows)


def _chosen(part: Chunk, wanted: LogFilter, reach: Reach) -> tuple[chunks.Columns, Sequence[int]]:
    """What a chunk holds, and the places of the lines in it that are wanted, in the direction of the reach."""
    if wanted.step_key is not None and part.step_key != wanted.step_key:
        # All lines of a chunk are of one step.
        return _NOTHING, ()
    plain = chunks.plain_text(part.codec, part.body)
    needle = None if wanted.contains is None else wanted.contains.lower()
    if needle is not None and _is_literal(needle) and needle not in plain.decode().lower():
        return _NOTHING, ()
    columns = chunks.unpack(plain)
    first, last = reach.after + 1 - part.place, reach.until - part.place
    chosen: Sequence[int] = range(len(columns.messages))[max(first, 0) : max(last + 1, 0)]
    if wanted.min_level is not None:
        least = str(chunks.LEVELS.index(wanted.min_level))
        chosen = [place for place in chosen if columns.levels[place] >= least]
    if needle is not None:
        chosen = [place for place in chosen if needle in columns.messages[place].lower()]
    return columns, chosen[::-1] if reach.backwards else chosen


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _is_literal(needle: str) -> bool:
    """Whether JSON writes the text as it is, so that a body without it has no line with it."""
    return needle.isascii() and needle.isprintable() and '"' not in needle and "\\" not in needle
