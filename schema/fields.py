"""What resolvers are told and tell: a description, which `strawberry.field` has no type for, and the selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import strawberry
from graphql import GraphQLField
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.nodes import SelectedField, Selection

_READS = "reads"
Resolver = TypeVar("Resolver", bound=Callable[..., Any])


def described(description: str) -> Callable[[Resolver], Resolver]:
    """`@strawberry.field(description=…)` for a resolver, as type checkers want to see it."""
    return cast("Callable[[Resolver], Resolver]", strawberry.field(description=description))


def computed(reads: str, description: str | None = None) -> Callable[[Resolver], Resolver]:
    """A field that Python works out, of the columns of its row that `reads` names; see schema.compiling.completing."""
    made = strawberry.field(description=description, metadata={_READS: tuple(reads.split())})
    return cast("Callable[[Resolver], Resolver]", made)


def reads_of(field: GraphQLField) -> tuple[str, ...] | None:
    """What a computed field reads of its row; None for a field of another kind."""
    defined = (field.extensions or {}).get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return None if defined is None else defined.metadata.get(_READS)


def selects(info: strawberry.Info[Any, Any], name: str) -> bool:
    """Whether the operation asks for the field `name` of what this resolver returns, directly or by fragments."""
    return any(_has(field.selections, name) for field in info.selected_fields)


def _has(selections: Iterable[Selection], name: str) -> bool:
    return any(
        selection.name == name if isinstance(selection, SelectedField) else _has(selection.selections, name)
        for selection in selections
    )
