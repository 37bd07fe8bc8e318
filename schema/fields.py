"""A described resolver. `strawberry.field` has no type of its own once it is given a description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import strawberry

Resolver = TypeVar("Resolver", bound=Callable[..., Any])


def described(description: str) -> Callable[[Resolver], Resolver]:
    """`@strawberry.field(description=…)` for a resolver, as type checkers want to see it."""
    return cast("Callable[[Resolver], Resolver]", strawberry.field(description=description))
