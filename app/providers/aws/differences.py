"""Reasons of AWS's own to replace a thing, or not to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.domain.diffing import Difference
from app.domain.enums import ChangeAction
from app.domain.values import is_known


def moved(prior: Mapping[str, Any] | None, desired: Mapping[str, Any], name: str, *, unknown_forces: bool) -> bool:
    """Whether none of the things in the list `name` stays: they are in another network, and so must be what is in it.

    What is not known yet counts as another when its source is being replaced.
    """
    before, after = (prior or {}).get(name), desired.get(name)
    if not before or not isinstance(after, list):
        return False
    if not all(is_known(item) for item in after):
        return unknown_forces and not any(item in before for item in after if is_known(item))
    return bool(after) and not any(item in before for item in after)


def elsewhere(difference: Difference, name: str) -> Difference:
    """The difference where a change of the property `name` needs a replacement after all."""
    changes = tuple(
        replace(change, forces_replacement=True) if change.path[:1] == (name,) else change
        for change in difference.changes
    )
    return Difference(ChangeAction.REPLACE, changes)


def in_place(difference: Difference, name: str) -> Difference:
    """The difference where a change of the property `name` needs no replacement after all."""
    changes = tuple(
        replace(change, forces_replacement=False) if change.path[:1] == (name,) else change
        for change in difference.changes
    )
    still = any(change.forces_replacement for change in changes)
    if difference.action is not ChangeAction.REPLACE or still:
        return Difference(difference.action, changes)
    return Difference(ChangeAction.UPDATE, changes)
