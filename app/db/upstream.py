"""Plans that depend on plans: what is remembered of it, and what the upstream ones have put out."""

from __future__ import annotations

from app.db.statements import Statement

# Whether a plan has to wait; over `d.tenant_id` and `d.plan_id`.
UNMET = (
    "SELECT 1 FROM plan_dependency d JOIN deployment_plan u ON u.tenant_id = d.tenant_id AND u.id = d.upstream_id"
    " AND u.status <> 'SUCCEEDED' WHERE d.tenant_id = {tenant} AND d.plan_id = {plan}"
)
# A plan that succeeded is closed for ever, so that what it has put out never changes. One that had nothing to do has no
# job of its own: what it would have put out is what the one before it did.
OUTPUTS = (
    "SELECT p.id, CASE WHEN p.last_job_id IS NOT NULL"
    "   THEN (SELECT j.outputs FROM orchestration_job j WHERE j.tenant_id = p.tenant_id AND j.id = p.last_job_id)"
    "   ELSE (SELECT j.outputs FROM deployment_plan q JOIN orchestration_job j ON j.tenant_id = q.tenant_id"
    "     AND j.id = q.last_job_id WHERE q.tenant_id = p.tenant_id AND q.plan_name = p.plan_name AND q.stack = p.stack"
    "     AND q.status = 'SUCCEEDED' AND q.id < p.id ORDER BY q.id DESC LIMIT 1) END AS outputs"
    " FROM deployment_plan p WHERE p.tenant_id = :tenant AND p.id = ANY(CAST(:ids AS bigint[]))"
    " AND p.status = 'SUCCEEDED'"
)
READ_OUTPUTS = Statement(OUTPUTS)
# The plan of a name that is meant: one that was declared, else the newest that has succeeded, else the newest that may
# do so by itself. What makes runs never succeeds itself, and what takes things away puts nothing out.
_FIT = "p.tenant_id = :tenant AND p.plan_name = n.name AND NOT p.is_deleted"
_OF_ITS_OWN = f"{_FIT} AND NOT p.teardown AND p.rollback_of_id IS NULL"
STANDING = (
    "(p.plan_type = 'AUTOMATED' OR p.plan_type = 'SCHEDULED' AND p.schedule->>'recurrence' IS NOT NULL"
    " OR p.plan_type = 'CONDITIONAL' AND p.condition->>'fire' = 'EACH')"
)
NAMED = (
    "SELECT n.name, found.id FROM unnest(CAST(:names AS text[])) AS n(name)"  # noqa: S608  all of it is ours
    " LEFT JOIN LATERAL ("
    "  (SELECT p.id, 1 AS rank FROM plan_dependency d"
    "    JOIN deployment_plan p ON p.tenant_id = d.tenant_id AND p.id = d.upstream_id"
    f"   WHERE d.tenant_id = :tenant AND d.plan_id = :plan AND d.declared AND {_FIT} ORDER BY p.id DESC LIMIT 1)"
    f" UNION ALL (SELECT p.id, 2 FROM deployment_plan p WHERE {_OF_ITS_OWN} AND p.status = 'SUCCEEDED'"
    "    ORDER BY p.id DESC LIMIT 1)"
    f" UNION ALL (SELECT p.id, 3 FROM deployment_plan p WHERE {_OF_ITS_OWN}"
    f"    AND p.status = ANY(CAST(:under_way AS text[])) AND NOT {STANDING} ORDER BY p.id DESC LIMIT 1)"
    " ORDER BY rank LIMIT 1) found ON true"
)
# The names that are read, afresh; what was declared stays.
KEEP = Statement(
    "WITH read AS (SELECT * FROM unnest(:ids::bigint[], :names::text[]) AS r(id, name)),"
    " gone AS (DELETE FROM plan_dependency WHERE tenant_id = :tenant AND plan_id = :plan AND NOT declared"
    "   AND upstream_id NOT IN (SELECT id FROM read)),"
    " unread AS (UPDATE plan_dependency SET read_as = NULL WHERE tenant_id = :tenant AND plan_id = :plan AND declared"
    "   AND read_as IS NOT NULL AND upstream_id NOT IN (SELECT id FROM read))"
    " INSERT INTO plan_dependency (tenant_id, plan_id, upstream_id, declared, read_as)"
    " SELECT :tenant, :plan, id, false, name FROM read"
    " ON CONFLICT (tenant_id, plan_id, upstream_id) DO UPDATE SET read_as = excluded.read_as"
)
DECLARE = Statement(
    "WITH wanted AS (SELECT unnest(:ids::bigint[]) AS id),"
    " gone AS (DELETE FROM plan_dependency WHERE tenant_id = :tenant AND plan_id = :plan AND declared"
    "   AND upstream_id NOT IN (SELECT id FROM wanted))"
    " INSERT INTO plan_dependency (tenant_id, plan_id, upstream_id, declared)"
    " SELECT :tenant, :plan, id, true FROM wanted"
    " ON CONFLICT (tenant_id, plan_id, upstream_id) DO UPDATE SET declared = true"
)
INHERIT = Statement(
    "INSERT INTO plan_dependency (tenant_id, plan_id, upstream_id, declared)"
    " SELECT tenant_id, :child, upstream_id, true FROM plan_dependency"
    " WHERE tenant_id = :tenant AND plan_id = :parent AND declared"
)
# Every edge that is reached from a plan without going through what has succeeded, which waits for nothing.
WAITED_FOR = Statement(
    "WITH RECURSIVE reached AS (SELECT :plan::bigint AS id"
    "  UNION SELECT d.upstream_id FROM reached r JOIN plan_dependency d ON d.tenant_id = :tenant AND d.plan_id = r.id"
    "    JOIN deployment_plan u ON u.tenant_id = d.tenant_id AND u.id = d.upstream_id AND u.status <> 'SUCCEEDED')"
    " SELECT d.plan_id, d.upstream_id, d.declared, d.read_as FROM reached r"
    " JOIN plan_dependency d ON d.tenant_id = :tenant AND d.plan_id = r.id"
    " WHERE d.upstream_id IN (SELECT id FROM reached) LIMIT :most"
)
# Whoever closes a circle and whoever closes its other half do it one after the other.
ONE_AT_A_TIME = Statement("SELECT pg_advisory_xact_lock(77080, hashint8(:tenant::bigint))")
