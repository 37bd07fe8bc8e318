"""Characters that no name may hold: they steer the terminal of whoever reads it, or cannot be written at all."""

from __future__ import annotations

import re
from typing import Final

# C0, DEL and C1; what ends a line, or turns the direction of what follows it, in any terminal or page; and halves of
# surrogate pairs, which no encoding of Unicode has.
_TURNS: Final = "\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
_CONTROL: Final = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{_TURNS}]")
_CONTROL_OF_LINES: Final = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{_TURNS}]")
_HALVES: Final = re.compile("[\ud800-\udfff]")


def control_in(text: str) -> str | None:
    """The first of them, as U+001B; None where there is none."""
    found = _CONTROL.search(text)
    return None if found is None else _code_point(found)


def half_in(text: str) -> str | None:
    """The first half of a surrogate pair without the other, as U+D800."""
    found = _HALVES.search(text)
    return None if found is None else _code_point(found)


def spelled(text: str, *, lines: bool = False) -> str:
    """The text with each of them spelled out as JSON does; with `lines`, new lines and tabs stay."""
    return (_CONTROL_OF_LINES if lines else _CONTROL).sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _code_point(found: re.Match[str]) -> str:
    return f"U+{ord(found.group()):04X}"
