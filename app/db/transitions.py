"""The statements that write what happens to a job: moves of steps, job and plan, claims, and their events.

Whatever one transaction has to say about a job goes out in one statement, put together from the parts that it needs:
each statement costs more on its way than in its work. Rows are found by keys that the caller knows; a join with what
another part returns may be planned as a walk over all rows of the tenant.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from app.db import journal
from app.db.statements import Statement
from app.domain.events import Stream
from app.domain.retrying import MAX_CRASHES

# Of a job with more steps, a worker remembers only what it reads for each outcome.
REMEMBERED = 100

# Nothing is done unless the row of the job was taken: its condition says what has to hold for all of it.
_HEADED = " AND EXISTS (SELECT FROM head)"
# What a move writes into a step's row; `m` has the columns of `unnest` below.
MOVED_COLUMNS = (
    "status = m.status, status_reason = m.reason, not_run_because = m.because,"
    " due_at = CASE WHEN m.due THEN clock_timestamp() END,"
    " dispatched_at = CASE WHEN m.rung THEN clock_timestamp() END,"
    " dispatches = CASE WHEN m.rung THEN 1 ELSE 0 END,"
    " undo_attempt = CASE WHEN m.status = 'COMPENSATING' THEN 0 ELSE s.undo_attempt END,"
    " completed_at = CASE WHEN m.ended THEN clock_timestamp() WHEN m.status NOT IN ('PENDING', 'READY')"
    "   THEN s.completed_at END"
)
_MOVE_STEPS = (
    f", moved AS (UPDATE step_run s SET {MOVED_COLUMNS}"
    " FROM unnest(:moved_ids::bigint[], :moved_statuses::text[], :moved_reasons::text[],"
    " :moved_because::text[], :moved_due::boolean[], :moved_rung::boolean[], :moved_ended::boolean[])"
    " AS m(id, status, reason, because, due, rung, ended)"
    f" WHERE s.tenant_id = :tenant AND s.id = m.id AND s.id = ANY(:moved_ids){_HEADED})"
)
_MOVE_JOB = (
    ", status = :status, status_reason = :reason, status_message = :message,"
    " dispatched_at = CASE WHEN :granted THEN clock_timestamp() ELSE dispatched_at END,"
    " started_at = CASE WHEN :started THEN coalesce(started_at, statement_timestamp() - make_interval(secs => :age))"
    "   ELSE started_at END,"
    " completed_at = CASE WHEN :closed THEN clock_timestamp() END,"
    " duration_seconds = CASE WHEN :closed THEN"
    "   extract(epoch FROM clock_timestamp() - coalesce(started_at, clock_timestamp()))::int END,"
    " pause_until = CASE WHEN :pauses THEN clock_timestamp() + make_interval(secs =>"
    "   coalesce((configuration->'pause'->>'seconds')::float8, :patience)) END,"
    " rollback_completeness = coalesce(:completeness::text, rollback_completeness),"
    " error = CASE WHEN :resumes THEN NULL ELSE error END,"
    " error_message = CASE WHEN :resumes THEN NULL ELSE error_message END,"
    " version = version + 1, updated_at = now(), updated_by = :actor"
)
_MOVE_PLAN = (
    ", status = :status, status_reason = :reason, status_message = :message,"
    " started_at = CASE WHEN :started THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,"
    " completed_at = CASE WHEN :closed THEN clock_timestamp() END,"
    " duration_seconds = CASE WHEN :closed THEN"
    "   extract(epoch FROM clock_timestamp() - coalesce(started_at, clock_timestamp()))::int END,"
    " ttl_at = CASE WHEN :succeeded THEN clock_timestamp() + make_interval(secs => ttl_seconds) END,"
    " active_job_id = CASE WHEN :closed THEN NULL ELSE active_job_id END,"
    " error_message = CASE WHEN :closed THEN (SELECT error_message FROM orchestration_job"
    "   WHERE tenant_id = :tenant AND id = :job) END,"
    " version = version + 1, updated_at = now(), updated_by = :actor"
)


def taken_columns(new: str) -> str:
    """What taking a step writes into its row `s`; `new` stands before the names of the values."""
    return (
        f"status = {new}held, worker_id = {new}worker, fence = s.fence + 1, due_at = NULL, attempt = {new}attempt,"
        f" undo_attempt = {new}undo_attempt, observations = {new}observations, touched = s.touched OR {new}acts,"
        f" inputs = coalesce({new}inputs::jsonb, s.inputs), started_at = coalesce(s.started_at, clock_timestamp()),"
        " deadline_at = clock_timestamp() + make_interval(secs => s.timeout_seconds), status_reason = 'NONE',"
        " expires_at = coalesce(s.expires_at, clock_timestamp() + make_interval(secs => s.total_seconds)),"
        " silent_at = clock_timestamp() + make_interval(secs => s.heartbeat_seconds)"
    )


# The step is taken, the try is entered, the intent is written. What was before the first attempt stays what was before:
# later attempts may find it half changed.
TRY_COLUMNS = "step_attempt (tenant_id, step_run_id, direction, number, worker, fence)"
TRY_AGAIN = (
    " ON CONFLICT (tenant_id, step_run_id, direction, number) DO UPDATE SET worker = excluded.worker,"
    " fence = excluded.fence, ended_at = NULL"
)
INTENT_COLUMNS = (
    "step_effect (tenant_id, job_id, step_run_id, direction, resource_id, action, state, operation_id, before,"
    " intended)"
)
INTEND_AGAIN = (
    " ON CONFLICT (tenant_id, step_run_id, direction) DO UPDATE SET state = 'INTENT', intended = excluded.intended"
)
_TAKE = (
    f", taken AS (UPDATE step_run s SET {taken_columns(':')}"
    f" WHERE s.tenant_id = :tenant AND s.id = :step{_HEADED} RETURNING s.fence),"
    f" tried AS (INSERT INTO {TRY_COLUMNS}"
    " SELECT :tenant, :step, :direction, :number, w.name, taken.fence FROM worker w, taken"
    f" WHERE w.id = :worker AND :tries::boolean{TRY_AGAIN}),"
    f" meant AS (INSERT INTO {INTENT_COLUMNS} SELECT :tenant, :id, :step, 'FORWARD', :resource::bigint, :action,"
    " 'INTENT', :operation::uuid, :before::jsonb, :intended::jsonb FROM taken WHERE :acts"
    f"{INTEND_AGAIN})"
)
# A worker without a lease takes nothing.
_LIVES = " AND EXISTS (SELECT FROM worker WHERE id = :worker AND dead_at IS NULL AND lease_until > clock_timestamp())"


def finished_columns(new: str) -> str:
    """What the outcome of a step writes into its row `s`; `new` stands before the names of the values."""
    return (
        f"status = {new}status, status_reason = {new}reason, status_message = {new}message, worker_id = NULL,"
        f" due_at = CASE WHEN {new}wait::float8 IS NULL THEN NULL"
        f"   ELSE clock_timestamp() + make_interval(secs => {new}wait::float8) END,"
        f" dispatched_at = NULL, dispatches = 0, deadline_at = NULL, handle = {new}handle::jsonb,"
        f" outputs = coalesce({new}outputs::jsonb, s.outputs),"
        f" error = CASE WHEN {new}keeps_error THEN coalesce({new}error::jsonb, s.error) ELSE {new}error::jsonb END,"
        f" percent = coalesce({new}percent::float8, s.percent),"
        f" observations = coalesce({new}observations::int, s.observations),"
        f" completed_at = CASE WHEN {new}ended THEN clock_timestamp() END"
    )


def effect_columns(new: str) -> str:
    """What the outcome of a step writes into the row `e` of its effect."""
    return (
        f"state = {new}effect, after = coalesce({new}after::jsonb, e.after), undo = coalesce({new}undo::jsonb, e.undo),"
        " completed_at = clock_timestamp()"
    )


# The outcome of a step, the end of its try, and what became of its effect.
_FINISH = (
    f", finished AS (UPDATE step_run s SET {finished_columns(':f_')}"
    f" WHERE s.tenant_id = :tenant AND s.id = :f_id{_HEADED}),"
    " tried_out AS (UPDATE step_attempt SET ended_at = clock_timestamp(), error = :f_error::jsonb"
    " WHERE :f_tried AND tenant_id = :tenant AND step_run_id = :f_id AND direction = :f_direction"
    f" AND number = :f_number{_HEADED}),"
    f" became AS (UPDATE step_effect e SET {effect_columns(':f_')}"
    " WHERE :f_effect::text IS NOT NULL AND e.tenant_id = :tenant AND e.step_run_id = :f_effect_of"
    f" AND e.direction = 'FORWARD'{_HEADED})"
)
# Steps that were begun and had ended before anything was written of them: nothing outside was touched meanwhile, so
# whoever finds them not begun may begin them. `began` and `ended` are how many seconds ago that was.
PASSED: Sequence[tuple[str, str]] = (
    ("step", "bigint"), ("worker", "bigint"), ("attempt", "int"), ("inputs", "text"), ("status", "text"),
    ("reason", "text"), ("outputs", "text"), ("began", "float8"), ("ended", "float8"),
)  # fmt: skip
PASSED_COLUMNS = (
    "status = p.status, status_reason = p.reason, status_message = NULL, worker_id = NULL, fence = s.fence + 1,"
    " due_at = NULL, dispatched_at = NULL, dispatches = 0, deadline_at = NULL, attempt = p.attempt, observations = 0,"
    " inputs = coalesce(p.inputs::jsonb, s.inputs), outputs = coalesce(p.outputs::jsonb, s.outputs), handle = NULL,"
    " error = NULL, started_at = coalesce(s.started_at, statement_timestamp() - make_interval(secs => p.began)),"
    " completed_at = statement_timestamp() - make_interval(secs => p.ended)"
)
PASSED_TRY = (
    "step_attempt (tenant_id, step_run_id, direction, number, worker, fence, started_at, ended_at)"
    " SELECT :tenant, p.step, 'FORWARD', p.attempt, w.name, p.fence,"
    " statement_timestamp() - make_interval(secs => p.began), statement_timestamp() - make_interval(secs => p.ended)"
    f" FROM passed p JOIN worker w ON w.id = p.worker{TRY_AGAIN}"
)
_PASS = (
    f", passed AS (UPDATE step_run s SET {PASSED_COLUMNS} FROM unnest("
    + ", ".join(f":passed_{name}s::{kind}[]" for name, kind in PASSED)
    + f") AS p({', '.join(name for name, _ in PASSED)})"
    f" WHERE s.tenant_id = :tenant AND s.id = p.step AND s.id = ANY(:passed_steps){_HEADED} RETURNING p.*, s.fence),"
    f" passed_tries AS (INSERT INTO {PASSED_TRY})"
)
# Only who holds the step with the newest fence may say what came of it.
_HOLDS = (
    " AND EXISTS (SELECT FROM step_run h WHERE h.tenant_id = :tenant AND h.id = :f_id AND h.fence = :f_fence"
    " AND h.worker_id = :f_worker)"
)


def followed_columns(new: str) -> str:
    """What following its job writes into the plan's row `p`; `new` stands before the names of the values."""
    return (
        f"event_seq = p.event_seq + {new}total, feed = greatest(p.feed, pg_current_xact_id()::text::bigint),"
        " event_at = clock_timestamp(),"
        f" status = {new}status, status_reason = {new}reason, status_message = NULL, error_message = NULL,"
        f" started_at = CASE WHEN {new}started"
        f"   THEN coalesce(p.started_at, statement_timestamp() - make_interval(secs => {new}age))"
        "   ELSE p.started_at END,"
        f" completed_at = CASE WHEN {new}closed THEN clock_timestamp() END,"
        f" duration_seconds = CASE WHEN {new}closed THEN"
        "   extract(epoch FROM clock_timestamp() - coalesce(p.started_at, clock_timestamp()))::int END,"
        f" ttl_at = CASE WHEN {new}succeeded THEN clock_timestamp() + make_interval(secs => p.ttl_seconds) END,"
        f" active_job_id = CASE WHEN {new}closed THEN NULL ELSE p.active_job_id END,"
        " version = p.version + 1, updated_at = now()"
    )


