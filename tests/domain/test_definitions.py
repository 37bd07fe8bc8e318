from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.definitions.template import TemplateDefinition, parse_template
from app.domain.definitions.workflow import WorkflowDefinition, parse_workflow
from app.domain.enums import ErrorClass, FailureStrategy, StepType
from app.domain.errors import Cyclic, Invalid, LimitExceeded, Severity
from app.domain.retrying import RetryPolicy
from tests.domain.catalogues import TYPES


def template(resources: Any, **rest: Any) -> TemplateDefinition:
    return parse_template({"resources": resources, **rest})


def workflow(*steps: Any, **rest: Any) -> WorkflowDefinition:
    return parse_workflow({"steps": list(steps), **rest})


def task(key: str, **rest: Any) -> dict[str, Any]:
    return {"key": key, "type": "CUSTOM", "configuration": {"task": "core.wait"}, **rest}


def faults_of(caught: pytest.ExceptionInfo[Invalid]) -> list[tuple[str, tuple[str, ...]]]:
    return sorted((found.code, found.path) for found in caught.value.diagnostics)


# ── templates ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_template_is_read_with_implicit_and_explicit_edges() -> None:
    found = template(
        {
            "net": {
                "type": "cloud.network",
                "connection": "aws",
                "lifecycle": {"retain": True, "preventDestroy": True},
            },
            "web": {
                "type": "cloud.server",
                "properties": {"tags": [{"net": "n-${resources.net.outputs.id}"}], "name": "${each.key}"},
                "dependsOn": ["log"],
                "when": "${parameters.on}",
                "forEach": "${parameters.zones}",
            },
            "log": {"type": "cloud.server"},
        },
        parameters={"type": "object", "properties": {"on": {"type": "boolean"}, "zones": {"type": "array"}}},
        outputs={"first": {"value": "${resources.web['a'].outputs.host}", "description": "where"}},
        constraints=[{"assert": "${size(parameters.zones) > 0}", "message": "zones are needed"}],
    )
    net, web = found.resources["net"], found.resources["web"]
    assert (net.type, net.connection, net.retain, net.prevent_destroy) == ("cloud.network", "aws", True, True)
    assert (web.depends_on, web.when, web.for_each) == (("log",), "${parameters.on}", "${parameters.zones}")
    assert found.outputs["first"].description == "where"
    assert found.constraints[0].condition == "${size(parameters.zones) > 0}"
    assert found.graph.order() == ("net", "log", "web")
    assert [(edge.source, edge.explicit, edge.path, edge.expression) for edge in found.graph.edges] == [
        ("net", False, "web.properties.tags.0.net", "${resources.net.outputs.id}"),
        ("log", True, "web.dependsOn", None),
    ]
    assert found.notes == ()


def test_template_names_every_fault_with_its_place() -> None:
    with pytest.raises(Invalid) as caught:
        parse_template(
            {
                "resorces": {},
                "resources": {
                    "a": {
                        "type": "x",
                        "properties": {
                            "p": ["${1 +}"],
                            "q": "${resources.bb.id}",
                            "r": "${each.key}",
                            "s": "${paramters.x}",
                        },
                        "dependsOn": ["c", 3],
                        "lifecycle": {"retain": "yes"},
                        "when": "always",
                    },
                    "b": {"properties": {"x": "${resources.a.output.y}", "z": "${parameters.y}"}},
                    "b[1]": {"type": "x", "forEach": 3},
                },
                "outputs": {"o": {}, "u": 1},
                "constraints": [{"assert": "${plan.nme == ''}"}],
            },
            path=("content",),
        )
    assert faults_of(caught) == sorted(
        (code, ("content", *path))
        for code, path in [
            ("UNKNOWN_PROPERTY", ("resorces",)),
            ("INVALID", ("resources", "a", "properties", "p", "0")),
            ("UNKNOWN_REFERENCE", ("resources", "a", "properties", "q")),
            ("UNKNOWN_REFERENCE", ("resources", "a", "properties", "r")),
            ("UNKNOWN_REFERENCE", ("resources", "a", "properties", "s")),
            ("UNKNOWN_REFERENCE", ("resources", "a", "dependsOn", "0")),
            ("TYPE_MISMATCH", ("resources", "a", "dependsOn", "1")),
            ("TYPE_MISMATCH", ("resources", "a", "lifecycle", "retain")),
            ("TYPE_MISMATCH", ("resources", "a", "when")),
            ("REQUIRED", ("resources", "b", "type")),
            ("UNKNOWN_REFERENCE", ("resources", "b", "properties", "x")),
            ("UNKNOWN_REFERENCE", ("resources", "b", "properties", "z")),
            ("INVALID", ("resources", "b[1]")),
            ("TYPE_MISMATCH", ("resources", "b[1]", "forEach")),
            ("REQUIRED", ("outputs", "o", "value")),
            ("REQUIRED", ("outputs", "u", "value")),
            ("TYPE_MISMATCH", ("outputs", "u")),
            ("REQUIRED", ("constraints", "0", "message")),
            ("UNKNOWN_REFERENCE", ("constraints", "0", "assert")),
        ]
    )
    assert {found.suggestion for found in caught.value.diagnostics} >= {
        "resources",
        "b",
        "parameters",
        "outputs",
        "name",
    }
    assert "19 faults" in caught.value.message


