from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.diffing import compare, same, split_pointer
from app.domain.enums import ChangeAction
from app.domain.values import UNKNOWN, Secret, redact

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner))
OBJECTS = st.dictionaries(st.text(min_size=1, max_size=2), VALUES, max_size=4)


def test_no_prior_is_a_creation_that_lists_every_property() -> None:
    difference = compare(None, {"name": "a", "size": {"disk": 3}}, frozenset({"/name"}))
    assert difference.action is ChangeAction.CREATE
    assert difference.paths == {("name",), ("size", "disk")}
    assert not any(change.forces_replacement for change in difference.changes)


def test_a_change_below_is_named_by_its_path() -> None:
    (change,) = compare({"size": {"disk": 3, "memory": 1}}, {"size": {"disk": 4, "memory": 1}}).changes
    assert (change.path, change.before, change.after) == (("size", "disk"), 3, 4)


def test_a_removed_property_changes_to_null_and_an_absent_one_equals_null() -> None:
    (change,) = compare({"a": 1, "b": None}, {}).changes
    assert (change.path, change.before, change.after) == (("a",), 1, None)


@pytest.mark.parametrize("pointer", ["/network", "/network/subnet"])
def test_a_create_only_change_forces_replacement_wherever_the_pointer_ends(pointer: str) -> None:
    prior, desired = {"network": {"subnet": "a"}}, {"network": {"subnet": "b"}}
    assert compare(prior, desired, frozenset({pointer})).action is ChangeAction.REPLACE
    assert compare(prior, {}, frozenset({pointer})).action is ChangeAction.REPLACE
    assert compare(prior, desired, frozenset({"/network/other"})).action is ChangeAction.UPDATE


def test_an_unknown_forces_replacement_only_when_its_source_is_replaced() -> None:
    prior, desired, fixed = {"vpc": "v1"}, {"vpc": UNKNOWN}, frozenset({"/vpc"})
    kept = compare(prior, desired, fixed)
    assert (kept.action, kept.changes[0].after_unknown) == (ChangeAction.UPDATE, True)
    assert compare(prior, desired, fixed, unknown_forces=True).action is ChangeAction.REPLACE


def test_an_unknown_inside_a_list_makes_the_list_unknown() -> None:
    (change,) = compare({"ids": [1]}, {"ids": [UNKNOWN]}).changes
    assert change.after_unknown


def test_secrets_are_compared_by_value_and_never_shown() -> None:
    assert compare({"p": "x"}, {"p": Secret("x")}, secret=frozenset({"/p"})).action is ChangeAction.NO_CHANGE
    (change,) = compare({"p": "old"}, {"p": "new"}, secret=frozenset({"/p"})).changes
    assert change.sensitive
    assert "old" not in repr(change)
    assert redact(change.after) == {"$sensitive": True}


def test_a_list_that_holds_a_secret_is_sensitive_as_a_whole() -> None:
    (change,) = compare({"keys": []}, {"keys": [{"value": Secret("s3cret")}]}).changes
    assert change.sensitive
    assert "s3cret" not in repr(change)


def test_lists_are_whole_values() -> None:
    (change,) = compare({"items": [1, 2]}, {"items": [2, 1]}).changes
    assert change.path == ("items",)


def test_json_knows_one_kind_of_number_and_true_is_none() -> None:
    assert same(1, 1.0)
    assert not same(1, True)
    assert not same([0], [False])


def test_pointers_unescape() -> None:
    assert split_pointer("/a~1b/c~0d") == ("a/b", "c~d")
    assert split_pointer("") == ()


@given(OBJECTS)
def test_nothing_differs_from_itself(value: dict[str, Any]) -> None:
    assert compare(value, value).action is ChangeAction.NO_CHANGE


@given(OBJECTS, OBJECTS)
def test_the_changes_lead_from_the_prior_to_the_desired(prior: dict[str, Any], desired: dict[str, Any]) -> None:
    """Applied to the prior value, the changes give the desired one; there is a change exactly if both differ."""
    difference = compare(prior, desired)
    result: Any = prior
    for change in difference.changes:
        result = _with(result, change.path, change.after)
    assert same(_without_nulls(result), _without_nulls(desired))
    assert (difference.action is ChangeAction.NO_CHANGE) == same(prior, desired)


def _with(value: Any, path: tuple[str, ...], item: Any) -> Any:
    if not path:
        return item
    inner = value if isinstance(value, dict) else {}
    return {**inner, path[0]: _with(inner.get(path[0]), path[1:], item)}


def _without_nulls(value: Any) -> Any:
    """Absent and null are the same, and so is an object that holds nothing else."""
    if not isinstance(value, dict):
        return value
    kept = {key: _without_nulls(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item is not None} or None


def test_an_object_of_nothing_but_nulls_is_not_nothing() -> None:
    assert [change.path for change in compare({}, {"a": {"b": None}}).changes] == [("a",)]
