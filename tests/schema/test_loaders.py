"""The number of statements depends on what is asked, never on how much there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from schema.root import build_schema
from tests.schema.conftest import Api

SCHEMA = build_schema()
NESTED = """
{
  deploymentPlans(first: 20) { nodes {
    name createdBy { ... on User { email } } user { displayName } tenant { name }
    workflow {
      name graph { waves } plans(first: 3) { nodes { name } }
      steps { key dependsOn { key } retry { maxAttempts } }
    }
    template { number template { name } } resourceTemplate { latest { number } }
    resources {
      name dependsOn { key } dependents { key } lockedBy { name } ownerPlan { name }
      history(first: 2) { nodes { number } }
    }
    jobs(first: 5) { totalCount { value } nodes {
      name plan { name } progress { percent } events(first: 5) { nodes { seq } } logs(first: 5) { nodes { message } }
      steps { key attempts { number } resource { name } definition { key } change { key } job { name } }
    } }
    events(first: 5) { nodes { seq } } preview { stale }
  } }
}
"""


@contextmanager
def statements(api: Api) -> Iterator[list[str]]:
    """Every statement sent meanwhile, without those that open a transaction."""
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "set_config" not in statement:
            seen.append(statement)

    engine = api.services.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def add_plans(api: Api, numbers: range) -> None:
    rows = api.acme.rows
    for number in numbers:
        template = await rows.template(f"template-{number}")
        revision = await rows.revision(template)
        workflow = await rows.workflow(f"workflow-{number}")
        plan = await rows.plan(
            f"plan-{number}",
            workflow_id=workflow.id,
            template_tenant_id=api.acme.tenant_id,
            template_id=template.id,
            template_revision_id=revision.id,
        )
        role = await rows.resource("role", plan)
        await rows.resource("database", plan, depends_on=["role"])
        for _ in range(2):
            job = await rows.job(plan)
            step = await rows.step(job, "role", resource_id=role.id)
            await rows.attempt(step)
            await rows.lines(job, "hello")


Ask = Callable[[Api, str], Awaitable[dict[str, Any]]]


async def field_by_field(api: Api, text: str) -> dict[str, Any]:
    result = await SCHEMA.execute(text, context_value=api.services.context(api.acme.principal, "test"))
    assert not result.errors
    assert result.data is not None
    return result.data


async def compiled(api: Api, text: str) -> dict[str, Any]:
    """Only what Python works out is seen here: the rest is one statement, which is not sent by way of the engine."""
    return await api.data(text)


@pytest.mark.parametrize("ask", [field_by_field, compiled])
async def test_more_rows_do_not_mean_more_statements(api: Api, ask: Ask) -> None:
    await add_plans(api, range(1))
    with statements(api) as few:
        one = await ask(api, NESTED)
    await add_plans(api, range(1, 6))
    with statements(api) as many:
        six = await ask(api, NESTED)
    assert len(one["deploymentPlans"]["nodes"]) == 1
    assert len(six["deploymentPlans"]["nodes"]) == 6
    assert all(len(plan["jobs"]["nodes"]) == 2 for plan in six["deploymentPlans"]["nodes"])
    assert all(len(plan["resources"]) == 2 for plan in six["deploymentPlans"]["nodes"])
    assert len(many) == len(few)


async def test_what_is_not_asked_is_not_fetched(api: Api) -> None:
    await add_plans(api, range(1))
    with statements(api) as seen:
        await field_by_field(api, "{ deploymentPlans { nodes { name status diagnostics { code } } } }")
    assert len([text for text in seen if "deployment_plan" in text]) == 1
    assert not [text for text in seen if "count(" in text]
