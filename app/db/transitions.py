"""The statements that write what happens to a job: moves of steps, job and plan, claims, and their events.

Whatever one transaction has to say about a job goes out in one statement, put together from the parts that it needs:
each statement costs more on its way than in its work. Rows are found by keys that the caller knows; a join with what
another part returns may be planned as a walk over all rows of the tenant.
"""

from __future__ import annotations

from functools import cache

from app.db import journal
from app.db.statements import Statement
from app.domain.events import Stream
from app.domain.retrying import MAX_CRASHES

# Nothing is done unless the row of the job was taken: its condition says what has to hold for all of it.
_HEADED = " AND EXISTS (SELECT FROM head)"
_MOVE_STEPS = (
    ", moved AS (UPDATE step_run s SET status = m.status, status_reason = m.reason, not_run_because = m.because,"
    " due_at = CASE WHEN m.due THEN clock_timestamp() END,"
    " dispatched_at = CASE WHEN m.due AND :rings THEN clock_timestamp() END,"
    " dispatches = CASE WHEN m.due AND :rings THEN 1 ELSE 0 END,"
    " undo_attempt = CASE WHEN m.status = 'COMPENSATING' THEN 0 ELSE s.undo_attempt END,"
    " completed_at = CASE WHEN m.ended THEN clock_timestamp() WHEN m.status NOT IN ('PENDING', 'READY')"
    "   THEN s.completed_at END"
    " FROM unnest(:moved_ids::bigint[], :moved_statuses::text[], :moved_reasons::text[],"
    " :moved_because::text[], :moved_due::boolean[], :moved_ended::boolean[])"
    " AS m(id, status, reason, because, due, ended)"
    f" WHERE s.tenant_id = :tenant AND s.id = m.id AND s.id = ANY(:moved_ids){_HEADED})"
)
_MOVE_JOB = (
    ", status = :status, status_reason = :reason, status_message = :message,"
    " dispatched_at = CASE WHEN :granted THEN clock_timestamp() ELSE dispatched_at END,"
    " started_at = CASE WHEN :started THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,"
    " completed_at = CASE WHEN :closed THEN clock_timestamp() END,"
    " duration_seconds = CASE WHEN :closed THEN"
    "   extract(epoch FROM clock_timestamp() - coalesce(started_at, clock_timestamp()))::int END,"
    " pause_until = CASE WHEN :pauses THEN clock_timestamp() + make_interval(secs =>"
    "   coalesce((configuration->'pause'->>'seconds')::float8, :patience)) END,"
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
# The step is taken, the try is entered, the intent is written. What was before the first attempt stays what was before:
# later attempts may find it half changed.
_TAKE = (
    ", taken AS (UPDATE step_run SET status = :held, worker_id = :worker, fence = fence + 1, due_at = NULL,"
    " attempt = :attempt, undo_attempt = :undo_attempt, observations = :observations, touched = touched OR :acts,"
    " inputs = coalesce(:inputs::jsonb, inputs), started_at = coalesce(started_at, clock_timestamp()),"
    " deadline_at = clock_timestamp() + make_interval(secs => timeout_seconds), status_reason = 'NONE',"
    " expires_at = coalesce(expires_at, clock_timestamp() + make_interval(secs => total_seconds)),"
    " silent_at = clock_timestamp() + make_interval(secs => heartbeat_seconds)"
    f" WHERE tenant_id = :tenant AND id = :step{_HEADED} RETURNING fence),"
    " tried AS (INSERT INTO step_attempt (tenant_id, step_run_id, direction, number, worker, fence)"
    " SELECT :tenant, :step, :direction, :number, w.name, taken.fence FROM worker w, taken"
    " WHERE w.id = :worker AND :tries::boolean"
    " ON CONFLICT (tenant_id, step_run_id, direction, number) DO UPDATE SET worker = excluded.worker,"
    " fence = excluded.fence, ended_at = NULL),"
    " meant AS (INSERT INTO step_effect (tenant_id, job_id, step_run_id, direction, resource_id, action, state,"
    " operation_id, before, intended) SELECT :tenant, :id, :step, 'FORWARD', :resource::bigint, :action, 'INTENT',"
    " :operation::uuid, :before::jsonb, :intended::jsonb FROM taken WHERE :acts"
    " ON CONFLICT (tenant_id, step_run_id, direction) DO UPDATE SET state = 'INTENT', intended = excluded.intended)"
)
# A worker without a lease takes nothing.
_LIVES = " AND EXISTS (SELECT FROM worker WHERE id = :worker AND dead_at IS NULL AND lease_until > clock_timestamp())"
# The outcome of a step, the end of its try, and what became of its effect.
_FINISH = (
    ", finished AS (UPDATE step_run SET status = :f_status, status_reason = :f_reason, status_message = :f_message,"
    " worker_id = NULL, due_at = CASE WHEN :f_wait::float8 IS NULL THEN NULL"
    "   ELSE clock_timestamp() + make_interval(secs => :f_wait::float8) END,"
    " dispatched_at = NULL, dispatches = 0, deadline_at = NULL, handle = :f_handle::jsonb,"
    " outputs = coalesce(:f_outputs::jsonb, outputs), "
    " error = CASE WHEN :f_keeps_error THEN coalesce(:f_error::jsonb, error) ELSE :f_error::jsonb END,"
    " percent = coalesce(:f_percent::float8, percent),"
    " completed_at = CASE WHEN :f_ended THEN clock_timestamp() END"
    f" WHERE tenant_id = :tenant AND id = :f_id{_HEADED}),"
    " tried_out AS (UPDATE step_attempt SET ended_at = clock_timestamp(), error = :f_error::jsonb"
    " WHERE :f_tried AND tenant_id = :tenant AND step_run_id = :f_id AND direction = :f_direction"
    f" AND number = :f_number{_HEADED}),"
    " became AS (UPDATE step_effect SET state = :f_effect, after = coalesce(:f_after::jsonb, after),"
    " undo = coalesce(:f_undo::jsonb, undo), completed_at = clock_timestamp()"
    " WHERE :f_effect::text IS NOT NULL AND tenant_id = :tenant AND step_run_id = :f_effect_of"
    f" AND direction = 'FORWARD'{_HEADED})"
)
# Only who holds the step with the newest fence may say what came of it.
_HOLDS = (
    " AND EXISTS (SELECT FROM step_run h WHERE h.tenant_id = :tenant AND h.id = :f_id AND h.fence = :f_fence"
    " AND h.worker_id = :f_worker)"
)
# The plan follows in the same statement where it is in the status that it was last seen in.
_FOLLOW = (
    ", followed AS (UPDATE deployment_plan SET event_seq = event_seq + :p_total,"
    " feed = greatest(feed, pg_current_xact_id()::text::bigint), status = :p_status, status_reason = :p_reason,"
    " status_message = NULL, error_message = NULL,"
    " started_at = CASE WHEN :p_started THEN coalesce(started_at, clock_timestamp()) ELSE started_at END,"
    " completed_at = CASE WHEN :p_closed THEN clock_timestamp() END,"
    " duration_seconds = CASE WHEN :p_closed THEN"
    "   extract(epoch FROM clock_timestamp() - coalesce(started_at, clock_timestamp()))::int END,"
    " ttl_at = CASE WHEN :p_succeeded THEN clock_timestamp() + make_interval(secs => ttl_seconds) END,"
    " active_job_id = CASE WHEN :p_closed THEN NULL ELSE active_job_id END,"
    " version = version + 1, updated_at = now(), updated_by = :actor"
    f" WHERE tenant_id = :tenant AND id = :p_id AND status = :p_expected{_HEADED}"
    " RETURNING event_seq - :p_total AS start, feed),"
    " followed_events AS (INSERT INTO event_log (tenant_id, stream, stream_id, seq, feed, kind, actor,"
    " correlation_id, data) SELECT :tenant, 'PLAN', :p_id, f.start + e.place, f.feed, e.kind, :actor, :correlation,"
    " e.data::jsonb FROM followed f, unnest(:p_places::bigint[], :p_kinds::text[], :p_data::text[])"
    " AS e(place, kind, data))"
)


@cache
def write_job(*, lines: bool, steps: bool, job: bool, plan: bool, take: bool, finish: bool, expects: bool) -> Statement:
    """Appends to the job's journal; moves steps, the job and its plan (`followed`), takes a step for a worker
    (`fence`), and writes the outcome of a step, where asked.

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
        + (_TAKE if take else "")
        + (_FOLLOW if plan else ""),
        assignments=_MOVE_JOB if job else "",
        returning=(", (SELECT fence FROM taken) AS fence" if take else "")
        + (", EXISTS (SELECT FROM followed) AS followed" if plan else ""),
    )


WRITE_PLAN = journal.statement(Stream.PLAN, lines=False, assignments=_MOVE_PLAN)
LOCK_PLAN = Statement("SELECT status FROM deployment_plan WHERE tenant_id = :tenant AND id = :id FOR UPDATE")
LOCK_JOB = Statement(
    "SELECT id, plan_id, status, status_reason, failure_strategy, rollback_scope, cancel_mode, cancel_outcome, stack,"
    " inputs, configuration, direction, event_seq, started_at, simulated,"
    " coalesce(pause_until <= clock_timestamp(), false) AS overdue,"
    # Without a lock: what is written about the plan is written only where this is still so.
    " (SELECT p.status FROM deployment_plan p WHERE p.tenant_id = :tenant AND p.id = plan_id) AS plan_status"
    " FROM orchestration_job WHERE tenant_id = :tenant AND id = :id FOR UPDATE"
)
STEP_COLUMNS = (
    "s.id, s.step_key, s.status, s.needs, s.phase, s.worker_id, s.fence, s.touched, s.attempt,"
    " coalesce(CASE WHEN s.status_reason = 'APPROVAL_TIMEOUT' THEN s.spec->'gate'->>'onTimeout' END,"
    "   s.spec->>'strategy') AS strategy, (s.spec->>'ignore')::boolean AS ignore, s.operation = 'GATE' AS gate,"
    " s.spec->>'checkpoint' AS checkpoint, s.operation = 'VERIFY' AS verifies,"
    " s.status_reason = 'DEPENDENCY_FAILED' AS abandoned, s.completed_at,"
    f" s.crashes >= {MAX_CRASHES} AS lost, s.step_type = 'RESOURCE_BACKUP' AS retains"
)
# What a claim has to know of a step that nobody has tried and that has no resource; nothing of any other.
_UNTRIED = "s.attempt = 0 AND s.resource_id IS NULL AND s.operation = 'RUN' AND s.status IN ('PENDING', 'READY')"
STEPS_TO_CLAIM = Statement(
    f"SELECT {STEP_COLUMNS}, {_UNTRIED} AS untried, s.due_at <= clock_timestamp() AS is_due, s.operation, s.change,"
    f" CASE WHEN {_UNTRIED} THEN s.spec END AS spec, CASE WHEN {_UNTRIED} THEN s.inputs END AS inputs,"
    " s.undo_attempt, s.max_attempts, s.crashes, s.observations, s.timeout_seconds, s.heartbeat_seconds,"
    " s.operation_id FROM step_run s WHERE s.tenant_id = :tenant AND s.job_id = :job ORDER BY s.wave, s.id LIMIT :limit"
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
# What a job leaves when it is over: its lock and the resources that never came into being go, the customer's column of
# logs gets the tail (app.db.tails), the workflow counts. That row is one for all jobs of the workflow,
# so this is the last statement of its transaction. `awaited`: somebody waits for what is free now.
CLOSE_JOB = Statement(
    "WITH freed AS (DELETE FROM resource_lock WHERE tenant_id = :tenant AND job_id = :id),"
    " dropped AS (UPDATE cloud_resource SET status = 'DELETED', is_deleted = true, updated_at = now(),"
    " version = version + 1 WHERE tenant_id = :tenant AND status = 'PLANNED' AND id = ANY(ARRAY("
    "   SELECT resource_id FROM step_run WHERE tenant_id = :tenant AND job_id = :id AND resource_id IS NOT NULL))),"
    f" {_TOLD},"
    " counted AS (UPDATE workflow SET execution_count = execution_count + 1, last_executed = clock_timestamp(),"
    " success_count = success_count + CASE WHEN :failed THEN 0 ELSE 1 END,"
    " failure_count = failure_count + CASE WHEN :failed THEN 1 ELSE 0 END"
    " WHERE tenant_id = :tenant AND id = (SELECT workflow_id FROM deployment_plan"
    "   WHERE tenant_id = :tenant AND id = :plan))"
    # Whether somebody waits for what is free now: the tick need not be woken for nothing.
    " SELECT EXISTS (SELECT 1 FROM orchestration_job WHERE tenant_id = :tenant AND status = 'QUEUED'"
    "   AND (stack = :stack OR status_reason IN ('CONCURRENCY_LIMIT', 'DEPENDENCY_PENDING'))) AS awaited"
)
# A simulated job leaves its log, and nothing of what it has made up.
CLOSE_SIMULATION = Statement(f"WITH {_TOLD} DELETE FROM simulated_resource WHERE tenant_id = :tenant AND job_id = :id")
