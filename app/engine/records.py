"""Where a job's resources are recorded: in the tenant's record, or for a simulated job in one of its own.

Whatever the engine reads or writes of a recorded resource is one of these statements; `record_of` says of which record.
A row's `id` is its place in that record, `resource_id` the resource itself, which a simulated one need not have.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.db.ledger import Ledger
from app.db.statements import Statement


def _step(row: str, in_doubt: str) -> Statement:
    """A step to be claimed, its effect, and its resource, which `row` looks up by what is in `s` and `o`.

    `in_doubt`: whose effect on the resource nobody knows the outcome of.
    """
    return Statement(
        "SELECT s.id, s.step_key, s.operation, s.change, s.status, s.spec, s.inputs, s.outputs, s.attempt,"  # noqa: S608
        " s.undo_attempt, s.max_attempts, s.crashes, s.observations, s.timeout_seconds, s.heartbeat_seconds,"
        " s.total_seconds,"
        " s.operation_id, s.fence,"
        " s.handle, s.resource_id, r.id AS record_id, coalesce(s.undo_of_id, s.id) AS effect_of,"
        " e.action AS effect_action, e.state AS effect_state, e.operation_id AS effect_operation_id, e.before,"
        " e.intended, e.after, e.undo, r.status AS resource_status, r.external_id, r.applied,"
        f" r.outputs AS resource_outputs, r.private, r.state_version, r.drift_status, r.drift, {in_doubt}"
        " FROM step_run s"
        # Whose effect it is about is worked out apart (OFFSET keeps it so): below row security a comparison with
        # something that is not leakproof, such as ->>, cannot use an index. LATERAL and LIMIT keep both joins look-ups
        # of one row.
        " CROSS JOIN LATERAL (SELECT coalesce(s.undo_of_id, (s.spec->>'effectOf')::bigint, s.id) AS step_id,"
        "   s.spec->>'resourceKey' AS resource_key OFFSET 0) o"
        " LEFT JOIN LATERAL (SELECT * FROM step_effect WHERE tenant_id = :tenant AND step_run_id = o.step_id"
        "   AND direction = 'FORWARD' LIMIT 1) e ON true"
        f" LEFT JOIN LATERAL ({row} LIMIT 1) r ON true"
        " WHERE s.tenant_id = :tenant AND s.id = :id AND s.worker_id IS NULL"
        " AND (:inline OR s.due_at <= clock_timestamp())"
        # What has had its time is the tick's to end, and nobody's to try again.
        " AND NOT coalesce(s.expires_at <= clock_timestamp() AND s.status IN ('READY', 'RETRY_WAIT', 'WAITING'), false)"
    )


@dataclass(frozen=True, slots=True)
class Record:
    """The statements about one record. `step` and `visible` are for who claims, the others for who writes."""

    step: Statement
    # What expressions may read.
    visible: Statement
    read: Statement
    status: Statement
    applied: Statement
    # What a resource was after each change; None where nobody will ask.
    revision: Statement | None
    revive: Statement
    renew: Statement


_REAL = Record(
    step=_step("SELECT * FROM cloud_resource WHERE tenant_id = :tenant AND id = s.resource_id", "r.in_doubt_step_id"),
    visible=Statement(
        "SELECT resource_key, external_id, applied, outputs FROM cloud_resource"
        " WHERE tenant_id = :tenant AND stack = :stack AND status IN ('ACTIVE', 'UPDATING', 'FAILED')"
        " AND split_part(resource_key, '[', 1) = ANY(:keys)"
    ),
    read=Statement(
        "SELECT status, drift_status, id AS resource_id FROM cloud_resource WHERE tenant_id = :tenant AND id = :id"
        " FOR UPDATE"
    ),
    status=Statement(
        "UPDATE cloud_resource SET status = :status, version = version + 1, updated_at = now(), updated_by = :actor,"
        " is_deleted = :gone, in_doubt_step_id = CASE WHEN :settled THEN NULL"
        "   ELSE coalesce(in_doubt_step_id, :doubt::bigint) END,"
        " adopt_id = CASE WHEN :settled THEN NULL ELSE adopt_id END WHERE tenant_id = :tenant AND id = :id"
    ),
    applied=Statement(
        "UPDATE cloud_resource SET desired = :properties::jsonb, applied = :properties::jsonb,"
        " observed = :properties::jsonb, outputs = :outputs::jsonb, private = :private::jsonb,"
        " external_id = :external, state_version = :state_version, drift_status = 'IN_SYNC',"
        " drift_checked_at = clock_timestamp(), owner_plan_id = :plan, revision = revision + 1,"
        " drift = NULL, observe_error = NULL, observe_failures = 0, revert_at = NULL,"
        # The plan that was the last to change a resource says how often it is looked at.
        " observe_at = clock_timestamp() + (SELECT (p.configuration->'drift'->>'every')::interval"
        "   FROM deployment_plan p WHERE p.tenant_id = :tenant AND p.id = :plan),"
        " depends_on = coalesce(:depends::text[], depends_on), connection = coalesce(:connection, connection)"
        " WHERE tenant_id = :tenant AND id = :id RETURNING revision"
    ),
    revision=Statement(
        "INSERT INTO resource_revision (tenant_id, resource_id, job_id, number, properties, outputs)"
        " VALUES (:tenant, :id, :job, :number, :properties::jsonb, :outputs::jsonb)"
    ),
    revive=Statement(
        "INSERT INTO cloud_resource (tenant_id, stack, resource_key, name, type, provider, connection, region, status,"
        " depends_on, retain, prevent_destroy, owner_plan_id, created_by)"
        " SELECT tenant_id, stack, resource_key, name, type, provider, connection, region, 'CREATING', depends_on,"
        " retain, prevent_destroy, :plan, created_by FROM cloud_resource WHERE tenant_id = :tenant AND id = :id"
        " RETURNING id"
    ),
    # A plan that waited for its stack was worked out when the resource still existed, or was still to be made by
    # another.
    renew=Statement(
        "WITH gone AS (SELECT * FROM cloud_resource WHERE tenant_id = :tenant AND id = :id),"
        " live AS (SELECT l.id FROM cloud_resource l, gone g WHERE l.tenant_id = :tenant AND l.stack = g.stack"
        "   AND l.resource_key = g.resource_key AND l.status NOT IN ('DELETED', 'DETACHED') ORDER BY l.id LIMIT 1),"
        " made AS (INSERT INTO cloud_resource (tenant_id, stack, resource_key, name, type, provider, connection,"
        " region, status, depends_on, retain, prevent_destroy, owner_plan_id, created_by)"
        " SELECT tenant_id, stack, resource_key, name, type, provider, connection, region, 'PLANNED', '{}', retain,"
        " prevent_destroy, :plan, created_by FROM gone WHERE NOT EXISTS (SELECT 1 FROM live) RETURNING id),"
        " chosen AS (SELECT id FROM live UNION ALL SELECT id FROM made),"
        " linked AS (INSERT INTO plan_resource (tenant_id, plan_id, resource_id) SELECT :tenant, :plan, id FROM chosen"
        " ON CONFLICT DO NOTHING)"
        " UPDATE step_run s SET resource_id = chosen.id FROM chosen"
        " WHERE s.tenant_id = :tenant AND s.job_id = :job AND s.resource_id = :id"
    ),
)
_SIMULATED = Record(
    step=_step(
        "SELECT * FROM simulated_resource WHERE tenant_id = :tenant AND job_id = s.job_id"
        " AND resource_key = o.resource_key",
        "NULL::bigint AS in_doubt_step_id",
    ),
    visible=Statement(
        "SELECT resource_key, external_id, applied, outputs FROM simulated_resource"
        " WHERE tenant_id = :tenant AND job_id = :job AND status IN ('ACTIVE', 'UPDATING', 'FAILED')"
        " AND split_part(resource_key, '[', 1) = ANY(:keys)"
    ),
    read=Statement(
        "SELECT status, drift_status, resource_id FROM simulated_resource WHERE tenant_id = :tenant AND id = :id"
    ),
    status=Statement("UPDATE simulated_resource SET status = :status WHERE tenant_id = :tenant AND id = :id"),
    applied=Statement(
        "UPDATE simulated_resource SET applied = :properties::jsonb, outputs = :outputs::jsonb,"
        " private = :private::jsonb, external_id = :external, state_version = :state_version, drift_status = 'IN_SYNC',"
        " drift = NULL WHERE tenant_id = :tenant AND id = :id"
    ),
    revision=None,
    revive=Statement(
        "UPDATE simulated_resource SET status = 'CREATING' WHERE tenant_id = :tenant AND id = :id RETURNING id"
    ),
    renew=Statement(
        "UPDATE simulated_resource SET status = 'PLANNED', external_id = NULL, applied = NULL, outputs = NULL,"
        " private = NULL WHERE tenant_id = :tenant AND id = :id"
    ),
)


def record_of(ledger: Ledger) -> Record:
    """The record that the job reads and writes."""
    return _SIMULATED if ledger.simulated else _REAL
