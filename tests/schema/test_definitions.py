"""Definitions as clients read them: workflows, templates, resource types, and the preview of a plan made from them."""

from __future__ import annotations

from typing import Any

import pytest

from schema.nodes import encode_id
from tests.schema.conftest import Api
from tests.schema.verbs import done, refused


async def test_a_workflow_explains_its_steps(api: Api) -> None:
    workflow = await api.acme.rows.workflow()
    answer = await api.data(
        """
        query ($id: ID!) { workflow(id: $id) {
          definition executionCount graph { waves nodes { key kind type } edges { from to } }
          steps {
            key name stepOrder workflow { name } dependsOn { key } checkpoint
            retry { maxAttempts initialInterval retryOn nonRetryableCodes }
            totalTimeout heartbeat errorHandling { strategy ignore }
          }
        } }
        """,
        {"id": encode_id("Workflow", workflow.id)},
    )
    found = answer["workflow"]
    assert found["executionCount"] == "0"
    assert found["graph"]["waves"] == [["first"], ["second"]]
    assert found["graph"]["edges"] == [{"from": "first", "to": "second"}]
    first, second = found["steps"]
    assert (first["dependsOn"], second["dependsOn"]) == ([], [{"key": "first"}])
    assert second["retry"]["maxAttempts"] == 5
    assert second["retry"]["initialInterval"] == "PT2S"
    assert (second["retry"]["nonRetryableCodes"], second["totalTimeout"], second["heartbeat"]) == ([], None, None)
    assert first["errorHandling"] == {"strategy": None, "ignore": False}


async def test_public_templates_are_read_by_all_and_drafts_by_nobody_else(api: Api) -> None:
    rows = api.rival.rows
    public = await rows.template("public", is_public=True, tags={"team": "core", "tier": "1"})
    revision = await rows.revision(public)
    await rows.template("private")
    query = """
    { resourceTemplates { nodes { name content tenant { slug } createdBy { __typename } viewerCan
        latest { id content graph { waves } outputsSchema parametersSchema }
        revisions { nodes { number lint { code } } } } } }
    """
    (seen,) = (await api.data(query))["resourceTemplates"]["nodes"]
    assert (seen["name"], seen["content"], seen["tenant"], seen["createdBy"]) == ("public", None, None, None)
    assert seen["viewerCan"] == ["READ"]
    assert seen["latest"]["id"] == encode_id("TemplateRevision", revision.id)
    assert seen["latest"]["graph"]["waves"] == [["role"], ["database"]]
    assert seen["latest"]["outputsSchema"]["owner"]["value"] == "${resources.role.properties.name}"
    assert seen["revisions"]["nodes"] == [{"number": 1, "lint": []}]
    own = (await api.data(query, access=api.rival))["resourceTemplates"]["nodes"]
    assert {node["name"]: node["content"] is None for node in own} == {"public": False, "private": False}


async def test_resource_types_are_those_of_the_catalogue(api: Api) -> None:
    answer = await api.data("{ resourceTypes { name provider schema outputsSchema actions } }")
    found = {kind["name"]: kind for kind in answer["resourceTypes"]}
    assert list(found) == sorted(api.services.catalogue.type_names())
    assert found["postgres.role"]["provider"] == "postgres"
    assert found["postgres.role"]["schema"]["type"] == "object"


async def test_a_preview_stores_nothing_and_names_faults(api: Api) -> None:
    rows = api.acme.rows
    revision = await rows.revision(await rows.template())
    query = """
    query ($input: PreviewPlanInput!) { previewPlan(input: $input) {
      preview { hash summary { create } changes { key action } stale } graph { waves } diagnostics { code path }
    } }
    """
    gid = encode_id("TemplateRevision", revision.id)
    good = (await api.data(query, {"input": {"templateRevisionId": gid, "parameters": {"name": "shop"}}}))[
        "previewPlan"
    ]
    assert good["preview"]["summary"] == {"create": 2}
    assert good["preview"]["stale"] is False
    bad = (await api.data(query, {"input": {"templateRevisionId": gid, "parameters": {"name": 7}}}))["previewPlan"]
    assert bad["preview"] is None
    assert bad["diagnostics"]
    assert (await api.data("{ deploymentPlans { nodes { id } } }"))["deploymentPlans"]["nodes"] == []
    foreign = await api.ask(query, {"input": {"templateRevisionId": gid}}, access=api.rival)
    absent = await api.ask(query, {"input": {"templateRevisionId": encode_id("TemplateRevision", 10**9)}})
    malformed = await api.ask(query, {"input": {"templateRevisionId": "nonsense"}})
    assert foreign["errors"][0]["message"] == absent["errors"][0]["message"] == malformed["errors"][0]["message"]
    assert foreign["errors"][0]["extensions"]["code"] == "NOT_FOUND"


async def test_a_preview_against_a_plan_takes_from_it_what_is_left_out(api: Api) -> None:
    revision = await api.acme.rows.revision(await api.acme.rows.template())
    gid = encode_id("TemplateRevision", revision.id)
    made = await done(
        api,
        "createPlan",
        name="shop",
        type="MANUAL",
        templateRevisionId=gid,
        parameters={"name": "shop"},
        constraints=[{"assert": "${parameters.name != 'bad'}", "message": "not that one"}],
    )
    query = """query ($input: PreviewPlanInput!) { previewPlan(input: $input) {
      preview { hash } diagnostics { code path message } } }"""
    plan_id, agreed = made["plan"]["id"], made["plan"]["preview"]["hash"]
    same = (await api.data(query, {"input": {"againstPlanId": plan_id}}))["previewPlan"]
    other = (await api.data(query, {"input": {"againstPlanId": plan_id, "parameters": {"name": "b"}}}))["previewPlan"]
    assert same["preview"]["hash"] == agreed != other["preview"]["hash"]
    bad = (await api.data(query, {"input": {"againstPlanId": plan_id, "parameters": {"name": "bad"}}}))["previewPlan"]
    assert bad["diagnostics"] == [{"code": "CONSTRAINT", "path": ["constraints", "0"], "message": "not that one"}]
    foreign = await api.ask(query, {"input": {"againstPlanId": plan_id}}, access=api.rival)
    assert foreign["errors"][0]["extensions"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("constraints", "path"),
    [
        ({}, ["constraints"]),
        ([{"assert": "${true}"}], ["constraints", "0", "message"]),
        ([{"assert": "${nothing.at.all}", "message": "m"}], ["constraints", "0", "assert"]),
        ([{"assert": "${parameters.name == ''}", "message": "m", "level": 3}], ["constraints", "0", "level"]),
        ([{"assert": "${resources.nobody.id != ''}", "message": "m"}], ["constraints", "0", "assert"]),
        ([{"assert": "${parameters.name == 'other'}", "message": "m"}], ["constraints", "0"]),
        ([{"assert": "${true}", "message": "m"}] * 51, ["constraints"]),
    ],
)
async def test_a_plan_whose_constraints_do_not_hold_is_not_stored(api: Api, constraints: Any, path: list[str]) -> None:
    revision = await api.acme.rows.revision(await api.acme.rows.template())
    given = {"templateRevisionId": encode_id("TemplateRevision", revision.id), "parameters": {"name": "shop"}}
    (error,) = await refused(api, "createPlan", name="p", type="MANUAL", **given, constraints=constraints)
    assert error["path"] == path
    made = await done(api, "createPlan", name="p", type="MANUAL", **given)
    plan = made["plan"]
    changed = await refused(
        api, "updatePlan", id=plan["id"], expectedVersion=plan["version"], constraints={"no": "list"}
    )
    assert changed[0]["path"] == ["constraints"]