def test_cycles_alone_are_cyclic_and_with_other_faults_are_diagnostics() -> None:
    circle = {"a": {"type": "x", "properties": {"p": "${resources.b.id}"}}, "b": {"type": "x", "dependsOn": ["a"]}}
    with pytest.raises(Cyclic) as alone:
        template(circle)
    assert len(alone.value.cycles[0]) == 2
    assert "a.properties.p: ${resources.b.id}" in alone.value.message
    with pytest.raises(Invalid) as both:
        template({**circle, "c": {"type": "x", "dependsOn": ["c"]}, "d": {}})
    assert [code for code, _ in faults_of(both)] == ["CYCLE", "CYCLE", "REQUIRED"]


def test_a_dependency_that_is_said_twice_is_a_note() -> None:
    found = template(
        {"a": {"type": "x"}, "b": {"type": "x", "properties": {"p": "${resources.a.id}"}, "dependsOn": ["a"]}}
    )
    assert [(note.severity, note.code) for note in found.notes] == [(Severity.INFO, "REDUNDANT_DEPENDENCY")]


def test_template_is_checked_against_the_types_there_are() -> None:
    with pytest.raises(Invalid) as caught:
        parse_template(
            {
                "resources": {
                    "net": {"type": "cloud.netwrk"},
                    "a": {"type": "cloud.server", "properties": {"name": 3, "sise": "${1}"}},
                    "b": {"type": "cloud.server", "properties": {"name": "${resources.a.outputs.adress}"}},
                    "c": {"type": "cloud.server", "properties": {"name": "${resources.a.outputs.address.host}"}},
                    "d": {"type": "cloud.server", "properties": {"name": "${resources.a.properties.sze}"}},
                    "e": {"type": "cloud.server", "properties": {"size": "${resources.a.properties.size}"}},
                }
            },
            TYPES,
        )
    assert faults_of(caught) == [
        ("REQUIRED", ("resources", "e", "properties", "name")),
        ("TYPE_MISMATCH", ("resources", "a", "properties", "name")),
        ("UNKNOWN_PROPERTY", ("resources", "a", "properties", "sise")),
        ("UNKNOWN_REFERENCE", ("resources", "b", "properties", "name")),
        ("UNKNOWN_REFERENCE", ("resources", "d", "properties", "name")),
        ("UNKNOWN_REFERENCE", ("resources", "net", "type")),
    ]
    suggestions = {found.path[1]: found.suggestion for found in caught.value.diagnostics if found.suggestion}
    assert suggestions == {"net": "cloud.network", "a": "size", "b": "address", "d": "size"}


