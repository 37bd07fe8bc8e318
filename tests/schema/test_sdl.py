"""The printed contract, and what clients need of it."""

from __future__ import annotations

from collections import defaultdict

import pytest
from graphql import GraphQLInterfaceType, GraphQLSchema, GraphQLUnionType, build_schema, validate_schema

from schema.printing import PATH, printed
from schema.requirements import Undeclared, declare

# `status` and `type` of two nouns differ by nature; a client that fetches several nouns by id names them apart.
APART_BY_NATURE = {"Node", "Entity"}


def schema() -> GraphQLSchema:
    return build_schema(printed())


def test_the_committed_schema_is_the_one_that_is_served() -> None:
    assert PATH.read_text() == printed(), "run `python -m schema.printing`"


def test_a_field_that_nobody_has_thought_about_is_not_built() -> None:
    for root, text in (
        ("Query", "type Query { secrets: Int }"),
        ("Mutation", "type Query { viewer: Int } type Mutation { x: Int }"),
    ):
        with pytest.raises(Undeclared, match=rf"{root}\.(secrets|x)"):
            declare(build_schema(text))


def test_the_schema_is_valid() -> None:
    assert validate_schema(schema()) == []


def test_fields_of_one_abstract_type_can_be_selected_together() -> None:
    """Two members with a field of one name and two types could never stand in one selection."""
    found = schema()
    conflicts: dict[str, dict[str, set[str]]] = {}
    for kind in found.type_map.values():
        if not isinstance(kind, (GraphQLInterfaceType, GraphQLUnionType)) or kind.name in APART_BY_NATURE:
            continue
        types: dict[str, set[str]] = defaultdict(set)
        for member in found.get_possible_types(kind):
            for name, field in member.fields.items():
                types[name].add(str(field.type))
        clashing = {name: seen for name, seen in types.items() if len(seen) > 1}
        if clashing:
            conflicts[kind.name] = clashing
    assert conflicts == {}


def test_every_enum_that_is_stored_has_the_names_that_are_stored() -> None:
    from app.domain import enums, statuses

    served = {kind.name: set(getattr(kind, "values", ())) for kind in schema().type_map.values()}
    for enum in (enums.StepType, enums.WorkflowType, enums.PlanType, enums.JobType, statuses.PlanStatus):
        assert served[enum.__name__] == {member.value for member in enum}
