"""What resolvers are told and tell: a description, which `strawberry.field` has no type for, and the selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import strawberry
from strawberry.types.nodes import SelectedField, Selection

Resolver = TypeVar("Resolver", bound=Callable[..., Any])


def described(description: str) -> Callable[[Resolver], Resolver]:
    """`@strawberry.field(description=…)` for a resolver, as type checkers want to see it."""
    return cast("Callable[[Resolver], Resolver]", strawberry.field(description=description))


def selects(info: strawberry.Info[Any, Any], name: str) -> bool:
    """Whether the operation asks for the field `name` of what this resolver returns, directly or by fragments."""
    return any(_has(field.selections, name) for field in info.selected_fields)


def _has(selections: Iterable[Selection], name: str) -> bool:
    return any(
        selection.name == name if isinstance(selection, SelectedField) else _has(selection.selections, name)
        for selection in selections
    )
