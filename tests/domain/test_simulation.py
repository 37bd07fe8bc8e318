"""Made-up values fit their schemas, and what a simulation is asked for is understood."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import UnknownReference
from app.domain.placeholders import MARK, placeholder
from app.domain.schemas import apply_schema
from app.domain.simulation import Simulation
from app.providers.registry import Registry

_NUMBERS = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])},
    optional={"minimum": st.integers(-50, 50), "exclusiveMinimum": st.integers(-50, 50)},
) | st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"]), "multipleOf": st.sampled_from([1, 2, 5])},
    optional={"minimum": st.integers(-50, 50), "maximum": st.integers(55, 90)},
) | st.fixed_dictionaries(
    {"type": st.just("integer"), "exclusiveMaximum": st.integers(-50, 0)}
)  # fmt: skip
_TEXTS = st.fixed_dictionaries(
    {"type": st.just("string")}, optional={"minLength": st.integers(0, 30), "maxLength": st.integers(30, 60)}
)
_PLAIN = st.sampled_from(
    [{"type": "boolean"}, {"type": "null"}, {"type": ["null", "string"]}, {"enum": [3, 4]}, {"const": {"a": 1}}, {}]
)
_NAMES = st.sampled_from(["a", "b", "c"])


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 4)}
    ) | st.builds(lambda kinds: {"type": "array", "prefixItems": kinds}, st.lists(inner, min_size=1, max_size=3))
    maps = st.builds(
        lambda declared, needed: {
            "type": "object", "properties": declared, "required": sorted(needed), "additionalProperties": not declared,
        } if needed <= declared.keys() else {"properties": declared},
        st.dictionaries(_NAMES, inner, max_size=3),
        st.sets(_NAMES),
    )  # fmt: skip
    combined = st.builds(lambda one, other: {"allOf": [{"properties": {"a": one}}, {"properties": {"b": other}}],
                                             "required": ["a"]}, inner, inner)  # fmt: skip
    either = st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner)
    referring = st.builds(lambda it: {"$ref": "#/$defs/it", "$defs": {"it": it}}, inner.filter(_is_closed))
    return lists | maps | combined | either | referring


def _is_closed(schema: Any) -> bool:
    return "$ref" not in str(schema)


def _means_something(schema: Any) -> bool:
    """A reference leads to the root of the document, so it means something only there."""
    return _is_closed(schema) or "$ref" in schema


SCHEMAS: st.SearchStrategy[Any] = st.recursive(_NUMBERS | _TEXTS | _PLAIN, _deeper, max_leaves=6)


@given(SCHEMAS.filter(_means_something))
def test_what_is_made_up_fits_its_schema_and_is_always_the_same(schema: dict[str, Any]) -> None:
    made = placeholder(schema)
    assert apply_schema(schema, made)[1] == []
    assert placeholder(schema) == made


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ({"type": "string"}, "simulated-value"),
        ({"type": "string", "format": "ipv4"}, "192.0.2.1"),
        ({"type": "integer", "minimum": 1024}, 1024),
        ({"type": "number", "exclusiveMaximum": 1}, 0.5),
        (
            {"properties": {"port": {"type": "integer"}, "host": {"type": "string"}}},
            {"port": 1, "host": f"{MARK}-host"},
        ),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["simulated-value", "simulated-value-2"]),
        ({"type": "object", "properties": {"a": {"default": 7}, "b": False}}, {"a": 7}),
        # A schema that refers to itself ends somewhere.
        ({"$ref": "#"}, "simulated-value"),
    ],
)
def test_texts_can_be_told_from_real_ones(schema: dict[str, Any], made: Any) -> None:
    assert placeholder(schema) == made


def test_a_schema_that_contains_itself_has_a_made_up_value() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}, "name": {"type": "string"}}}
    assert placeholder(schema)["next"]["next"]["name"] == "simulated-name"


def test_a_schema_without_end_takes_no_time() -> None:
    names = "abcdefgh"
    schema = {"type": "object", "properties": {name: {"allOf": [{"$ref": "#"}] * 3} for name in names}}
    began = time.monotonic()
    assert placeholder(schema)["a"].keys() == set(names)
    assert time.monotonic() - began < 2


def test_all_that_is_built_in_can_be_made_up() -> None:
    registry = Registry.default()
    for kind in registry.resources():
        for schema in (kind.outputs_schema, *(action.outputs_schema for action in kind.actions.values())):
            assert apply_schema(schema, placeholder(schema))[1] == [], kind.name
    for task in registry.tasks():
        assert apply_schema(task.outputs_schema, placeholder(task.outputs_schema))[1] == [], task.name


def test_a_step_and_its_undoing_are_named_apart() -> None:
    planned = Simulation.planned(["a", "b:undo", "a"], ["a", "b", "c:undo"])
    assert Simulation.of({"other": 1, **planned.document()}) == planned
    assert [planned.fails(key, undo=undo) for key in "ab" for undo in (False, True)] == [True, False, False, True]
    # A step may be called so.
    assert Simulation.planned(["c:undo"], ["c:undo"]).fails("c:undo", undo=False)
    assert Simulation.of({}).fail_at == frozenset()


@pytest.mark.parametrize(("wanted", "said"), [("dbs", "did you mean 'db'"), ("db:und", "did you mean 'db:undo'")])
def test_a_step_that_there_is_not_is_refused_with_its_neighbour(wanted: str, said: str) -> None:
    with pytest.raises(UnknownReference) as refused:
        Simulation.planned(["db", wanted], ["db", "application"])
    assert refused.value.path == ("simulateFailureAt", "1")
    assert said in refused.value.message
