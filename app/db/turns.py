"""Turns of many jobs in one statement: what came of a step, what follows from it, and the step that is taken next.

Each turn holds only if the number of its job's last event is still the one that the turn was worked out for, since
whatever is done to a running job is an event as well; the steps and the worker's lease are part of the same condition.
A turn that does not hold changes nothing, and the others are not touched by that. No turn waits for anybody: a job or a
plan whose row somebody has locked is passed over. So the order in which rows are locked does not matter, and whoever is
passed over takes the turn again under the lock (`app.db.ledger`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.db import transitions
from app.db.gathering import Together
from app.db.statements import Row, Statement

_Columns = Sequence[tuple[str, str]]

_BIG, _INT, _TEXT, _BOOL, _REAL = "bigint", "int", "text", "boolean", "float8"
# One row a turn. `number` is the turn's place in the statement, `taker` the worker that takes a step.
_TURN: _Columns = (
    *((name, _BIG) for name in ("number", "id", "expected", "total", "f_id", "f_fence", "f_worker", "taker")),
    *((name, _TEXT) for name in ("actor", "correlation")),
    *((name, _BIG) for name in ("line_count", "line_bytes", "most_lines", "most_bytes")),
    # What becomes of the job, if anything.
    ("moves", _BOOL), ("status", _TEXT), ("reason", _TEXT), ("started", _BOOL), ("closed", _BOOL), ("logs", _TEXT),
    ("age", _REAL),
    # And of its plan.
    ("p_id", _BIG), ("p_expected", _TEXT), ("p_total", _BIG), ("p_status", _TEXT), ("p_reason", _TEXT),
    ("p_started", _BOOL), ("p_closed", _BOOL), ("p_succeeded", _BOOL), ("p_age", _REAL),
)  # fmt: skip
_EVENT: _Columns = (("number", _BIG), ("place", _BIG), ("kind", _TEXT), ("data", _TEXT))
_LINE: _Columns = (
    ("number", _BIG), ("place", _BIG), ("span", _BIG), ("step", _BIG), ("key", _TEXT), ("attempt", _INT),
    ("size", _INT), ("levels", "smallint"), ("codec", "smallint"), ("body", "bytea"),
)  # fmt: skip
_ENDED: _Columns = (
    ("number", _BIG), ("id", _BIG), ("effect_of", _BIG), ("status", _TEXT), ("reason", _TEXT), ("message", _TEXT),
    ("wait", _REAL), ("handle", _TEXT), ("outputs", _TEXT), ("error", _TEXT), ("percent", _REAL),
    ("observations", _INT), ("ended", _BOOL),
    ("direction", _TEXT), ("attempt", _INT), ("tried", _BOOL), ("keeps_error", _BOOL), ("effect", _TEXT),
    ("after", _TEXT), ("undo", _TEXT),
)  # fmt: skip
_MOVED: _Columns = (
    ("number", _BIG), ("id", _BIG), ("status", _TEXT), ("reason", _TEXT), ("because", _TEXT), ("due", _BOOL),
    ("rung", _BOOL), ("ended", _BOOL),
)  # fmt: skip
_TAKEN: _Columns = (
    ("number", _BIG), ("step", _BIG), ("worker", _BIG), ("held", _TEXT), ("attempt", _INT), ("undo_attempt", _INT),
    ("observations", _INT), ("acts", _BOOL), ("inputs", _TEXT), ("tries", _BOOL), ("try_number", _INT),
    ("direction", _TEXT), ("resource", _BIG), ("action", _TEXT), ("operation", "uuid"), ("before", _TEXT),
    ("intended", _TEXT),
)  # fmt: skip
_PARTS: Mapping[str, _Columns] = {
    "turn": _TURN, "event": _EVENT, "p_event": _EVENT, "line": _LINE, "ended": _ENDED, "moved": _MOVED,
    "passed": (("number", _BIG), *transitions.PASSED), "taken": _TAKEN,
}  # fmt: skip


def _rows(part: str, alias: str) -> str:
    """The rows of a part, as `unnest` makes them of its arrays."""
    columns = _PARTS[part]
    arrays = ", ".join(f":{part}_{name}::{kind}[]" for name, kind in columns)
    return f"unnest({arrays}) AS {alias}({', '.join(name for name, _ in columns)})"


_EVENT_ROW = "event_log (tenant_id, stream, stream_id, seq, feed, at, kind, actor, correlation_id, data)"
_WRITE = Statement(
    f"WITH asked AS MATERIALIZED (SELECT * FROM {_rows('turn', 'i')}),"  # noqa: S608  names and constants of ours only
    " free AS MATERIALIZED (SELECT id FROM orchestration_job WHERE tenant_id = :tenant AND id = ANY(:turn_id)"
    "   FOR NO KEY UPDATE SKIP LOCKED),"
    " plans AS MATERIALIZED (SELECT id, status FROM deployment_plan WHERE tenant_id = :tenant AND id = ANY(:turn_p_id)"
    "   FOR NO KEY UPDATE SKIP LOCKED),"
    " head AS (UPDATE orchestration_job j SET event_seq = j.event_seq + i.total,"
    "   feed = greatest(j.feed, pg_current_xact_id()::text::bigint), event_at = clock_timestamp(),"
    "   log_lines = j.log_lines + i.line_count, log_bytes = j.log_bytes + i.line_bytes,"
    "   status = CASE WHEN i.moves THEN i.status ELSE j.status END,"
    "   status_reason = CASE WHEN i.moves THEN i.reason ELSE j.status_reason END,"
    "   status_message = CASE WHEN i.moves THEN NULL ELSE j.status_message END,"
    "   started_at = CASE WHEN i.started"
    "     THEN coalesce(j.started_at, statement_timestamp() - make_interval(secs => i.age)) ELSE j.started_at END,"
    "   completed_at = CASE WHEN i.closed THEN clock_timestamp() ELSE j.completed_at END,"
    "   duration_seconds = CASE WHEN i.closed THEN"
    "     extract(epoch FROM clock_timestamp() - coalesce(j.started_at, clock_timestamp()))::int"
    "     ELSE j.duration_seconds END,"
    "   pause_until = CASE WHEN i.moves THEN NULL ELSE j.pause_until END,"
    "   version = CASE WHEN i.moves THEN j.version + 1 ELSE j.version END,"
    "   updated_at = CASE WHEN i.moves THEN now() ELSE j.updated_at END,"
    "   updated_by = CASE WHEN i.moves THEN i.actor ELSE j.updated_by END,"
    "   logs = CASE WHEN i.closed THEN i.logs::jsonb ELSE j.logs END"
    "  FROM asked i WHERE j.tenant_id = :tenant AND j.id = i.id AND j.id = ANY(:turn_id)"
    "   AND j.event_seq = i.expected AND EXISTS (SELECT FROM free WHERE free.id = i.id)"
    "   AND (i.p_id IS NULL OR EXISTS (SELECT FROM plans WHERE plans.id = i.p_id AND plans.status = i.p_expected))"
    # Only who holds the step with the newest fence may say what came of it.
    "   AND (i.f_id IS NULL OR EXISTS (SELECT FROM step_run h WHERE h.tenant_id = :tenant AND h.id = i.f_id"
    "     AND h.fence = i.f_fence AND h.worker_id = i.f_worker))"
    # A worker without a lease takes nothing.
    "   AND (i.taker IS NULL OR EXISTS (SELECT FROM worker w WHERE w.id = i.taker AND w.dead_at IS NULL"
    "     AND w.lease_until > clock_timestamp()))"
    # A log that becomes full is looked after under the lock.
    "   AND (i.line_count = 0 OR j.log_left_out IS NULL AND j.log_lines + i.line_count < i.most_lines"
    "     AND j.log_bytes + i.line_bytes < i.most_bytes)"
    "  RETURNING i.number, j.id, j.stack, j.event_seq AS last, j.event_seq - i.total AS start, i.actor, i.correlation,"
    "   CASE WHEN NOT j.simulated THEN j.feed END AS feed, j.event_at AS at, i.closed, i.p_id),"
    f" events AS (INSERT INTO {_EVENT_ROW} SELECT :tenant, 'JOB', head.id, head.start + e.place, head.feed, head.at,"
    "   e.kind, head.actor, head.correlation, e.data::jsonb"
    f"   FROM head JOIN {_rows('event', 'e')} ON e.number = head.number),"
    " lines AS (INSERT INTO job_log (tenant_id, job_id, first_seq, at, last_seq, step_run_id, step_key, attempt, size,"
    "   levels, codec, body) SELECT :tenant, head.id, head.start + l.place, head.at, head.start + l.place + l.span - 1,"
    f"   l.step, l.key, l.attempt, l.size, l.levels, l.codec, l.body FROM head JOIN {_rows('line', 'l')}"
    "   ON l.number = head.number),"
    f" ended AS MATERIALIZED (SELECT f.* FROM head JOIN {_rows('ended', 'f')} ON f.number = head.number),"
    f" finished AS (UPDATE step_run s SET {transitions.finished_columns('f.')} FROM ended f"
    "   WHERE s.tenant_id = :tenant AND s.id = f.id AND s.id = ANY(:ended_id)),"
    " tried_out AS (UPDATE step_attempt a SET ended_at = clock_timestamp(), error = f.error::jsonb FROM ended f"
    "   WHERE f.tried AND a.tenant_id = :tenant AND a.step_run_id = f.id AND a.step_run_id = ANY(:ended_id)"
    "   AND a.direction = f.direction AND a.number = f.attempt),"
    f" became AS (UPDATE step_effect e SET {transitions.effect_columns('f.')} FROM ended f"
    "   WHERE f.effect IS NOT NULL AND e.tenant_id = :tenant AND e.step_run_id = f.effect_of"
    "   AND e.step_run_id = ANY(:ended_effect_of) AND e.direction = 'FORWARD'),"
    f" moved AS (UPDATE step_run s SET {transitions.MOVED_COLUMNS} FROM head JOIN {_rows('moved', 'm')}"
    "   ON m.number = head.number WHERE s.tenant_id = :tenant AND s.id = m.id AND s.id = ANY(:moved_id)),"
    f" passed AS (UPDATE step_run s SET {transitions.PASSED_COLUMNS} FROM head JOIN {_rows('passed', 'p')}"
    "   ON p.number = head.number WHERE s.tenant_id = :tenant AND s.id = p.step AND s.id = ANY(:passed_step)"
    "   RETURNING p.*, s.fence),"
    f" passed_tries AS (INSERT INTO {transitions.PASSED_TRY}),"
    f" taken AS (UPDATE step_run s SET {transitions.taken_columns('t.')} FROM head JOIN {_rows('taken', 't')}"
    "   ON t.number = head.number WHERE s.tenant_id = :tenant AND s.id = t.step AND s.id = ANY(:taken_step)"
    "   RETURNING t.*, head.id AS job, s.fence),"
    f" tried AS (INSERT INTO {transitions.TRY_COLUMNS} SELECT :tenant, t.step, t.direction, t.try_number, w.name,"
    f"   t.fence FROM taken t JOIN worker w ON w.id = t.worker WHERE t.tries{transitions.TRY_AGAIN}),"
    f" meant AS (INSERT INTO {transitions.INTENT_COLUMNS} SELECT :tenant, t.job, t.step, 'FORWARD', t.resource,"
    "   t.action, 'INTENT', t.operation, t.before::jsonb, t.intended::jsonb FROM taken t WHERE t.acts"
    f"   {transitions.INTEND_AGAIN}),"
    f" followed AS (UPDATE deployment_plan p SET {transitions.followed_columns('i.p_')}, updated_by = i.actor"
    "   FROM head JOIN asked i ON i.number = head.number"
    "   WHERE p.tenant_id = :tenant AND p.id = i.p_id AND p.id = ANY(:turn_p_id)"
    "   RETURNING i.number, p.id, p.event_seq - i.p_total AS start, p.feed, p.event_at AS at, i.actor,"
    "   i.correlation),"
    f" followed_events AS (INSERT INTO {_EVENT_ROW} SELECT :tenant, 'PLAN', f.id, f.start + e.place, f.feed, f.at,"
    "   e.kind, f.actor, f.correlation, e.data::jsonb"
    f"   FROM followed f JOIN {_rows('p_event', 'e')} ON e.number = f.number),"
    " freed AS (DELETE FROM resource_lock l USING head WHERE head.closed AND l.tenant_id = :tenant"
    "   AND l.job_id = head.id),"
    # One row counts for all jobs of a workflow. They are locked in order: this is the one thing that is waited for.
    " counts AS MATERIALIZED (SELECT p.workflow_id AS id, count(*) AS jobs FROM head JOIN deployment_plan p"
    "   ON p.tenant_id = :tenant AND p.id = head.p_id WHERE head.closed GROUP BY p.workflow_id),"
    " counting AS MATERIALIZED (SELECT w.id FROM workflow w WHERE w.tenant_id = :tenant"
    "   AND w.id IN (SELECT id FROM counts) ORDER BY w.id FOR NO KEY UPDATE),"
    " counted AS (UPDATE workflow w SET execution_count = w.execution_count + c.jobs,"
    "   success_count = w.success_count + c.jobs, last_executed = clock_timestamp()"
    "   FROM counts c JOIN counting USING (id)"
    "   WHERE w.tenant_id = :tenant AND w.id = c.id)"
    " SELECT head.number, head.last, (SELECT t.fence FROM taken t WHERE t.number = head.number) AS fence,"
    # Whether somebody waits for what is free now: the tick need not be woken for nothing.
    " head.closed AND EXISTS (SELECT FROM orchestration_job q WHERE q.tenant_id = :tenant AND q.status = 'QUEUED'"
    "   AND (q.stack = head.stack OR q.status_reason IN ('CONCURRENCY_LIMIT', 'DEPENDENCY_PENDING'))) AS awaited"
    " FROM head"
)


# What a turn is worked out from when nothing of the job is remembered, without a lock.
_JOBS = Statement(
    f"SELECT {transitions.JOB_COLUMNS} FROM orchestration_job WHERE tenant_id = :tenant"  # noqa: S608
    " AND id = ANY(:jobs::bigint[])"
)
# Of a job with more steps than are remembered one too many is read, which tells.
_STEPS = Statement(
    f"SELECT s.* FROM unnest(:jobs::bigint[]) AS a(id) CROSS JOIN LATERAL (SELECT s.job_id,"  # noqa: S608
    f" {transitions.CLAIM_COLUMNS} FROM step_run s WHERE s.tenant_id = :tenant AND s.job_id = a.id"
    f" ORDER BY s.wave, s.id LIMIT {transitions.REMEMBERED + 1}) s"
)


# Where the columns of the parts with several rows are among the values of a turn.
_ARRAYS: Mapping[str, Sequence[str]] = {
    "event": ("places", "kinds", "data"),
    "p_event": ("p_places", "p_kinds", "p_data"),
    "line": ("line_places", "spans", "steps", "keys", "attempts", "sizes", "levels", "codecs", "bodies"),
    "moved": (
        "moved_ids", "moved_statuses", "moved_reasons", "moved_because", "moved_due", "moved_rung", "moved_ended",
    ),
    "passed": tuple(f"passed_{name}s" for name, _ in transitions.PASSED),
}  # fmt: skip
# And those of the parts with one row, where the name is another one.
_NAMED = {("ended", "attempt"): "f_number", ("taken", "try_number"): "number"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a job, by the values that `transitions.write_job` takes.

    `job` and `plan`: whether they move; `take` and `finish`: whether a step is taken, and one has finished.
    `logs` is what the customer's column has when the job closes.
    """

    values: Mapping[str, Any]
    job: bool
    plan: bool
    take: bool
    finish: bool
    logs: str | None

    def row(self) -> Mapping[str, Any]:
        """The turn's own row."""
        values = {**self.values, "logs": self.logs, "moves": self.job}
        values["taker"] = values["worker"] if self.take else next(iter(values["passed_workers"]), None)
        if not self.job:
            values |= {"status": None, "reason": None, "started": False, "closed": False}
        if not self.plan:
            values |= _NO_PLAN
        if not self.finish:
            values |= {"f_id": None, "f_fence": None, "f_worker": None}
        return values