@pytest.mark.parametrize("content", [None, [], "x", 3, {"resources": []}, {"parameters": 3}, {"constraints": {}}])
def test_anything_else_is_no_template(content: Any) -> None:
    with pytest.raises(Invalid) as caught:
        parse_template(content)
    assert [code for code, _ in faults_of(caught)] == ["TYPE_MISMATCH"]


def test_what_is_too_large_is_refused_early() -> None:
    deep: Any = "x"
    for _ in range(201):
        deep = {"a": deep}
    with pytest.raises(LimitExceeded):
        parse_template(deep)
    with pytest.raises(LimitExceeded):
        template({f"r{number}": {} for number in range(5001)})
    with pytest.raises(LimitExceeded):
        workflow(*(task(f"s{number}", order=number % 2) for number in range(1000)))


# ── workflows ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_workflow_is_read() -> None:
    found = workflow(
        {
            "key": "create-role",
            "name": "Create the role",
            "type": "RESOURCE_CREATE",
            "configuration": {"type": "cloud.server", "connection": "main"},
            "inputs": {"name": "x"},
            "timeoutSeconds": 90,
            "totalTimeoutSeconds": 900,
            "heartbeatSeconds": 30,
            "retry": {"maxAttempts": 5, "retryOn": ["TIMEOUT"], "nonRetryableCodes": ["QUOTA"]},
            "errorHandling": {"strategy": "HALT", "compensate": {"task": "core.wait"}, "ignore": True},
            "checkpoint": True,
        },
        {"key": "rest", "type": "RESOURCE_UPDATE", "configuration": {"resource": "*"}},
    )
    step, rest = found.steps
    assert (step.name, step.type, step.order) == ("Create the role", StepType.RESOURCE_CREATE, 1)
    assert (step.resource_type, step.connection, step.inputs) == ("cloud.server", "main", {"name": "x"})
    assert (step.timeout_seconds, step.checkpoint, step.ignore) == (90, True, True)
    assert (step.total_seconds, step.heartbeat_seconds) == (900, 30)
    assert step.retry == RetryPolicy(max_attempts=5, retry_on=(ErrorClass.TIMEOUT,), never_on=("QUOTA",))
    assert step.strategy is FailureStrategy.HALT
    assert step.compensate == {"task": "core.wait", "inputs": {}}
    assert (rest.name, rest.resource, rest.order, rest.retry) == ("rest", "*", 2, RetryPolicy())


def test_equal_order_is_parallel_and_the_next_a_barrier() -> None:
    found = workflow(task("a", order=1), task("b", order=1), task("c", order=5), task("d", order=5), task("e"))
    assert found.graph.waves() == (("a", "b"), ("c", "d"), ("e",))
    assert {(edge.explicit, edge.path) for edge in found.graph.edges} == {(True, "order")}


def test_steps_without_order_run_one_after_the_other() -> None:
    assert workflow(task("a"), task("b"), task("c")).graph.waves() == (("a",), ("b",), ("c",))


def test_a_step_that_names_what_it_needs_leaves_the_order() -> None:
    found = workflow(
        task("a", order=1),
        task("b", order=2),
        task("free", order=9, dependsOn=["a"]),
        task("reader", order=9, inputs={"seconds": "${steps.b.outputs.x}"}),
        task("last", order=10),
    )
    assert found.graph.needs("free") == {"a"}
    assert found.graph.needs("reader") == {"b"}
    assert found.graph.needs("last") == {"b"}
    (edge,) = [edge for edge in found.graph.edges if edge.target == "reader"]
    assert (edge.explicit, edge.path, edge.expression) == (False, "reader.inputs.seconds", "${steps.b.outputs.x}")


def test_what_undoes_a_step_may_read_its_outputs() -> None:
    undo = {"compensate": {"task": "core.wait", "inputs": {"seconds": "${steps.a.outputs.x}"}}}
    assert workflow(task("a", errorHandling=undo)).graph.edges == ()
    with pytest.raises(Cyclic):
        workflow(task("a", inputs={"seconds": "${steps.a.outputs.x}"}))


