"""JSON as clients send it: what is written twice is refused, because two readers would take each another of the two."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

_LONGEST_NAME: Final = 100
_END_OF_NAME: Final = re.compile(rb'"\s*:')


class Ambiguous(json.JSONDecodeError):
    """An object has two values under one name; `name` is the beginning of it."""

    def __init__(self, name: str) -> None:
        super().__init__("a name is given twice", "", 0)
        self.name = name[:_LONGEST_NAME]

    @property
    def message(self) -> str:
        """For whoever sent it."""
        return f"an object has two values under the name '{self.name}'"


def json_of(text: bytes | str) -> Any:
    """What the text says. Raises Ambiguous; another JSONDecodeError for what is no JSON."""
    found = orjson.loads(text)
    # Each name that is written ends so, and perhaps something in a text does, too: as many as were kept are no more.
    if len(_END_OF_NAME.findall(text if isinstance(text, bytes) else text.encode())) == _names_in(found):
        return found
    try:
        _LOOKING.decode(text if isinstance(text, str) else text.decode())
    except RecursionError as error:
        # As deep as orjson goes, and deeper than the stack.
        message = "nested too deeply"
        raise json.JSONDecodeError(message, "", 0) from error
    return found


def _names_in(value: Any) -> int:
    waiting, names = [value], 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            names += len(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return names


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = set[str]()
    for name, _ in pairs:
        if name in names:
            raise Ambiguous(name)
        names.add(name)


# Reads all of it again, and keeps nothing: orjson, whose values are taken, lets the last of two win.
# Numbers may be longer than Python reads them.
_LOOKING: Final = json.JSONDecoder(object_pairs_hook=_once, parse_int=len, parse_float=len)