# The plan follows in the same statement where it is in the status that it was last seen in.
_FOLLOW = (
    f", followed AS (UPDATE deployment_plan p SET {followed_columns(':p_')}, updated_by = :actor"
    f" WHERE p.tenant_id = :tenant AND p.id = :p_id AND p.status = :p_expected{_HEADED}"
    " RETURNING p.event_seq - :p_total AS start, p.feed, p.event_at AS at),"
    " followed_events AS (INSERT INTO event_log (tenant_id, stream, stream_id, seq, feed, at, kind, actor,"
    " correlation_id, data) SELECT :tenant, 'PLAN', :p_id, f.start + e.place, f.feed, f.at, e.kind, :actor,"
    " :correlation, e.data::jsonb FROM followed f, unnest(:p_places::bigint[], :p_kinds::text[], :p_data::text[])"
    " AS e(place, kind, data))"
)


@cache
def write_job(
    *, lines: bool, steps: bool, job: bool, plan: bool, take: bool, finish: bool, passes: bool, expects: bool
) -> Statement:
    """Appends to the job's journal; moves steps, the job and its plan (`followed`), takes a step for a worker
    (`fence`), writes the outcome of a step, and steps that were passed, where asked.

    Gives no row, and does nothing, when somebody has written about the job since `expected`, when the step whose
    outcome it writes is in other hands, or when the worker that takes one has no lease any more.
    """
    return journal.statement(
        Stream.JOB,
        lines=lines,
        condition=(" AND event_seq = :expected" if expects else "")
        + (_HOLDS if finish else "")
        + (_LIVES if take else ""),
        also=(_FINISH if finish else "")
        + (_MOVE_STEPS if steps else "")
        + (_PASS if passes else "")
        + (_TAKE if take else "")
        + (_FOLLOW if plan else ""),
        assignments=_MOVE_JOB if job else "",
        returning=(", (SELECT fence FROM taken) AS fence" if take else "")
        + (", EXISTS (SELECT FROM followed) AS followed" if plan else ""),
    )


