"""What a template's revision, or its draft, would change if it were rolled out."""

from __future__ import annotations

from typing import Any

from app.domain.statuses import PlanStatus
from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.verbs import done

IMPACT = """query($id: ID!, $revision: ID, $first: Int, $after: Cursor) { resourceTemplate(id: $id) {
  impactOf(revisionId: $revision, first: $first, after: $after) {
    edges { node { name stack } preview { summary { create update noChange delete } changes { key action } }
      diagnostics { severity message path } }
    pageInfo { hasNextPage endCursor } } } }"""


def _content(text: str, **more: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
    note = {"type": "core.note", "properties": {"name": "${parameters.who}", "text": text}}
    return {"parameters": parameters, "resources": {"a": note, **more}}


async def _impact(api: Api, template_id: str, **variables: Any) -> dict[str, Any]:
    answer = await api.data(IMPACT, {"id": template_id, **variables})
    found: dict[str, Any] = answer["resourceTemplate"]["impactOf"]
    return found


async def _deployed(api: Api, count: int) -> tuple[str, str]:
    """A template with `count` stacks made from its first revision; its id and that of its second revision."""
    made = await done(api, "createResourceTemplate", name="t", type="CUSTOM", content=_content("one"))
    template_id = made["resourceTemplate"]["id"]
    first = await done(api, "publishResourceTemplate", id=template_id, expectedVersion=1)
    for number in range(count):
        answered = await done(
            api, "createPlan", name=f"p{number}", type="MANUAL", stack=f"s{number}",
            templateRevisionId=first["revision"]["id"], parameters={"who": f"w{number}"},
        )  # fmt: skip
        await api.acme.rows.settled(answered["plan"]["id"], PlanStatus.SUCCEEDED)
        await api.acme.rows.resource(
            "a", stack=f"s{number}", external_id=f"w{number}", type="core.note", provider="core",
            applied={"name": f"w{number}", "text": "one", "size": 1},
        )  # fmt: skip
    changed = await done(api, "updateResourceTemplate", id=template_id, expectedVersion=2, content=_content("two"))
    version = changed["resourceTemplate"]["version"]
    second = await done(api, "publishResourceTemplate", id=template_id, expectedVersion=version)
    return template_id, second["revision"]["id"]


async def test_every_stack_that_would_change_is_previewed_with_its_own_parameters(api: Api) -> None:
    template_id, second = await _deployed(api, 3)
    found = await _impact(api, template_id, revision=second)
    assert [edge["node"]["stack"] for edge in found["edges"]] == ["s2", "s1", "s0"]
    assert {edge["preview"]["summary"]["update"] for edge in found["edges"]} == {1}
    assert found["pageInfo"]["hasNextPage"] is False


async def test_pages_add_up(api: Api) -> None:
    template_id, second = await _deployed(api, 3)
    seen: list[str] = []
    after = None
    for _ in range(3):
        page = await _impact(api, template_id, revision=second, first=2, after=after)
        seen += [edge["node"]["stack"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert seen == ["s2", "s1", "s0"]


async def test_stacks_that_stay_the_same_or_were_made_anew_are_left_out(api: Api) -> None:
    template_id, second = await _deployed(api, 2)
    other = await done(api, "createResourceTemplate", name="u", type="CUSTOM", content=_content("else"))
    pinned = await done(api, "publishResourceTemplate", id=other["resourceTemplate"]["id"], expectedVersion=1)
    later = await done(
        api, "createPlan", name="later", type="MANUAL", stack="s0",
        templateRevisionId=pinned["revision"]["id"], parameters={"who": "w0"},
    )  # fmt: skip
    await api.acme.rows.settled(later["plan"]["id"], PlanStatus.SUCCEEDED)
    found = await _impact(api, template_id, revision=second)
    assert [edge["node"]["stack"] for edge in found["edges"]] == ["s1"]
    first = (await _impact(api, template_id, revision=await _first(api, template_id)))["edges"]
    assert first == []


async def test_a_draft_is_looked_at_before_it_is_published_and_its_faults_are_told(api: Api) -> None:
    template_id, _ = await _deployed(api, 1)
    version = (await api.data("query($id: ID!) { resourceTemplate(id: $id) { version } }", {"id": template_id}))[
        "resourceTemplate"
    ]["version"]
    required = _content("two")
    required["parameters"] = {
        "type": "object",
        "properties": {"who": {"type": "string"}, "size": {"type": "integer"}},
        "required": ["who", "size"],
    }
    await done(api, "updateResourceTemplate", id=template_id, expectedVersion=version, content=required)
    (edge,) = (await _impact(api, template_id))["edges"]
    assert edge["preview"] is None
    assert [found["path"] for found in edge["diagnostics"]] == [["parameters", "size"]]


async def test_a_revision_of_another_template_is_not_there(api: Api) -> None:
    template_id, _ = await _deployed(api, 1)
    other = await done(api, "createResourceTemplate", name="u", type="CUSTOM", content=_content("else"))
    strange = await done(api, "publishResourceTemplate", id=other["resourceTemplate"]["id"], expectedVersion=1)
    for revision in (strange["revision"]["id"], encode_id("TemplateRevision", 999)):
        answer = await api.ask(IMPACT, {"id": template_id, "revision": revision})
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["NOT_FOUND"]


async def _first(api: Api, template_id: str) -> str:
    text = "query($id: ID!) { resourceTemplate(id: $id) { revisions { nodes { id number } } } }"
    nodes = (await api.data(text, {"id": template_id}))["resourceTemplate"]["revisions"]["nodes"]
    found: str = next(node["id"] for node in nodes if node["number"] == 1)
    return found
