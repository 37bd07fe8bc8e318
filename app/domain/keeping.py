"""What no value from outside may hold, because it could not be kept, or not be shown again."""

from __future__ import annotations

import math
from typing import Any

from app.characters import half_in
from app.domain.errors import DomainError, Invalid, LimitExceeded, Path

# An answer has levels of its own around a document, and the writer of JSON gives up at 254.
MAX_DEPTH = 200
_LEAST, _MOST = -(2**63), 2**64 - 1
_RESERVED = "$sealed"


def fault_of(value: Any, path: Path) -> DomainError | None:
    """What is wrong with `value` itself, whatever it holds."""
    if len(path) > MAX_DEPTH:
        message = f"{path[0]} may be {MAX_DEPTH} levels deep"
        return LimitExceeded(message, path=path[:1])
    texts = (value,) if isinstance(value, str) else value if isinstance(value, dict) else ()
    if any("\0" in text for text in texts):
        return Invalid("text may not contain the character U+0000", path=path)
    half = next(filter(None, map(half_in, texts)), None)
    if half is not None:
        return Invalid(f"text may not contain {half}, which is half of a character", path=path)
    if isinstance(value, dict) and _RESERVED in value:
        return Invalid(f"'{_RESERVED}' is how secrets are kept, and cannot be given", path=path)
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        return Invalid("a whole number has at most 64 bits", path=path)
    if isinstance(value, float) and not math.isfinite(value):
        return Invalid("a number has to be finite", path=path)
    return None


def first_fault(document: Any, path: Path) -> DomainError | None:
    """What is wrong with a JSON document, or None."""
    waiting: list[tuple[Any, Path]] = [(document, path)]
    while waiting:
        value, here = waiting.pop()
        fault = fault_of(value, here)
        if fault is not None:
            return fault
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting.extend((item, (*here, str(name))) for name, item in items)
    return None