WRITE_PLAN = journal.statement(Stream.PLAN, lines=False, assignments=_MOVE_PLAN)
LOCK_PLAN = Statement("SELECT status FROM deployment_plan WHERE tenant_id = :tenant AND id = :id FOR UPDATE")
JOB_COLUMNS = (
    "id, plan_id, status, status_reason, failure_strategy, rollback_scope, cancel_mode, cancel_outcome, stack,"
    " inputs, configuration, direction, event_seq, started_at, simulated, log_lines,"
    " coalesce(pause_until <= clock_timestamp(), false) AS overdue,"
    # Without a lock: what is written about the plan is written only where this is still so.
    " (SELECT p.status FROM deployment_plan p WHERE p.tenant_id = :tenant AND p.id = plan_id) AS plan_status"
)
# Against others who would write about the job, and not against rows that point to it: their foreign keys would wait for
# this lock, and whoever has it wait for them.
LOCK_JOB = Statement(
    f"SELECT {JOB_COLUMNS} FROM orchestration_job WHERE tenant_id = :tenant AND id = :id FOR NO KEY UPDATE"
)
STEP_COLUMNS = (
    "s.id, s.step_key, s.status, s.needs, s.phase, s.worker_id, s.fence, s.touched, s.attempt,"
    " coalesce(CASE WHEN s.status_reason = 'APPROVAL_TIMEOUT' THEN s.spec->'gate'->>'onTimeout' END,"
    "   s.spec->>'strategy') AS strategy, (s.spec->>'ignore')::boolean AS ignore, s.operation = 'GATE' AS gate,"
    " s.spec->>'checkpoint' AS checkpoint, s.operation = 'VERIFY' AS verifies,"
    " s.status_reason = 'DEPENDENCY_FAILED' AS abandoned, s.completed_at, s.resource_id IS NOT NULL AS has_resource,"
    f" s.crashes >= {MAX_CRASHES} AS lost, s.step_type = 'RESOURCE_BACKUP' AS retains"
)
# What a claim has to know of a step that nobody has tried and that has no resource; nothing of any other.
_UNTRIED = (
    "s.attempt = 0 AND NOT s.touched AND s.resource_id IS NULL AND s.operation = 'RUN'"
    " AND s.status IN ('PENDING', 'READY')"
)
CLAIM_COLUMNS = (
    f"{STEP_COLUMNS}, {_UNTRIED} AS untried, s.due_at <= clock_timestamp() AS is_due, s.operation, s.change,"
    f" CASE WHEN {_UNTRIED} THEN s.spec END AS spec, CASE WHEN {_UNTRIED} THEN s.inputs END AS inputs,"
    " s.undo_attempt, s.max_attempts, s.crashes, s.observations, s.timeout_seconds, s.heartbeat_seconds,"
    " s.operation_id"
)
STEPS_TO_CLAIM = Statement(
    f"SELECT {CLAIM_COLUMNS} FROM step_run s WHERE s.tenant_id = :tenant AND s.job_id = :job"
    f" ORDER BY s.wave, s.id LIMIT {REMEMBERED + 1}"
)
STEPS = Statement(
    f"SELECT {STEP_COLUMNS} FROM step_run s WHERE s.tenant_id = :tenant AND s.job_id = :job ORDER BY s.wave, s.id"
)
LIMIT_ROLLBACK = Statement(
    "UPDATE orchestration_job SET rollback_scope = :scope,"
    " configuration = coalesce(configuration, '{}'::jsonb) || :checkpoint::jsonb WHERE tenant_id = :tenant AND id = :id"
)
# What the first failed step says is what the job says.
BLAME = Statement(
    "UPDATE orchestration_job j SET error = s.error || jsonb_build_object('stepKey', s.step_key),"
    " error_message = s.step_key || ': ' || (s.error->>'message') FROM step_run s"
    " WHERE j.tenant_id = :tenant AND j.id = :id AND j.error IS NULL AND s.tenant_id = j.tenant_id AND s.job_id = j.id"
    " AND s.step_key = :because AND s.error IS NOT NULL"
)
_TOLD = "told AS (UPDATE orchestration_job SET logs = :logs::jsonb WHERE tenant_id = :tenant AND id = :id)"
# What a job leaves when it is over: its lock and the resources that never came into being go, what was still being done
# to others has an outcome that nobody knows (`left_behind` are those that are something else now), and whatever is
# unknown is looked at soon. The customer's column of logs gets the tail (app.db.tails), the workflow counts: its row is
# one for all jobs of the workflow, so little comes after this in its transaction. `awaited`: somebody waits for what is
# free now.
CLOSE_JOB = Statement(
    "WITH freed AS (DELETE FROM resource_lock WHERE tenant_id = :tenant AND job_id = :id),"
    " was AS (SELECT r.id, r.status, r.resource_key, r.owner_plan_id, (SELECT max(coalesce(s.undo_of_id, s.id))"
    "   FROM step_run s WHERE s.tenant_id = :tenant AND s.job_id = :id AND s.resource_id = r.id"
    "   AND s.operation IN ('APPLY', 'DELETE', 'ACT')) AS step FROM cloud_resource r WHERE r.tenant_id = :tenant"
    "   AND r.status IN ('PLANNED', 'CREATING', 'UPDATING', 'DELETING', 'UNKNOWN') AND r.id = ANY(ARRAY("
    "   SELECT resource_id FROM step_run WHERE tenant_id = :tenant AND job_id = :id AND resource_id IS NOT NULL))"
    "   FOR UPDATE),"
    " became AS (UPDATE cloud_resource r SET status = CASE was.status WHEN 'PLANNED' THEN 'DELETED' ELSE 'UNKNOWN' END,"
    " is_deleted = was.status = 'PLANNED', updated_at = now(), version = r.version + 1,"
    " in_doubt_step_id = CASE WHEN was.status <> 'PLANNED' THEN coalesce(r.in_doubt_step_id, was.step) END,"
    " observe_at = CASE WHEN was.status <> 'PLANNED' THEN clock_timestamp() + interval '5 seconds' END FROM was"
    " WHERE r.tenant_id = :tenant AND r.id = was.id RETURNING r.id, was.resource_key, was.owner_plan_id,"
    " r.drift_status, was.status AS previous, r.status),"
    f" {_TOLD},"
    " counted AS (UPDATE workflow SET execution_count = execution_count + 1, last_executed = clock_timestamp(),"
    " success_count = success_count + CASE WHEN :failed THEN 0 ELSE 1 END,"
    " failure_count = failure_count + CASE WHEN :failed THEN 1 ELSE 0 END"
    " WHERE tenant_id = :tenant AND id = (SELECT workflow_id FROM deployment_plan"
    "   WHERE tenant_id = :tenant AND id = :plan))"
    # Whether somebody waits for what is free now: the tick need not be woken for nothing.
    " SELECT EXISTS (SELECT 1 FROM orchestration_job WHERE tenant_id = :tenant AND status = 'QUEUED'"
    "   AND (stack = :stack OR status_reason IN ('CONCURRENCY_LIMIT', 'DEPENDENCY_PENDING'))) AS awaited,"
    " (SELECT jsonb_agg(to_jsonb(b) ORDER BY b.id) FROM became b WHERE b.status <> b.previous) AS left_behind"
)
# A simulated job leaves its log, and nothing of what it has made up.
CLOSE_SIMULATION = Statement(f"WITH {_TOLD} DELETE FROM simulated_resource WHERE tenant_id = :tenant AND job_id = :id")
