"""What no input may hold, because it could not be kept, or not be shown again."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from strawberry.utils.str_converters import to_camel_case

from app.domain.errors import DomainError, Invalid, LimitExceeded, Path

# An answer has levels of its own around a document, and the writer of JSON gives up at 254.
MAX_DEPTH = 200
_LEAST, _MOST = -(2**63), 2**64 - 1
_RESERVED = "$sealed"


def check(given: Any) -> None:
    """Look at a mutation's input, whatever is in it. Raises Invalid or LimitExceeded with the path of the fault."""
    waiting: list[tuple[Any, Path]] = [(given, ())]
    while waiting:
        value, path = waiting.pop()
        fault = _fault(value, path)
        if fault is not None:
            raise fault
        waiting.extend((item, (*path, name)) for name, item in _inside(value))


def _inside(value: Any) -> list[tuple[str, Any]]:
    """What a value holds, the last first."""
    found: list[tuple[str, Any]] = []
    if dataclasses.is_dataclass(value):
        found = [(to_camel_case(field.name), getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, dict):
        found = list(value.items())
    elif isinstance(value, (list, tuple)):
        found = [(str(position), item) for position, item in enumerate(value)]
    return found[::-1]


def _fault(value: Any, path: Path) -> DomainError | None:
    if len(path) > MAX_DEPTH:
        message = f"{path[0]} may be {MAX_DEPTH} levels deep"
        return LimitExceeded(message, path=path[:1])
    texts = (value,) if isinstance(value, str) else value if isinstance(value, dict) else ()
    if any("\0" in text for text in texts):
        return Invalid("text may not contain the character U+0000", path=path)
    if isinstance(value, dict) and _RESERVED in value:
        return Invalid(f"'{_RESERVED}' is how secrets are kept, and cannot be given", path=path)
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        return Invalid("a whole number has at most 64 bits", path=path)
    if isinstance(value, float) and not math.isfinite(value):
        return Invalid("a number has to be finite", path=path)
    return None
