"""What no input may hold, because it could not be kept, or not be shown again."""

from __future__ import annotations

import dataclasses
from typing import Any

from strawberry.utils.str_converters import to_camel_case

from app.domain.errors import Path
from app.domain.keeping import fault_of


def check(given: Any) -> None:
    """Look at a mutation's input, whatever is in it. Raises Invalid or LimitExceeded with the path of the fault."""
    waiting: list[tuple[Any, Path]] = [(given, ())]
    while waiting:
        value, path = waiting.pop()
        fault = fault_of(value, path)
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
