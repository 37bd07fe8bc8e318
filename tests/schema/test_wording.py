"""What is said of variables is said in their own notation."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import GraphQLError, build_schema, graphql_sync

from schema.wording import reword

SCHEMA = build_schema("""
  input Inner { number: Int! flag: Boolean }
  input Given { name: String! list: [Inner!] kind: Kind moment: Int }
  enum Kind { A B }
  type Query { look(given: Given!): Int }
""")


def said(given: Any) -> list[str]:
    variables = {"given": given}
    result = graphql_sync(SCHEMA, "query ($given: Given!) { look(given: $given) }", variable_values=variables)
    errors = result.errors or []
    reword(errors, variables)
    return [error.message.removeprefix("Variable '$given' has invalid value") for error in errors]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, ": Expected value of non-null type 'Given!' not to be null."),
        (True, ": Expected value of type 'Given' to be an object, found: true."),
        (
            {"kind": None, "list": [], "moment": 5},
            (
                ": Expected value of type 'Given' to include required field 'name', found:"
                ' {"kind":null,"list":[],"moment":5}.'
            ),
        ),
        ({"name": None}, " at .name: Expected value of non-null type 'String!' not to be null."),
        ({"name": ["it's"]}, ' at .name: String cannot represent a non string value: ["it\'s"]'),
        (
            {"name": "a", "list": [{"number": 1}, {"flag": False}]},
            " at .list[1]: Expected value of type 'Inner' to include required field 'number', found: {\"flag\":false}.",
        ),
        (
            {"name": "a", "kind": "C"},
            " at .kind: Value \"C\" does not exist in 'Kind' enum. Did you mean the enum value",
        ),
        (
            {"name": "a", "list": {"flag": True}},
            " at .list: Expected value of type 'Inner' to include required field 'number', found: {\"flag\":true}.",
        ),
        (
            {"name": "a", "nam": 1},
            (
                ": Expected value of type 'Given' not to include unknown field 'nam'. Did you mean 'name'? Found:"
                ' {"name":"a","nam":1}.'
            ),
        ),
    ],
)
def test_a_value_is_shown_as_it_was_sent(given: Any, message: str) -> None:
    (found,) = said(given)
    assert found.startswith(message)


def test_of_a_large_value_the_beginning_is_enough() -> None:
    (found,) = said({"list": [{"number": number} for number in range(1000)], "moment": 1})
    assert found.endswith("….")
    assert len(found) < 300


def test_what_is_not_about_a_variable_stays() -> None:
    error = GraphQLError("Expected {'a': None}")
    reword([error], {"a": None})
    assert error.message == "Expected {'a': None}"
