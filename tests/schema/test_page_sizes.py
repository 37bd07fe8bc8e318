"""How large a page may be, said alike wherever it is found out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from graphql import build_schema, parse

from schema import root
from schema.fields import largest_page
from schema.limits import refusals

SCHEMA = build_schema("type Thing { name: String }  type Query { things(first: Int! = 7, last: Int): [Thing] }")


@pytest.mark.parametrize(
    ("asked", "message", "code"),
    [
        ("99999999999999999999", "first is at most 100", "LIMIT_EXCEEDED"),
        ("99999999999", "first is at most 100", "LIMIT_EXCEEDED"),
        ("10001", "first is at most 100", "LIMIT_EXCEEDED"),
        ("9" * 5000, "first is at most 100", "LIMIT_EXCEEDED"),
        ("-99999999999999999999", "first cannot be negative", "INVALID"),
        ("-2147483649", "first cannot be negative", "INVALID"),
    ],
)
def test_a_page_far_beyond_all_lists_is_refused_as_the_lists_do(asked: str, message: str, code: str) -> None:
    text = f"{{ things(first: {asked}) {{ name }} }}"
    variable = "query ($n: Int) { things(first: $n) { name } }"
    given: list[Any] = [orjson.loads(asked)] if len(asked) < 300 else []
    found = [refusals(SCHEMA, parse(text), text, {})]
    found += [refusals(SCHEMA, parse(variable), variable, {"n": number}) for number in given]
    for (error,) in found:
        assert (error.message, error.extensions) == (message, {"code": code, "path": ["first"]})
        assert error.locations


def test_what_is_no_page_of_ours_is_left_to_those_who_know_better() -> None:
    for asked in ("10000", "-2147483648", "1.5", '"x"', "true"):
        text = f"{{ things(first: {asked}) {{ name }} }}"
        assert refusals(SCHEMA, parse(text), text, {}) == []
    text = "query ($n: Int) { things(first: $n) { name } }"
    for number in (1.5, True, "x", None, float("inf")):
        assert refusals(SCHEMA, parse(text), text, {"n": number}) == []


def test_each_list_says_how_large_its_pages_may_be() -> None:
    schema = root.build_schema()._schema
    found = {
        (kind, field): largest_page(schema.type_map[kind].fields[field])  # type: ignore[attr-defined]
        for kind, field in (
            ("Query", "deploymentPlans"), ("OrchestrationJob", "logs"), ("OrchestrationJob", "events"),
            ("DeploymentPlan", "events"), ("DeploymentPlan", "jobs"),
        )
    }  # fmt: skip
    assert list(found.values()) == [100, 500, 500, 500, 100]
