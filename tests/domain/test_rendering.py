from __future__ import annotations

from typing import Any

import pytest

from app.domain.definitions.template import parse_template
from app.domain.errors import DomainError
from app.domain.expressions import MissingReference, embedded
from app.domain.rendering import instances
from app.domain.values import UNKNOWN, Secret


def keys(parameters: dict[str, Any], **resource: Any) -> list[str]:
    template = parse_template(
        {
            "parameters": {"type": "object", "properties": {name: {} for name in parameters}},
            "resources": {"web": {"type": "x", **resource}},
        }
    )
    return [instance.key for instance in instances(template.resources["web"], {"parameters": parameters})]


def test_when_decides_and_unknown_does_not() -> None:
    assert keys({"on": False}, when="${parameters.on}") == []
    assert keys({"on": True}, when="${parameters.on}") == ["web"]
    assert keys({"on": UNKNOWN}, when="${parameters.on}") == ["web"]
    assert keys({"on": Secret(False)}, when="${parameters.on}") == []


def test_for_each_names_instances_by_key() -> None:
    assert keys({"zones": {"b": 1, "a": 2}}, forEach="${parameters.zones}") == ["web[b]", "web[a]"]
    assert keys({"zones": ["x", "y"]}, forEach="${parameters.zones}") == ["web[x]", "web[y]"]
    assert keys({}, forEach=["x"]) == ["web[x]"]
    assert keys({"zones": []}, forEach="${parameters.zones}") == []


@pytest.mark.parametrize("zones", [["x", "x"], [1], UNKNOWN, "x", None])
def test_for_each_refuses_what_has_no_stable_names(zones: Any) -> None:
    with pytest.raises(DomainError) as caught:
        keys({"zones": zones}, forEach="${parameters.zones}")
    assert caught.value.path == ("forEach",)


def test_when_refuses_what_is_no_bool() -> None:
    with pytest.raises(DomainError) as caught:
        keys({"on": "yes"}, when="${parameters.on}")
    assert caught.value.path == ("when",)


def test_instances_see_their_element() -> None:
    template = parse_template(
        {"resources": {"web": {"type": "x", "forEach": {"a": 1}, "properties": {"n": "${each.key}-${each.value}"}}}}
    )
    (instance,) = instances(template.resources["web"], {})
    assert embedded.render(instance.definition.properties, instance.scope({})) == {"n": "a-1"}


def test_a_fault_has_its_path() -> None:
    template = parse_template({"resources": {"a": {"type": "x", "properties": {"p": ["${tenant.slug}"]}}}})
    (instance,) = instances(template.resources["a"], {})
    with pytest.raises(MissingReference) as caught:
        embedded.render(instance.definition.properties, {"tenant": {}})
    assert caught.value.path == ("p", "0")
