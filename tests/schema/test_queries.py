"""What can be read of each noun, by whom, and in both directions of every relation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from app.db import models
from app.domain.enums import ChangeAction, JobDirection, Permission, Role, StatusReason, StepType
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import JobStatus, ResourceStatus, StepStatus
from schema.nodes import encode_id
from tests.schema.conftest import Api

START = datetime(2026, 1, 31, 8, tzinfo=UTC)
PREVIEW: dict[str, Any] = {
    "hash": "ab" * 32,
    "computedAt": "2026-01-31T08:00:00+00:00",
    "summary": {"create": 1, "update": 0, "replace": 0, "delete": 0, "import": 0, "noChange": 0, "run": 0},
    "changes": [
        {
            "key": "role",
            "resourceId": None,
            "type": "postgres.role",
            "action": "CREATE",
            "wave": 0,
            "reversibility": "REVERSIBLE",
            "downtime": False,
            "properties": [
                {
                    "path": ["password"],
                    "before": None,
                    "after": {"$sensitive": True},
                    "afterUnknown": False,
                    "sensitive": True,
                    "forcesReplacement": False,
                    "source": "PARAMETER",
                    "cause": "${parameters.password}",
                }
            ],
            "warnings": [],
        }
    ],
    "pointsOfNoReturn": [],
}
GRAPH: dict[str, Any] = {
    "nodes": [
        {"key": "role", "kind": "APPLY", "type": "RESOURCE_CREATE", "wave": 0},
        {"key": "database", "kind": "APPLY", "type": "RESOURCE_CREATE", "wave": 1},
    ],
    "edges": [
        {
            "from": "role",
            "to": "database",
            "explicit": False,
            "path": "database.properties.owner",
            "expression": "${resources.role.properties.name}",
        }
    ],
    "waves": [["role"], ["database"]],
    "criticalPath": ["role", "database"],
}
SECRET = {"host": "db", "password": {"$sealed": "c2VjcmV0"}}
MASKED = {"host": "db", "password": {"$sensitive": True}}


async def test_the_viewer_is_who_the_token_says(api: Api) -> None:
    users = "users { nodes { email role } }"
    answer = await api.data(
        f"{{ viewer {{ actor {{ ... on User {{ email }} }} role permissions tenants {{ slug {users} }} }} }}"
    )
    assert answer["viewer"] == {
        "actor": {"email": "admin@acme.example"},
        "role": Role.ADMIN,
        "permissions": [permission.value for permission in Permission],
        "tenants": [{"slug": "acme", "users": {"nodes": [{"email": "admin@acme.example", "role": "ADMIN"}]}}],
    }


async def test_a_tenant_sees_itself_only(api: Api) -> None:
    query = "query ($slug: String!) { tenant(slug: $slug) { name apiTokens { nodes { name scopes revokedAt } } } }"
    own = (await api.data(query, {"slug": "acme"}))["tenant"]
    assert own["name"] == "Acme"
    assert len(own["apiTokens"]["nodes"]) == 1
    assert await api.data(query, {"slug": "rival"}) == {"tenant": None}
    assert await api.data(query, {"slug": "nobody"}) == {"tenant": None}


async def test_a_plan_shows_everything_that_is_stored(api: Api) -> None:
    rows = api.acme.rows
    workflow = await rows.workflow()
    template = await rows.template()
    revision = await rows.revision(template)
    plan = await rows.plan(
        "shop",
        workflow_id=workflow.id,
        template_tenant_id=template.tenant_id,
        template_id=template.id,
        template_revision_id=revision.id,
        configuration={"a": SECRET},
        parameters=SECRET,
        dependencies=GRAPH,
        constraints=[{"assert": "${true}"}],
        metadata_={"ticket": 7},
        preview=PREVIEW,
        diagnostics=[{"severity": "WARN", "code": "X", "message": "m", "path": ["a", "0"], "suggestion": None}],
        status_reason=StatusReason.LOCK_HELD,
        status_message="held by another",
        valid_until=START,
    )
    resource = await rows.resource("role", plan)
    job = await rows.job(plan)
    async with rows.write() as transaction:
        stored = await transaction.session.get_one(models.DeploymentPlan, plan.id)
        stored.active_job_id = stored.last_job_id = job.id
    answer = await api.data(
        """
        query ($id: ID!) { deploymentPlan(id: $id) {
          name stage type status statusReason stack configuration parameters dependencies constraints metadata
          validUntil failureStrategy rollbackScope version
          tenant { slug } user { email } createdBy { ... on User { email } }
          workflow { name } template { number template { name } } resourceTemplate { name }
          resources { id } activeJob { id } lastJob { id } jobs { nodes { id } totalCount { value } }
          graph { nodes { key wave } edges { from to explicit path expression } waves criticalPath }
          preview {
            hash computedAt stale pointsOfNoReturn
            summary { create import noChange }
            changes { key action resource { id } properties { path before after sensitive source cause } }
          }
          diagnostics { severity code path } blockedBy { reason message }
          availableActions { action allowed }
          viewerCan
        } }
        """,
        {"id": encode_id("DeploymentPlan", plan.id)},
    )
    found = answer["deploymentPlan"]
    assert found["configuration"] == {"a": MASKED}
    assert found["parameters"] == MASKED
    assert found["dependencies"] == GRAPH
    assert found["metadata"] == {"ticket": 7}
    assert (found["stage"], found["validUntil"]) == ("GATED", "2026-01-31T08:00:00.000000Z")
    assert (found["tenant"], found["workflow"]) == ({"slug": "acme"}, {"name": "flow"})
    assert found["user"] == found["createdBy"] == {"email": "admin@acme.example"}
    assert found["template"] == {"number": 1, "template": {"name": "template"}}
    assert found["resources"] == [{"id": encode_id("CloudResource", resource.id)}]
    assert found["activeJob"] == found["lastJob"] == found["jobs"]["nodes"][0]
    assert found["graph"] == {
        "nodes": [{"key": "role", "wave": 0}, {"key": "database", "wave": 1}],
        "edges": GRAPH["edges"],
        "waves": GRAPH["waves"],
        "criticalPath": GRAPH["criticalPath"],
    }
    preview = found["preview"]
    assert preview["stale"] is True, "the resource was written after the preview was computed"
    assert preview["changes"][0]["properties"][0]["after"] == {"$sensitive": True}
    assert found["diagnostics"] == [{"severity": "WARN", "code": "X", "path": ["a", "0"]}]
    assert found["blockedBy"] == [{"reason": "LOCK_HELD", "message": "held by another"}]
    assert {"action": "EXECUTE", "allowed": True} in found["availableActions"]
    assert found["viewerCan"] == [permission.value for permission in Permission]


async def test_a_job_shows_its_steps_attempts_and_errors(api: Api) -> None:
    rows = api.acme.rows
    plan = await rows.plan(preview=PREVIEW)
    parent = await rows.job(plan, status=JobStatus.FAILED)
    error = {
        "class": "PERMANENT",
        "code": "ACCESS_DENIED",
        "message": "no",
        "retryable": False,
        "stepKey": "role",
        "detail": SECRET,
        "hint": "ask",
    }
    job = await rows.job(
        plan,
        parent_job_id=parent.id,
        direction=JobDirection.ROLLBACK,
        status=JobStatus.ROLLBACK_FAILED,
        error=error,
        artifacts=[{"name": "role-dump", "kind": "dump", "uri": "file:///x", "size": 2**40, "sha256": "00"}],
    )
    resource = await rows.resource("role", plan)
    role = await rows.step(
        job,
        "role",
        status=StepStatus.COMPENSATION_FAILED,
        resource_id=resource.id,
        error=error,
        started_at=START,
        completed_at=START + timedelta(seconds=90),
    )
    await rows.step(
        job,
        "database",
        status=StepStatus.RETRY_WAIT,
        wave=1,
        needs=["role"],
        not_run_because="role",
        due_at=START,
        change=ChangeAction.RUN,
        step_type=StepType.CUSTOM,
    )
    await rows.attempt(role, 1, error=error, counts=False)
    answer = await api.data(
        """
        query ($id: ID!) { orchestrationJob(id: $id) {
          status stage direction plan { name } parentJob { id childJobs { nodes { id } } }
          error { class code message retryable hint providerDetail step { key } }
          progress { total done running failed percent }
          rollbackIssues { step { key } resource { name } error { code } allowedActions }
          artifacts { name size url } availableActions { action allowed }
          steps {
            key type action status wave needs durationSeconds nextRetryAt
            notRunBecause { key } resource { name } change { action } job { id }
            attempts { number worker countsAgainstLimit error { code step { key } } }
          }
        } }
        """,
        {"id": encode_id("OrchestrationJob", job.id)},
    )
    found = answer["orchestrationJob"]
    assert found["stage"] == "ATTENTION"
    assert found["parentJob"]["childJobs"]["nodes"] == [{"id": encode_id("OrchestrationJob", job.id)}]
    assert found["error"]["class"] == "PERMANENT"
    assert found["error"]["providerDetail"] == MASKED
    assert found["error"]["step"] == {"key": "role"}
    assert found["progress"] == {"total": 2, "done": 0, "running": 1, "failed": 1, "percent": 50.0}
    assert found["rollbackIssues"] == [
        {
            "step": {"key": "role"},
            "resource": {"name": "role"},
            "error": {"code": "ACCESS_DENIED"},
            "allowedActions": ["RETRY", "SKIP_KEEP_UNKNOWN", "MARK_DELETED"],
        }
    ]
    assert found["artifacts"] == [{"name": "role-dump", "size": str(2**40), "url": "file:///x"}]
    assert {"action": "CONTINUE_ROLLBACK", "allowed": True} in found["availableActions"]
    assert {"action": "FORCE_CANCEL", "allowed": False} in found["availableActions"]
    first, second = found["steps"]
    assert (first["key"], first["durationSeconds"], first["change"]) == ("role", 90, {"action": "CREATE"})
    assert first["attempts"] == [
        {
            "number": 1,
            "worker": "worker-1",
            "countsAgainstLimit": False,
            "error": {"code": "ACCESS_DENIED", "step": {"key": "role"}},
        }
    ]
    assert (second["needs"], second["notRunBecause"], second["change"]) == (["role"], {"key": "role"}, None)
    assert second["nextRetryAt"] == "2026-01-31T08:00:00.000000Z"


async def test_events_and_lines_are_pages_of_one_sequence(api: Api) -> None:
    rows = api.acme.rows
    plan = await rows.plan()
    job = await rows.job(plan)
    changed = {
        "jobId": job.id,
        "planId": plan.id,
        "previous": "QUEUED",
        "status": "RUNNING",
        "reason": "NONE",
    }
    await rows.lines(job, "one", "two", step="a")
    await rows.events(Stream.JOB, job.id, Event(EventKind.JOB_STATUS_CHANGED, changed))
    await rows.lines(job, "Three", level="ERROR", step="b")
    query = """
    query ($id: ID!, $after: Cursor, $filter: LogFilter) { orchestrationJob(id: $id) {
      cursor
      events(first: 10) { nodes { seq __typename ... on JobStatusChanged { jobStatus previousJobStatus job { id } }
        actor { ... on User { email } } } edges { cursor } }
      logs(first: 2, after: $after, filter: $filter) {
        nodes { seq message level stepKey attempt at } pageInfo { hasNextPage endCursor }
      }
    } }
    """
    variables = {"id": encode_id("OrchestrationJob", job.id)}
    found = (await api.data(query, variables))["orchestrationJob"]
    assert [(line["seq"], line["message"]) for line in found["logs"]["nodes"]] == [("1", "one"), ("2", "two")]
    (event,) = found["events"]["nodes"]
    assert (event["seq"], event["__typename"], event["jobStatus"]) == ("3", "JobStatusChanged", "RUNNING")
    assert event["actor"] == {"email": "admin@acme.example"}
    assert found["logs"]["pageInfo"]["hasNextPage"] is True
    variables["after"] = found["logs"]["pageInfo"]["endCursor"]
    rest = (await api.data(query, variables))["orchestrationJob"]["logs"]
    assert [(line["seq"], line["message"], line["level"]) for line in rest["nodes"]] == [("4", "Three", "ERROR")]
    assert rest["pageInfo"]["hasNextPage"] is False
    for wanted, messages in (
        ({"minLevel": "WARN"}, ["Three"]),
        ({"stepKey": "a"}, ["one", "two"]),
        ({"contains": "THREE"}, ["Three"]),
        ({"contains": "%"}, []),
    ):
        found = (await api.data(query, {"id": variables["id"], "filter": wanted}))["orchestrationJob"]["logs"]
        assert [line["message"] for line in found["nodes"]] == messages
    foreign = await api.ask(query, {"id": variables["id"], "after": "bm9uc2Vuc2U"})
    assert foreign["errors"][0]["extensions"] == {"code": "INVALID", "path": ["after"]}


async def test_resources_know_their_neighbours(api: Api) -> None:
    rows = api.acme.rows
    plan = await rows.plan("shop")
    job = await rows.job(plan)
    role = await rows.resource("role", plan, desired=SECRET, applied=SECRET, observed=SECRET, outputs=SECRET)
    await rows.resource("database", plan, depends_on=["role"])
    await rows.resource("old", plan, depends_on=["role"], status=ResourceStatus.DELETED)
    other = await rows.plan("other")
    await rows.resource("role", other)
    await rows.add(
        models.ResourceRevision(
            tenant_id=role.tenant_id, resource_id=role.id, job_id=job.id, number=1, properties=SECRET
        )
    )
    await rows.add(models.ResourceLock(tenant_id=role.tenant_id, lock_key="stack/shop", job_id=job.id))
    answer = await api.data(
        """
        query ($id: ID!) { cloudResource(id: $id) {
          key stack desired applied observed outputs ownerPlan { name } plans { nodes { name } } lockedBy { id }
          dependsOn { key } dependents { key dependsOn { key stack } }
          history { nodes { number properties job { id } } }
        } }
        """,
        {"id": encode_id("CloudResource", role.id)},
    )
    found = answer["cloudResource"]
    assert [found[name] for name in ("desired", "applied", "observed", "outputs")] == [MASKED] * 4
    assert (found["ownerPlan"], found["plans"]["nodes"]) == ({"name": "shop"}, [{"name": "shop"}])
    assert found["lockedBy"] == {"id": encode_id("OrchestrationJob", job.id)}
    assert (found["dependsOn"], found["dependents"]) == (
        [],
        [{"key": "database", "dependsOn": [{"key": "role", "stack": "shop"}]}],
    )
    assert found["history"]["nodes"] == [
        {"number": 1, "properties": MASKED, "job": {"id": encode_id("OrchestrationJob", job.id)}}
    ]


async def test_a_token_without_read_reads_nothing(api: Api) -> None:
    async with api.acme.rows.write() as transaction:
        token = await transaction.session.get_one(models.ApiToken, api.acme.principal.token_id)
        token.scopes = [Permission.EXECUTE.value]
    api.services.authenticator._seen.clear()
    answer = await api.ask("{ workflows { nodes { id } } }")
    assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert "data" not in answer