def test_a_step_of_its_own_resource_comes_before_those_that_read_it() -> None:
    inline = {"key": "box", "type": "RESOURCE_CREATE", "configuration": {"type": "cloud.server"}}
    found = workflow(task("t", inputs={"seconds": "${resources.box.outputs.x}"}), inline)
    assert found.graph.order() == ("box", "t")


def test_timeouts_that_make_no_sense_are_refused_where_they_stand() -> None:
    gate = {"key": "g", "type": "CUSTOM", "gate": {"kind": "APPROVAL", "prompt": "?"}}
    own = {"key": "n", "type": "RESOURCE_CREATE", "inputs": {"name": "x"}, "heartbeatSeconds": 5}
    with pytest.raises(Invalid) as caught:
        workflow(
            task("a", timeoutSeconds=60, totalTimeoutSeconds=59),
            task("b", totalTimeoutSeconds=31 * 86400, heartbeatSeconds=0.5),
            {**gate, "totalTimeoutSeconds": 5, "heartbeatSeconds": 5},
            task("c", retry={"nonRetryableCodes": ["A", 7, " "]}),
            task("d", retry={"nonRetryableCodes": ["A"] * 51}),
        )
    assert faults_of(caught) == [
        ("INVALID", ("steps", "0", "totalTimeoutSeconds")),
        ("INVALID", ("steps", "1", "heartbeatSeconds")),
        ("INVALID", ("steps", "1", "totalTimeoutSeconds")),
        ("INVALID", ("steps", "2", "heartbeatSeconds")),
        ("INVALID", ("steps", "2", "totalTimeoutSeconds")),
        ("INVALID", ("steps", "4", "retry", "nonRetryableCodes")),
        ("TYPE_MISMATCH", ("steps", "3", "retry", "nonRetryableCodes", "1")),
        ("TYPE_MISMATCH", ("steps", "3", "retry", "nonRetryableCodes", "2")),
    ]
    # Only who says something can fall silent.
    server, network = ({**own, "configuration": {"type": f"cloud.{kind}"}} for kind in ("server", "network"))
    assert parse_workflow({"steps": [server]}, TYPES).steps[0].heartbeat_seconds == 5
    with pytest.raises(Invalid) as caught:
        parse_workflow({"steps": [network]}, TYPES)
    assert faults_of(caught) == [("INVALID", ("steps", "0", "heartbeatSeconds"))]


def test_the_name_of_a_step_is_on_one_line_and_its_description_need_not_be() -> None:
    with pytest.raises(Invalid) as caught:
        workflow(task("a", name="red \x1b[31m", description="two\nlines"), task("b", name="a name"))
    assert faults_of(caught) == [("INVALID", ("steps", "0", "name"))]


def test_workflow_names_every_fault_with_its_place() -> None:
    with pytest.raises(Invalid) as caught:
        workflow(
            {"key": "a", "type": "CUSTM"},
            {**task("a"), "configuration": {"resource": "x"}, "dependsOn": ["z"], "timeoutSeconds": 0},
            {"type": "RESOURCE_DELETE", "configuration": {"resource": "*"}, "retry": {"maxAttempts": True}},
            task("b", inputs={"x": "${steps.c.outputs.y}", "y": "${steps.a.result}"}, retry={"retryOn": ["TIMEOUTS"]}),
            {
                "key": "s",
                "type": "RESOURCE_SCALE",
                "configuration": {"type": "x"},
                "errorHandling": {"strategy": "STOP"},
            },
        )
    assert faults_of(caught) == [
        ("INVALID", ("steps", "0", "type")),
        ("INVALID", ("steps", "1", "configuration")),
        ("INVALID", ("steps", "1", "key")),
        ("INVALID", ("steps", "1", "timeoutSeconds")),
        ("INVALID", ("steps", "2", "configuration", "resource")),
        ("INVALID", ("steps", "3", "retry", "retryOn", "0")),
        ("INVALID", ("steps", "4", "configuration")),
        ("INVALID", ("steps", "4", "errorHandling", "strategy")),
        ("REQUIRED", ("steps", "2", "key")),
        ("TYPE_MISMATCH", ("steps", "2", "retry", "maxAttempts")),
        ("UNKNOWN_REFERENCE", ("steps", "1", "dependsOn", "0")),
        ("UNKNOWN_REFERENCE", ("steps", "3", "inputs", "x")),
        ("UNKNOWN_REFERENCE", ("steps", "3", "inputs", "y")),
    ]


