"""Finds the name that somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The most similar of the known names, if one is similar at all."""
    # Compared without case: parameters are often written in another convention, not with another word.
    by_folded = {candidate.casefold(): candidate for candidate in reversed(list(known))}
    found = difflib.get_close_matches(name.casefold(), list(reversed(by_folded)), n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def hint(suggestion: str | None) -> str:
    """The end of a message about an unknown name; empty without a suggestion."""
    return f"; did you mean '{suggestion}'?" if suggestion else ""