_NO_PLAN = {name: None for name, _ in _TURN if name.startswith("p_")}


@dataclass(frozen=True, slots=True)
class Look:
    """A job and its steps, read one after the other: together true only while the job's number of events is that."""

    job: Row
    steps: Sequence[Row]


def _bound(tenant_id: int, turns: Sequence[Turn]) -> list[Any]:
    """The values of `_WRITE`."""
    bound: dict[str, Any] = {"tenant": tenant_id}
    numbered = list(enumerate(turns))
    own = [turn.row() for turn in turns]
    bound["turn_number"] = list(range(len(turns)))
    for name, _ in _TURN[1:]:
        bound[f"turn_{name}"] = [row[name] for row in own]
    for part, arrays in _ARRAYS.items():
        having = [(number, turn.values) for number, turn in numbered if part != "p_event" or turn.plan]
        bound[f"{part}_number"] = [number for number, values in having for _ in values[arrays[0]]]
        for (name, _), array in zip(_PARTS[part][1:], arrays, strict=True):
            bound[f"{part}_{name}"] = [item for _, values in having for item in values[array]]
    for part, columns, prefix in (("ended", _ENDED, "f_"), ("taken", _TAKEN, "")):
        having = [(n, turn.values) for n, turn in numbered if (turn.finish if part == "ended" else turn.take)]
        bound[f"{part}_number"] = [number for number, _ in having]
        for name, _ in columns[1:]:
            source = _NAMED.get((part, name), prefix + name)
            bound[f"{part}_{name}"] = [values[source] for _, values in having]
    return _WRITE.bind(bound)


async def _take(connection: Any, tenant_id: int, turns: Sequence[Turn]) -> list[Row | None]:
    answers: list[Row | None] = [None] * len(turns)
    for row in await connection.fetch(_WRITE.sql, *_bound(tenant_id, turns)):
        answers[row["number"]] = row
    return answers


async def _look(connection: Any, tenant_id: int, asked: Sequence[int]) -> list[Look | None]:
    values = {"tenant": tenant_id, "jobs": list(dict.fromkeys(asked))}
    # The job first: what happens to it in between is seen by its number of events.
    jobs = {row["id"]: row for row in await connection.fetch(_JOBS.sql, *_JOBS.bind(values))}
    steps: dict[int, list[Row]] = {job_id: [] for job_id in jobs}
    for row in await connection.fetch(_STEPS.sql, *_STEPS.bind(values)):
        if row["job_id"] in steps:
            steps[row["job_id"]].append(row)
    return [Look(jobs[job_id], steps[job_id]) if job_id in jobs else None for job_id in asked]


# What became of a turn: {"last", "fence", "awaited"}, or None for one that did not hold.
TURNS: Together[Turn, Row | None] = Together(_take)
# By the job's id.
LOOKS: Together[int, Look | None] = Together(_look)
