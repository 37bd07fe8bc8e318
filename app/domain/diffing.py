"""What has to change so that a resource has its declared properties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.domain.enums import ChangeAction
from app.domain.errors import Path
from app.domain.values import UNKNOWN, Secret, Value, is_known, reveal, secrets_in


@dataclass(frozen=True, slots=True)
class PropertyChange:
    """One property that changes. `before` and `after` are None where the property is absent.

    A sensitive value travels as a Secret, so that showing the change cannot show the value.
    """

    path: Path
    before: Value
    after: Value
    after_unknown: bool = False
    sensitive: bool = False
    forces_replacement: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """The action that leads from the prior properties to the desired ones, and each change it makes."""

    action: ChangeAction
    changes: tuple[PropertyChange, ...] = ()

    @property
    def paths(self) -> frozenset[Path]:
        """The paths of all changes."""
        return frozenset(change.path for change in self.changes)

    def touches(self, name: str) -> bool:
        """Whether anything at or below the top-level property `name` changes."""
        return any(change.path[:1] == (name,) for change in self.changes)


def compare(
    prior: Mapping[str, Value] | None,
    desired: Mapping[str, Value],
    create_only: frozenset[str] = frozenset(),
    secret: frozenset[str] = frozenset(),
    *,
    unknown_forces: bool = False,
) -> Difference:
    """The difference between two sets of properties.

    `prior` is None when the resource does not exist. `create_only` and `secret` hold JSON pointers ("/a/b"); a pointer
    covers everything below it. Lists are compared as whole values, an absent property equals null. An UNKNOWN always
    counts as a change; in a create-only place it forces replacement only with `unknown_forces`, which the planner sets
    when the source of the value is itself being replaced.
    """
    fixed = tuple(split_pointer(pointer) for pointer in create_only)
    hidden = tuple(split_pointer(pointer) for pointer in secret)
    changes = []
    for path, before, after in _pairs((), {} if prior is None else prior, desired):
        unknown = not is_known(after)
        if not unknown and same(before, after):
            continue
        sensitive = _covered(path, hidden) or _holds_secret(before) or _holds_secret(after)
        forces = prior is not None and _covered(path, fixed) and (not unknown or unknown_forces)
        changes.append(
            PropertyChange(
                path=path,
                before=_hidden(before) if sensitive else before,
                after=_hidden(after) if sensitive else after,
                after_unknown=unknown,
                sensitive=sensitive,
                forces_replacement=forces,
            )
        )
    return Difference(_action(prior is None, changes), tuple(changes))


def split_pointer(pointer: str) -> Path:
    """The path that a JSON pointer names; the empty pointer names the root."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def same(left: Value, right: Value) -> bool:
    """Equality of JSON values, whether or not they are Secrets: 1 equals 1.0, but true is not 1."""
    left, right = reveal(left), reveal(right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return all(same(left.get(key), right.get(key)) for key in {*left, *right})
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def _action(absent: bool, changes: list[PropertyChange]) -> ChangeAction:
    if absent:
        return ChangeAction.CREATE
    if any(change.forces_replacement for change in changes):
        return ChangeAction.REPLACE
    return ChangeAction.UPDATE if changes else ChangeAction.NO_CHANGE


def _pairs(path: Path, before: Value, after: Value) -> Iterator[tuple[Path, Value, Value]]:
    """Both values of every place that can differ: down to scalars and lists, in the order in which they are written."""
    inner_before = before if isinstance(before, Mapping) else {} if before is None else None
    inner_after = after if isinstance(after, Mapping) else {} if after is None else None
    if inner_before is None or inner_after is None or not (inner_before or inner_after):
        yield path, before, after
        return
    inner = [
        pair
        for key in dict.fromkeys((*inner_after, *inner_before))
        for pair in _pairs((*path, key), inner_before.get(key), inner_after.get(key))
    ]
    if (before is None or after is None) and all(is_known(new) and same(old, new) for _, old, new in inner):
        # An object that comes or goes with nothing but nulls in it is a change all the same.
        yield path, before, after
        return
    yield from inner


def _covered(path: Path, pointers: tuple[Path, ...]) -> bool:
    """Whether a pointer leads to the path, above it, or below it (then the change contains what the pointer names)."""
    return any(path[: len(pointer)] == pointer[: len(path)] for pointer in pointers)


def _holds_secret(value: Value) -> bool:
    return bool(secrets_in(value))


def _hidden(value: Value) -> Value:
    if value is None or value is UNKNOWN or isinstance(value, Secret):
        return value
    return Secret(reveal(value))
