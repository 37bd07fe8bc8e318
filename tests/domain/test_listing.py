"""What a watched list tells is enough to have it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.domain.listing import Change, Entry, ListOp, changes

_LISTS = st.lists(st.builds(Entry, st.integers(1, 12), st.tuples(st.integers(1, 3))), unique_by=lambda entry: entry.id)


def applied(before: Sequence[Entry], told: Sequence[Change], after: Sequence[Entry]) -> list[Entry]:
    """What somebody has who applies what the schema's description says, and reads new rows from what comes along."""
    named = {change.id for change in told}
    kept = [entry for entry in before if entry.id not in named]
    rows = {entry.id: entry for entry in after}
    for change in told:
        if change.position is not None:
            kept.insert(change.position, rows[change.id])
    return kept


@given(_LISTS, _LISTS)
def test_whoever_applies_the_changes_has_the_list(before: list[Entry], after: list[Entry]) -> None:
    told = changes(before, after)
    assert applied(before, told, after) == after
    there = {entry.id for entry in before}
    assert {change.id for change in told if change.op is ListOp.LEAVE} == there - {entry.id for entry in after}
    assert all((change.op is ListOp.ENTER) == (change.id not in there) for change in told)


@given(_LISTS)
def test_nothing_is_told_of_what_is_the_same(same: list[Entry]) -> None:
    assert changes(same, same) == []


def test_one_that_moved_does_not_take_the_others_along() -> None:
    before = [Entry(number, (1,)) for number in (1, 2, 3)]
    after = [Entry(2, (1,)), Entry(3, (1,)), Entry(1, (2,))]
    assert changes(before, after) == [Change(ListOp.UPDATE, 1, 2)]
