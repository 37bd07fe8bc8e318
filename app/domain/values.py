"""Two values that JSON does not have: one that is not known yet, and one that may not be shown.

Both travel through expressions and documents like any other value. UNKNOWN stands for what only the provider will
know (an output of a resource that does not exist yet). A Secret keeps its value out of every repr, event, log,
preview and diff; whatever is computed from a Secret is a Secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

JsonScalar = str | int | float | bool | None
# A JSON value, with UNKNOWN and Secret allowed at any place.
Value = Any


class Unknown(Enum):
    """The type of UNKNOWN; an enum so that type checkers can tell it from every other value."""

    UNKNOWN = "UNKNOWN"

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        message = "an unknown value is neither true nor false"
        raise TypeError(message)


UNKNOWN: Final[Literal[Unknown.UNKNOWN]] = Unknown.UNKNOWN


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that may be used but never shown. Equal to another Secret of the same value."""

    value: Value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


def reveal(value: Value) -> Value:
    """The tree with every Secret replaced by what it hides: for a provider call, never for storage or display."""
    return transform(value, lambda leaf: leaf.value if isinstance(leaf, Secret) else leaf)


def redact(value: Value) -> Value:
    """The tree as anyone may see it: a Secret becomes {"$sensitive": true}, UNKNOWN {"$unknown": true}."""

    def shown(leaf: Value) -> Value:
        if isinstance(leaf, Secret):
            return {"$sensitive": True}
        if leaf is UNKNOWN:
            return {"$unknown": True}
        return leaf

    return transform(value, shown)


def transform(value: Value, change: Callable[[Value], Value]) -> Value:
    """The tree with `change` applied to every leaf (everything that is neither mapping nor list)."""
    if isinstance(value, (dict, Mapping)):
        return {key: transform(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [transform(item, change) for item in value]
    return change(value)


def leaves(value: Value, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Value]]:
    """Every leaf with its path; list positions as decimal strings."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from leaves(item, (*path, str(position)))
    else:
        yield path, value


# Leaves as JSON has them.
PLAIN = frozenset({str, int, float, bool, type(None)})


def branches(value: Value) -> list[Value]:
    """All of the tree but its plain leaves: itself, its mappings and lists, and leaves that JSON does not have.

    Apart from `leaves`, because it is asked for each step that is run.
    """
    found = [value]
    for item in found:
        if isinstance(item, (dict, Mapping)):
            inside: Any = item.values()
        elif isinstance(item, (list, tuple)):
            inside = item
        else:
            continue
        for inner in inside:
            # To ask an abstract class whether it means a leaf takes longer than all the rest.
            if type(inner) not in PLAIN:
                found.append(inner)  # noqa: PERF401  it is the list that is gone through; a generator takes as long again
    return found


def secrets_in(value: Value) -> list[Secret]:
    """Every Secret of the tree."""
    return [item for item in branches(value) if isinstance(item, Secret)]


def is_known(value: Value) -> bool:
    """Whether no UNKNOWN is anywhere in the tree."""
    return all(leaf is not UNKNOWN for _, leaf in leaves(value))
