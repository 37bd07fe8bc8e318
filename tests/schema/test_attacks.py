"""What a stranger found who attacked the API: each was a fault of ours, or froze the server, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.verbs import done, refused, send

PREVIEW = """query ($input: PreviewPlanInput!) { previewPlan(input: $input) {
  preview { hash } diagnostics { code message path } } }"""
LIST = {"type": "object", "properties": {"x": {"type": "array"}}}


def note(**more: Any) -> dict[str, Any]:
    return {"type": "core.note", "properties": {"name": "n"}, **more}


async def previewed(api: Api, content: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    rows = api.acme.rows
    revision = await rows.revision(await rows.template(template_content=content))
    given = {"templateRevisionId": encode_id("TemplateRevision", revision.id), "parameters": parameters}
    answer: dict[str, Any] = (await api.data(PREVIEW, {"input": given}))["previewPlan"]
    return answer


async def test_many_instances_that_depend_on_many_are_refused_before_they_are_made(api: Api) -> None:
    each = {"forEach": "${parameters.x}", "properties": {"name": "n${each.key}"}}
    content = {"parameters": LIST, "resources": {"a": note(**each), "b": note(**each, dependsOn=["a"])}}
    answer = await previewed(api, content, {"x": [str(number) for number in range(3000)]})
    assert answer["preview"] is None
    assert [(found["code"], found["path"]) for found in answer["diagnostics"]] == [
        ("LIMIT_EXCEEDED", ["content", "resources", "b"])
    ]


@pytest.mark.parametrize("keys", [["a/b", "a"], ["a", "a/b"]])
async def test_one_faulty_instance_is_a_diagnostic_wherever_it_stands(api: Api, keys: list[str]) -> None:
    content = {"resources": {"a": note(forEach=keys, properties={"name": "n${each.key}"})}}
    answer = await previewed(api, content, {})
    assert answer["preview"] is None
    assert [found["code"] for found in answer["diagnostics"]] == ["INVALID"]


@pytest.mark.parametrize("text", ['${"\\u0000"}', '${join(["a", "b"], "\\u0000")}'])
async def test_nul_in_an_expression_is_refused_where_it_is_written(api: Api, text: str) -> None:
    content = {"resources": {"a": note(properties={"name": "n", "text": text})}}
    (error,) = await refused(api, "createResourceTemplate", name="t", type="CUSTOM", content=content)
    assert error["path"] == ["content", "resources", "a", "properties", "text"]
    step = {"key": "a", "type": "CUSTOM", "configuration": {"task": "core.log"}, "inputs": {"message": text}}
    (error,) = await refused(api, "createWorkflow", name="w", type="CUSTOM", definition={"steps": [step]})
    assert error["path"] == ["definition", "steps", "0", "inputs", "message"]


async def test_plans_that_begin_on_one_new_stack_at_once_share_its_resources(api: Api) -> None:
    made = await done(api, "createResourceTemplate", name="t", type="CUSTOM", content={"resources": {"a": note()}})
    template = made["resourceTemplate"]
    pinned = await done(
        api, "publishResourceTemplate", id=template["id"], expectedVersion=template["version"]
    )  # fmt: skip
    given = {"type": "IMMEDIATE", "templateRevisionId": pinned["revision"]["id"], "stack": "new"}
    answers = await asyncio.gather(*(send(api, "createPlan", {"name": f"p{n}", **given}) for n in range(8)))
    assert [answer["userErrors"] for answer in answers] == [[]] * 8


@pytest.mark.parametrize("group", ["windlass", "windlass_app", "pg_execute_server_program"])
async def test_nobody_becomes_a_member_of_a_role_of_the_server(api: Api, group: str) -> None:
    content = {"resources": {"a": {"type": "postgres.role", "properties": {"name": "evil", "memberOf": [group]}}}}
    (error,) = await refused(api, "createResourceTemplate", name="t", type="CUSTOM", content=content)
    assert error["path"][:5] == ["content", "resources", "a", "properties", "memberOf"]
