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

_MOVE_STEPS = (
    " moved AS (UPDATE step_run s SET status = m.status, status_reason = m.reason, not_run_because = m.because,"
    " due_at = CASE WHEN m.due THEN clock_timestamp() END,"
    " dispatched_at = CASE WHEN m.due AND :rings THEN clock_timestamp() END,"
    " dispatches = CASE WHEN m.due AND :rings THEN 1 ELSE 0 END,"
    " undo_attempt = CASE WHEN m.status = 'COMPENSATING' THEN 0 ELSE s.undo_attempt END,"
    " completed_at = CASE WHEN m.ended THEN clock_timestamp() WHEN m.status NOT IN ('PENDING', 'READY')"
    "   THEN s.completed_at END"
    " FROM unnest(:moved_ids::bigint[], :moved_statuses::text[], :moved_reasons::text[],"
    " :moved_because::text[], :moved_due::boolean[], :moved_ended::boolean[])"
    " AS m(id, status, reason, because, due, ended)"
    " WHERE s.tenant_id = :tenant AND s.id = m.id AND s.id = ANY(:moved_ids)),"
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
    " taken AS (UPDATE step_run SET status = :held, worker_id = :worker, fence = fence + 1, due_at = NULL,"
    " attempt = :attempt, undo_attempt = :undo_attempt, observations = :observations, touched = touched OR :acts,"
    " inputs = coalesce(:inputs::jsonb, inputs), started_at = coalesce(started_at, clock_timestamp()),"
    " deadline_at = clock_timestamp() + make_interval(secs => timeout_seconds), status_reason = 'NONE'"
    " WHERE tenant_id = :tenant AND id = :step RETURNING fence),"
    " tried AS (INSERT INTO step_attempt (tenant_id, step_run_id, direction, number, worker, fence)"
    " SELECT :tenant, :step, :direction, :number, w.name, taken.fence FROM worker w, taken"
    " WHERE w.id = :worker AND :tries::boolean"
    " ON CONFLICT (tenant_id, step_run_id, direction, number) DO UPDATE SET worker = excluded.worker,"
    " fence = excluded.fence, ended_at = NULL),"
    " meant AS (INSERT INTO step_effect (tenant_id, job_id, step_run_id, direction, resource_id, action, state,"
    " operation_id, before, intended) SELECT :tenant, :id, :step, 'FORWARD', :resource::bigint, :action, 'INTENT',"
    " :operation::uuid, :before::jsonb, :intended::jsonb FROM taken WHERE :acts"
    " ON CONFLICT (tenant_id, step_run_id, direction) DO UPDATE SET state = 'INTENT', intended = excluded.intended),"
)


@cache
def write_job(*, steps: bool, job: bool, take: bool) -> Statement:
    """Appends to the job's journal; moves steps and the job, and takes a step for a worker (`fence`), where asked."""
    return journal.statement(
        Stream.JOB,
        before=(_MOVE_STEPS if steps else "") + (_TAKE if take else ""),
        assignments=_MOVE_JOB if job else "",
        returning=", (SELECT fence FROM taken) AS fence" if take else "",
    )


WRITE_PLAN = journal.statement(Stream.PLAN, assignments=_MOVE_PLAN)
LOCK_PLAN = Statement("SELECT status FROM deployment_plan WHERE tenant_id = :tenant AND id = :id FOR UPDATE")
LOCK_JOB = Statement(
    "SELECT id, plan_id, status, status_reason, failure_strategy, cancel_mode, cancel_outcome, stack, inputs,"
    " configuration, direction, event_seq, started_at,"
    " coalesce(pause_until <= clock_timestamp(), false) AS overdue"
    " FROM orchestration_job WHERE tenant_id = :tenant AND id = :id FOR UPDATE"
)
STEP_COLUMNS = (
    "s.id, s.step_key, s.status, s.needs, s.phase, s.worker_id, s.touched, s.attempt,"
    " coalesce(CASE WHEN s.status_reason = 'APPROVAL_TIMEOUT' THEN s.spec->'gate'->>'onTimeout' END,"
    "   s.spec->>'strategy') AS strategy, (s.spec->>'ignore')::boolean AS ignore, s.operation = 'GATE' AS gate"
)
STEPS = Statement(
    f"SELECT {STEP_COLUMNS} FROM step_run s WHERE s.tenant_id = :tenant AND s.job_id = :job"  # noqa: S608
    " ORDER BY s.wave, s.id"
)
# What the first failed step says is what the job says.
BLAME = Statement(
    "UPDATE orchestration_job j SET error = s.error || jsonb_build_object('stepKey', s.step_key),"
    " error_message = s.step_key || ': ' || (s.error->>'message') FROM step_run s"
    " WHERE j.tenant_id = :tenant AND j.id = :id AND j.error IS NULL AND s.tenant_id = j.tenant_id AND s.job_id = j.id"
    " AND s.step_key = :because AND s.error IS NOT NULL"
)
# What a job leaves when it is over: its lock and the resources that never came into being go, the customer's column of
# logs gets the tail (the whole log is in job_log), the workflow counts. That row is one for all jobs of the workflow,
# so this is the last statement of its transaction.
CLOSE_JOB = Statement(
    "WITH freed AS (DELETE FROM resource_lock WHERE tenant_id = :tenant AND job_id = :id),"
    " dropped AS (UPDATE cloud_resource SET status = 'DELETED', is_deleted = true, updated_at = now(),"
    " version = version + 1 WHERE tenant_id = :tenant AND status = 'PLANNED' AND id = ANY(ARRAY("
    "   SELECT resource_id FROM step_run WHERE tenant_id = :tenant AND job_id = :id AND resource_id IS NOT NULL))),"
    " told AS (UPDATE orchestration_job SET logs = (SELECT jsonb_build_object('v', 1, 'lastSeq', max(t.last_seq),"
    " 'entries', jsonb_agg(t.entry ORDER BY t.seq)) FROM (SELECT l.last_seq, l.first_seq + e.n - 1 AS seq,"
    " e.line || jsonb_build_object('seq', l.first_seq + e.n - 1, 'step', l.step_key) AS entry"
    " FROM job_log l, jsonb_array_elements(l.lines) WITH ORDINALITY AS e(line, n)"
    " WHERE l.tenant_id = :tenant AND l.job_id = :id ORDER BY seq DESC LIMIT 100) t)"
    " WHERE tenant_id = :tenant AND id = :id)"
    " UPDATE workflow SET execution_count = execution_count + 1, last_executed = clock_timestamp(),"
    " success_count = success_count + CASE WHEN :failed THEN 0 ELSE 1 END,"
    " failure_count = failure_count + CASE WHEN :failed THEN 1 ELSE 0 END"
    " WHERE tenant_id = :tenant AND id = (SELECT workflow_id FROM deployment_plan"
    "   WHERE tenant_id = :tenant AND id = :plan)"
)