def test_workflow_is_checked_against_types_and_tasks() -> None:
    steps = [
        {"key": "a", "type": "RESOURCE_CREATE", "configuration": {"type": "cloud.sever"}},
        {"key": "b", "type": "RESOURCE_CREATE", "configuration": {"type": "cloud.server"}, "inputs": {"size": 1}},
        {**task("c"), "configuration": {"task": "core.wate"}},
        task("d", inputs={"seconds": "soon"}),
        task("e", inputs={"seconds": "${parameters.pause}"}),
    ]
    with pytest.raises(Invalid) as caught:
        parse_workflow({"steps": steps}, TYPES)
    assert faults_of(caught) == [
        ("REQUIRED", ("steps", "1", "inputs", "name")),
        ("TYPE_MISMATCH", ("steps", "3", "inputs", "seconds")),
        ("UNKNOWN_REFERENCE", ("steps", "0", "configuration", "type")),
        ("UNKNOWN_REFERENCE", ("steps", "2", "configuration", "task")),
    ]


def test_workflow_is_checked_against_the_template_it_will_work_on() -> None:
    base = template({"web": {"type": "x"}}, parameters={"type": "object", "properties": {"pause": {"type": "number"}}})
    found = workflow(
        {"key": "make", "type": "RESOURCE_CREATE", "configuration": {"resource": "wib"}},
        {"key": "drop", "type": "RESOURCE_DELETE", "configuration": {"resource": "gone"}},
        task("t", inputs={"a": "${resources.wbe.id}", "b": "${resources.web.id}", "c": "${parameters.puase}"}),
        task("u", when="${parameters.mine}", inputs={"seconds": "${parameters.pause}"}),
        parameters={"type": "object", "properties": {"mine": {"type": "boolean"}}},
    )
    assert [(fault.code, fault.path, fault.suggestion) for fault in found.check_against(base)] == [
        ("UNKNOWN_REFERENCE", ("definition", "steps", "0", "configuration", "resource"), "web"),
        ("UNKNOWN_REFERENCE", ("definition", "steps", "2", "inputs", "a"), "web"),
        ("UNKNOWN_REFERENCE", ("definition", "steps", "2", "inputs", "c"), "pause"),
    ]


def test_inputs_without_effect_are_a_warning() -> None:
    found = workflow(
        {"key": "a", "type": "RESOURCE_CREATE", "configuration": {"resource": "web"}, "inputs": {"size": 3}}
    )
    assert [(note.severity, note.path) for note in found.notes] == [(Severity.WARN, ("steps", "0", "inputs"))]


# ── anything at all ──────────────────────────────────────────────────────────────────────────────────────────────

_LEAVES = st.sampled_from(
    [None, True, 1, -2.5, "", "a", "b", "*", "CUSTOM", "RESOURCE_CREATE", "${resources.a.id}", "${"]
)
_NAMES = st.sampled_from(
    [
        *("parameters", "resources", "outputs", "constraints", "steps", "properties", "type", "dependsOn", "when"),
        *("forEach", "lifecycle", "key", "configuration", "task", "resource", "retry", "retryOn", "errorHandling"),
        *("compensate", "inputs", "order", "a", "b", "value", "assert", "$ref", "required"),
    ]
)
_TREES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4), max_leaves=25
)


@given(st.dictionaries(_NAMES, _TREES, max_size=4))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_document_is_read_or_refused_with_diagnostics(tree: dict[str, Any]) -> None:
    for parse in (parse_template, parse_workflow):
        for document in (tree, {"resources": {"a": tree}}, {"steps": [tree]}):
            try:
                parse(document)
            except Cyclic as error:
                faults = len(error.cycles)
            except Invalid as error:
                faults = len(error.diagnostics)
            else:
                faults = 1
            assert faults > 0
