"""Objects of payloads and frames are read by one statement each place, whatever is asked below."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.uow import Database
from app.domain.statuses import JobStatus
from schema.nodes import encode_id
from schema.root import build_schema
from tests.schema.conftest import Api
from tests.schema.test_loaders import statements

SCHEMA, COMPILED = build_schema(), build_schema(compiled=True)
BELOW = (
    "name plan { name tenant { slug } jobs(first: 3) { nodes { name } } } steps { key error { code } } error { code }"
)


async def test_a_frame_shows_what_a_query_finds(api: Api) -> None:
    rows = api.acme.rows
    job = await rows.job(await rows.plan(), status=JobStatus.SUCCEEDED)
    await rows.step(job, "a", error={"class": "TRANSIENT", "code": "X", "message": "m"})
    frame: dict[Any, Any] = {}
    for schema in (SCHEMA, COMPILED):
        context = api.services.context(api.acme.principal, "test")
        text = f"subscription($id: ID!) {{ jobUpdated(id: $id) {{ kind job {{ {BELOW} }} }} }}"
        with statements(api) as seen:
            stream = await schema.subscribe(text, {"id": encode_id("OrchestrationJob", job.id)}, context)
            async for result in stream:
                assert not result.errors
                frame[schema] = result.data
                break
        # Field by field a loader reads the steps; compiled, the statement of the whole object does.
        assert len([one for one in seen if "FROM step_run" in one]) == (1 if schema is SCHEMA else 0)
    assert frame[SCHEMA] == frame[COMPILED]
    assert frame[SCHEMA]["jobUpdated"]["job"]["steps"] == [{"key": "a", "error": {"code": "X"}}]


async def test_objects_of_one_place_are_one_statement(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = api.acme.rows
    ids = [encode_id("DeploymentPlan", (await rows.plan(f"p{number}")).id) for number in range(5)]
    text = (
        f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on DeploymentPlan {{ jobs {{ nodes {{ {BELOW} }} }} }} }} }}"
    )
    asked = list[str]()
    answers = Database.answers

    async def counted(self: Any, sql: str, parameters: Any) -> Any:
        asked.append(sql)
        return await answers(self, sql, parameters)

    monkeypatch.setattr(Database, "answers", counted)
    result = await COMPILED.execute(text, {"ids": ids}, api.services.context(api.acme.principal, "test"))
    assert not result.errors
    assert len(asked) == 1


async def test_several_mutations_each_show_what_they_left(api: Api) -> None:
    workflow = await api.acme.rows.workflow()
    gid, text = encode_id("Workflow", workflow.id), "id description version plans { nodes { name } }"
    document = " ".join(
        f'm{number}: updateWorkflow(input: {{idempotencyKey: "{number}", id: "{gid}", expectedVersion: {version},'
        f' description: "{number}"}}) {{ workflow {{ {text} }} userErrors {{ message }} }}'
        for number, version in enumerate((workflow.version, workflow.version + 1, workflow.version))
    )
    answer = await api.data(f"mutation {{ {document} }}")
    shown = [answer[f"m{number}"]["workflow"] for number in range(3)]
    # The last one came too late, and has nothing to show.
    assert [one and one["description"] for one in shown] == ["0", "1", None]
    assert len(answer["m2"]["userErrors"]) == 1
