"""What resolvers are told and tell: a description, which `strawberry.field` has no type for, and the selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import strawberry
from graphql import GraphQLField
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.nodes import SelectedField, Selection

from app.db.pages import MAX_SIZE

_READS = "reads"
_LARGEST = "largest"
Resolver = TypeVar("Resolver", bound=Callable[..., Any])


def described(description: str, *, largest: int = MAX_SIZE) -> Callable[[Resolver], Resolver]:
    """`@strawberry.field(description=…)` for a resolver, as type checkers want to see it.

    `largest`: how many rows a page of it may have.
    """
    made = strawberry.field(description=description, metadata={_LARGEST: largest})
    return cast("Callable[[Resolver], Resolver]", made)


def computed(reads: str, description: str | None = None, *, largest: int = MAX_SIZE) -> Callable[[Resolver], Resolver]:
    """A field that Python works out, of the columns of its row that `reads` names; see schema.compiling.completing."""
    made = strawberry.field(description=description, metadata={_READS: tuple(reads.split()), _LARGEST: largest})
    return cast("Callable[[Resolver], Resolver]", made)


def largest_page(field: GraphQLField) -> int:
    """How many rows a page of the field may have."""
    defined = (field.extensions or {}).get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return MAX_SIZE if defined is None else int(defined.metadata.get(_LARGEST, MAX_SIZE))


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
