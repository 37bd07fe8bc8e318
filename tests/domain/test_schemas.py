from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import LimitExceeded
from app.domain.schemas import apply_schema, check_schema, is_deeper, sensitive_paths
from app.domain.values import UNKNOWN, Secret

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 3},
        "size": {"type": "integer", "default": 3},
        "password": {"type": "string", "writeOnly": True, "pattern": "^[a-z]+$"},
        "options": {
            "type": "object",
            "default": {},
            "properties": {"trace": {"type": "boolean", "default": True}, "label": {"default": None}},
        },
        "keys": {"type": "array", "items": {"$ref": "#/$defs/key"}},
    },
    "required": ["name", "password"],
    "additionalProperties": False,
    "$defs": {
        "key": {
            "type": "object",
            "properties": {"id": {"enum": [1, 2], "default": 1}, "token": {"x-sensitive": True}},
            "required": ["token"],
        }
    },
}


def apply(value: Any, schema: Any = SCHEMA) -> tuple[Any, list[tuple[str, tuple[str, ...]]]]:
    filled, faults = apply_schema(schema, value)
    return filled, [(fault.code, fault.path) for fault in faults]


def test_defaults_are_filled_in_and_secrets_wrapped_at_every_depth() -> None:
    given_value = {"name": "shop", "password": "hush", "keys": [{"token": "t"}]}
    assert apply(given_value) == (
        {
            "name": "shop",
            "password": Secret("hush"),
            "keys": [{"token": Secret("t"), "id": 1}],
            "size": 3,
            "options": {"trace": True, "label": None},
        },
        [],
    )
    assert given_value["keys"] == [{"token": "t"}]


def test_defaults_of_the_schema_are_never_shared() -> None:
    first, _ = apply({"name": "shop", "password": "hush"})
    first["options"]["trace"] = False
    second, _ = apply({"name": "shop", "password": "hush"})
    assert second["options"]["trace"] is True
    assert SCHEMA["properties"]["options"]["default"] == {}


def test_every_fault_has_its_code_and_place() -> None:
    _, faults = apply({"nam": "x", "password": "HUSH", "size": "big", "keys": [{}, {"token": 1, "id": 9}]})
    assert sorted(faults) == [
        ("INVALID", ("keys", "1", "id")),
        ("INVALID", ("password",)),
        ("REQUIRED", ("keys", "0", "token")),
        ("REQUIRED", ("name",)),
        ("TYPE_MISMATCH", ("size",)),
        ("UNKNOWN_PROPERTY", ("nam",)),
    ]


def test_paths_begin_where_the_caller_says_and_misspellings_are_recognized() -> None:
    _, faults = apply_schema(SCHEMA, {"name": "shop", "pasword": "hush"}, ("content", "parameters"))
    (fault,) = [fault for fault in faults if fault.code == "UNKNOWN_PROPERTY"]
    assert fault.path == ("content", "parameters", "pasword")
    assert fault.suggestion == "password"


def test_messages_never_contain_values() -> None:
    _, faults = apply_schema(SCHEMA, {"name": "ab", "password": "S3CR3T", "size": "S3CR3T"})
    assert len(faults) == 3
    assert all("S3CR3T" not in fault.message for fault in faults)


def test_secrets_are_checked_by_what_they_hide() -> None:
    assert apply({"name": Secret("ab"), "password": Secret("hush")})[1] == [("INVALID", ("name",))]
    filled, _ = apply({"name": Secret("shop"), "password": "hush"})
    assert filled["name"] == Secret("shop")


def test_unknown_satisfies_every_rule_about_its_place_and_no_other() -> None:
    filled, faults = apply({"name": UNKNOWN, "password": UNKNOWN, "keys": [UNKNOWN, {"token": UNKNOWN}, {"id": 5}]})
    assert faults == [("REQUIRED", ("keys", "2", "token")), ("INVALID", ("keys", "2", "id"))]
    assert filled["name"] is UNKNOWN
    assert filled["password"] is UNKNOWN
    assert apply({"nam": UNKNOWN, "name": "shop", "password": "hush"})[1] == [("UNKNOWN_PROPERTY", ("nam",))]
    assert apply(UNKNOWN) == (UNKNOWN, [])


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"a": {"const": 2}}}]},
        {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}},
        {"not": {"properties": {"a": {"type": "null"}}}},
        {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}},
        {"properties": {"list": {"uniqueItems": True, "contains": {"const": 3}}}},
        {"enum": [{"a": 1}]},
    ],
)
def test_rules_that_an_unknown_may_still_fulfil_are_not_judged(schema: Any) -> None:
    assert apply({"a": UNKNOWN, "list": [UNKNOWN, UNKNOWN]}, schema)[1] == []


