"""The log lines of many jobs, each in order. Lines are stored in batches and numbered one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.domain.enums import LogLevel
from app.reads.filters import LogFilter, at_least


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a job's log; `seq` is its place in the job's one sequence of facts and lines."""

    seq: int
    at: datetime
    level: LogLevel
    stream: str
    message: str
    fields: dict[str, Any] | None
    step_key: str | None
    attempt: int | None


_LINES = text("""
SELECT jobs.id, lines.*
  FROM unnest(CAST(:ids AS bigint[])) AS jobs (id)
 CROSS JOIN LATERAL (
    SELECT batch.first_seq + line.ord - 1 AS seq, line.value, batch.step_key, batch.attempt
      FROM job_log AS batch
     CROSS JOIN LATERAL jsonb_array_elements(batch.lines) WITH ORDINALITY AS line (value, ord)
     WHERE batch.tenant_id = :tenant AND batch.job_id = jobs.id
       AND batch.last_seq > :seq AND batch.first_seq + line.ord - 1 > :seq
       AND (CAST(:levels AS text[]) IS NULL OR line.value ->> 'level' = ANY (CAST(:levels AS text[])))
       AND (CAST(:step AS text) IS NULL OR batch.step_key = :step)
       AND (CAST(:contains AS text) IS NULL OR strpos(lower(line.value ->> 'message'), lower(:contains)) > 0)
     ORDER BY batch.first_seq, line.ord
     LIMIT :limit
 ) AS lines
 ORDER BY jobs.id, lines.seq
""")


async def after(
    session: AsyncSession, tenant_id: int, ids: Sequence[int], wanted: LogFilter, *, seq: int, limit: int
) -> dict[int, list[Line]]:
    """Up to `limit` lines of each job that `wanted` describes and that have a number above `seq`, oldest first."""
    levels = None if wanted.min_level is None else [level.value for level in at_least(wanted.min_level)]
    rows = await session.execute(
        _LINES,
        {
            "ids": list(ids),
            "tenant": tenant_id,
            "seq": seq,
            "levels": levels,
            "step": wanted.step_key,
            "contains": wanted.contains,
            "limit": limit,
        },
    )
    found: dict[int, list[Line]] = {number: [] for number in ids}
    for number, place, value, step_key, attempt in rows:
        found[number].append(line_of(place, value, step_key, attempt))
    return found


def line_of(seq: int, stored: dict[str, Any], step_key: str | None, attempt: int | None) -> Line:
    """A stored line {"at", "level", "stream", "message", "fields"?} with its place."""
    return Line(
        seq=seq,
        at=datetime.fromisoformat(stored["at"]),
        level=LogLevel(stored["level"]),
        stream=stored["stream"],
        message=stored["message"],
        fields=stored.get("fields"),
        step_key=step_key,
        attempt=attempt,
    )
