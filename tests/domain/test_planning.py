"""Plans worked out with the real catalogue: what changes, in which order, and what cannot be taken back."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.definitions.template import parse_template
from app.domain.definitions.workflow import parse_workflow
from app.domain.enums import ChangeAction, ChangeSource, StepType
from app.domain.errors import Invalid, Required, Severity
from app.domain.operations import OperationKind, Phase
from app.domain.planning import Deployment, PlanningInput, RecordedResource, plan
from app.providers.registry import Registry

CATALOGUE = Registry.default()
ONBOARDING: dict[str, Any] = {
    "parameters": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "password": {"type": "string", "writeOnly": True}},
        "required": ["name"],
    },
    "resources": {
        "owner": {
            "type": "postgres.role",
            "properties": {"name": "${parameters.name}_owner", "login": True, "password": "${parameters.password}"},
        },
        "database": {
            "type": "postgres.database",
            "properties": {"name": "${parameters.name}", "owner": "${resources.owner.outputs.name}"},
        },
    },
}


def work_out(
    content: dict[str, Any] | None = None,
    *,
    workflow: dict[str, Any] | None = None,
    recorded: tuple[RecordedResource, ...] = (),
    **parameters: Any,
) -> Deployment:
    return plan(
        PlanningInput(
            catalogue=CATALOGUE,
            stack="acme",
            plan_name="acme",
            tenant_slug="demo",
            template=parse_template(content, CATALOGUE) if content else None,
            workflow=parse_workflow(workflow) if workflow else None,
            parameters=parameters,
            recorded=recorded,
        )
    )


def note(key: str, *needs: str, text: str = "x", **more: Any) -> RecordedResource:
    properties, _ = CATALOGUE.check("core.note", {"name": key, "text": text})
    return RecordedResource(
        key=key,
        type="core.note",
        properties=properties,
        outputs={"path": f"/{key}"},
        external_id=key,
        resource_id=7,
        depends_on=needs,
        **more,
    )


def notes(*keys: str, text: str = "x") -> dict[str, Any]:
    return {"resources": {key: {"type": "core.note", "properties": {"name": key, "text": text}} for key in keys}}


def test_everything_is_created_in_order_of_dependency() -> None:
    deployment = work_out(ONBOARDING, name="acme", password="geheim")
    assert [(step.key, step.needs, step.change) for step in deployment.steps] == [
        ("owner", (), ChangeAction.CREATE),
        ("database", ("owner",), ChangeAction.CREATE),
    ]
    assert deployment.points_of_no_return == ()


def test_every_change_says_where_it_comes_from_and_no_secret_is_shown() -> None:
    deployment = work_out(ONBOARDING, name="acme", password="geheim")
    changed = {change.path: (change, origin) for change, origin in deployment.changes[0].properties}
    assert changed["name",][1].source is ChangeSource.PARAMETER
    assert changed["name",][1].cause == "parameters.name"
    assert changed["login",][1].source is ChangeSource.TEMPLATE
    assert changed["password",][0].sensitive
    assert "geheim" not in str(deployment.preview())
    owner = {change.path: change for change, _ in deployment.changes[1].properties}["owner",]
    assert owner.after_unknown


def test_the_hash_stands_for_what_will_be_done() -> None:
    first = work_out(ONBOARDING, name="acme", password="a").preview()["hash"]
    assert work_out(ONBOARDING, name="acme", password="a").preview()["hash"] == first
    assert work_out(ONBOARDING, name="other", password="a").preview()["hash"] != first


def test_a_missing_parameter_names_its_path() -> None:
    with pytest.raises(Invalid) as refused:
        work_out(ONBOARDING)
    assert [(found.code, found.path) for found in refused.value.diagnostics] == [("REQUIRED", ("parameters", "name"))]


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        work_out(ONBOARDING, name="acme", nmae="x")
    assert refused.value.diagnostics[0].path == ("parameters", "nmae")


def test_what_is_as_wanted_is_left_alone() -> None:
    deployment = work_out(notes("a"), recorded=(note("a"),))
    assert deployment.is_empty
    assert deployment.changes[0].resource_id == 7


def test_a_failed_resource_is_never_left_alone() -> None:
    deployment = work_out(notes("a"), recorded=(note("a", settled=False),))
    assert deployment.changes[0].action is ChangeAction.UPDATE


def test_a_create_only_property_replaces() -> None:
    changed = {"resources": {"a": {"type": "core.note", "properties": {"name": "b", "text": "x"}}}}
    deployment = work_out(changed, recorded=(note("a"),))
    assert deployment.changes[0].action is ChangeAction.REPLACE


def test_what_the_template_no_longer_names_is_deleted_last_and_dependents_first() -> None:
    deployment = work_out(notes("a"), recorded=(note("a"), note("b"), note("c", "b")))
    deletions = [step for step in deployment.steps if step.operation is OperationKind.DELETE]
    assert [(step.key, step.needs, step.phase) for step in deletions] == [
        ("c", (), Phase.COMMIT),
        ("b", ("c",), Phase.COMMIT),
    ]
    assert set(deployment.points_of_no_return) == {"b", "c"}


def test_a_protected_resource_is_not_deleted() -> None:
    with pytest.raises(Invalid, match="protected by preventDestroy"):
        work_out(notes("a"), recorded=(note("a"), note("b", prevent_destroy=True)))


def test_a_retained_resource_is_let_go() -> None:
    deployment = work_out(notes("a"), recorded=(note("a"), note("b", retain=True)))
    assert deployment.changes[-1].action is ChangeAction.DETACH


def test_the_star_stands_for_all_resources_that_no_other_step_brings_about() -> None:
    workflow = {
        "steps": [
            {"key": "first", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "b"}},
            {"key": "rest", "type": "RESOURCE_CREATE", "order": 2, "configuration": {"resource": "*"}},
            {"key": "done", "type": "CUSTOM", "order": 3, "configuration": {"task": "core.pass"}},
        ]
    }
    deployment = work_out(notes("a", "b", "c"), workflow=workflow)
    assert [(step.key, step.wave) for step in deployment.steps] == [("first", 0), ("a", 1), ("c", 1), ("done", 2)]


def test_a_maintenance_workflow_deletes_nothing() -> None:
    workflow = {"steps": [{"key": "go", "type": "CUSTOM", "configuration": {"task": "core.pass"}}]}
    deployment = work_out(notes("a"), workflow=workflow, recorded=(note("z"),))
    assert [step.key for step in deployment.steps] == ["go"]


def test_a_resource_that_no_step_brings_about_is_warned_of() -> None:
    """What is there already, or goes, need not be brought about; and a plan without a workflow does it all."""
    back_up = {"key": "keep", "type": "CUSTOM", "configuration": {"task": "core.pass"}}
    make = {"key": "make", "type": "RESOURCE_CREATE", "configuration": {"resource": "b"}}
    everything = {"key": "all", "type": "RESOURCE_CREATE", "configuration": {"resource": "*"}}
    many = {"resources": {**notes("a", "b")["resources"], "c": {**notes("c")["resources"]["c"], "forEach": ["x", "y"]}}}
    for steps, recorded, left_out in (
        ([back_up], (), ["a", "b", "c"]),
        ([back_up, make], (), ["a", "c"]),
        ([back_up, make], (note("a"),), ["c"]),
        ([back_up, everything], (), []),
    ):
        found = work_out(many, workflow={"steps": steps}, recorded=recorded).diagnostics
        assert [(item.severity, item.code, item.path) for item in found] == [
            (Severity.WARN, "NOT_APPLIED", ("content", "resources", key)) for key in left_out
        ]
    assert work_out(many).diagnostics == ()


def test_a_workflow_alone_declares_resources_inline() -> None:
    workflow = {
        "steps": [
            {
                "key": "memo",
                "type": "RESOURCE_CREATE",
                "configuration": {"type": "core.note"},
                "inputs": {"name": "memo", "text": "x"},
            }
        ]
    }
    (step,) = work_out(workflow=workflow).steps
    assert (step.operation, step.type, step.resource_key) == (
        OperationKind.APPLY,
        StepType.RESOURCE_CREATE,
        "memo",
    )


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ({"key": "x", "type": "RESOURCE_BACKUP", "configuration": {"resource": "nothing"}}, "neither the template"),
        ({"key": "x", "type": "CUSTOM", "configuration": {"task": "core.nothing"}}, "no task"),
        (
            {"key": "x", "type": "RESOURCE_SCALE", "configuration": {"resource": "a"}, "inputs": {"text": "y"}},
            "cannot scale 'text'",
        ),
    ],
)
def test_a_step_that_makes_no_sense_is_refused(step: dict[str, Any], fault: str) -> None:
    with pytest.raises(Invalid, match=fault):
        work_out(workflow={"steps": [step]}, recorded=(note("a"),))


def test_for_each_makes_one_resource_for_each_element_by_its_key() -> None:
    content = {
        "parameters": {"type": "object", "properties": {"teams": {"type": "object"}}},
        "resources": {
            "team": {
                "type": "core.note",
                "forEach": "${parameters.teams}",
                "properties": {"name": "${each.key}", "text": "${each.value}"},
            }
        },
    }
    deployment = work_out(content, teams={"red": "r", "blue": "b"})
    assert sorted(step.key for step in deployment.steps) == ["team[blue]", "team[red]"]


def test_a_plan_needs_something_to_do() -> None:
    with pytest.raises(Required):
        work_out()