def test_sensitive_branches_count() -> None:
    schema = {"properties": {"auth": {"oneOf": [{"properties": {"key": {"writeOnly": True}}}, {"type": "string"}]}}}
    assert apply({"auth": {"key": "k"}}, schema) == ({"auth": {"key": Secret("k")}}, [])
    assert sensitive_paths(schema) == {("auth", "key")}
    assert sensitive_paths(SCHEMA) == {("password",), ("keys", "*", "token")}


@pytest.mark.parametrize("target", ["http://127.0.0.1:1/x", "file:///etc/passwd", "other.json"])
def test_nothing_is_fetched(target: str) -> None:
    assert [fault.code for fault in check_schema({"properties": {"a": {"$ref": target}}})] == ["INVALID"]
    filled, faults = apply_schema({"properties": {"a": {"$ref": target}}}, {"a": 1})
    assert [fault.code for fault in faults] == ["INVALID"]
    assert filled == {"a": 1}


def test_faults_of_a_schema_have_their_place() -> None:
    faults = check_schema({"properties": {"a": {"minimum": "x"}, "b": {"type": "strin"}}}, ("parameters",))
    assert {fault.path for fault in faults} == {
        ("parameters", "properties", "a", "minimum"),
        ("parameters", "properties", "b", "type"),
    }
    (fault,) = check_schema({"properties": {"b": {"pattern": "("}}})
    assert fault.path == ("properties", "b", "pattern")
    assert [fault.code for fault in check_schema([])] == ["TYPE_MISMATCH"]
    assert check_schema(SCHEMA) == []


def test_what_is_too_deep_never_reaches_the_validator() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert apply_schema({}, deep)[1][0].code == "LIMIT_EXCEEDED"
    assert check_schema(deep)[0].code == "LIMIT_EXCEEDED"
    # Taken apart here, for the interpreter would recurse.
    while deep:
        deep = deep.pop("a")


def test_references_that_multiply_are_refused() -> None:
    steps: dict[str, Any] = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(40)}
    schema = {"$ref": "#/$defs/s0", "$defs": {**steps, "s40": {}}}
    assert [fault.code for fault in check_schema(schema)] == ["LIMIT_EXCEEDED"]
    wide = {f"s{n}": {"properties": {k: {"$ref": f"#/$defs/s{n + 1}"} for k in "abc"}} for n in range(12)}
    with pytest.raises(LimitExceeded):
        sensitive_paths({"$ref": "#/$defs/s0", "$defs": {**wide, "s12": {"writeOnly": True}}})


def test_recursive_schemas_work_and_endless_defaults_are_refused() -> None:
    tree = {"properties": {"left": {"$ref": "#"}, "secret": {"writeOnly": True}}, "additionalProperties": False}
    assert check_schema(tree) == []
    filled, faults = apply({"left": {"left": {"secret": "x", "z": 1}}}, tree)
    assert filled == {"left": {"left": {"secret": Secret("x"), "z": 1}}}
    assert faults == [("UNKNOWN_PROPERTY", ("left", "left", "z"))]
    endless = {"properties": {"a": {"$ref": "#", "default": {}}}}
    assert apply({}, endless)[1] == [("LIMIT_EXCEEDED", ())]


@given(st.recursive(st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=10))
def test_depth_is_counted_exactly(tree: Any) -> None:
    def depth(node: Any) -> int:
        return 1 + max(map(depth, node), default=0) if isinstance(node, list) else 0

    found = depth(tree)
    assert not is_deeper(tree, found)
    assert found == 0 or is_deeper(tree, found - 1)


def test_what_becomes_of_nothing_is_everybodys_own() -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"list": {"default": [{"a": []}]}, "secret": {"default": "x", "writeOnly": True}},
    }
    first, _ = apply_schema(schema, {})
    first["list"][0]["a"].append(1)
    second, faults = apply_schema(schema, {})
    assert second == {"list": [{"a": []}], "secret": Secret("x")}
    assert [(fault.code, fault.path) for fault in faults] == [("REQUIRED", ("name",))]
