"""JSON as clients send it: what is written twice is refused, because two readers would take each another of the two.

What no reader could take is told apart from what is no JSON: a number that is too large, a text that is no Unicode.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from app.characters import half_in
from app.domain.errors import Path

_LONGEST_NAME: Final = 100
_END_OF_NAME: Final = re.compile(rb'"\s*:')


class Unreadable(json.JSONDecodeError):
    """JSON, or nearly, that is not taken. `message` is for whoever sent it, `path` leads to the fault in it."""

    def __init__(self, message: str, path: Path = ()) -> None:
        super().__init__(message, "", 0)
        self.message, self.path = message, path


class Ambiguous(Unreadable):
    """An object has two values under one name; `name` is the beginning of it."""

    def __init__(self, name: str) -> None:
        self.name = name[:_LONGEST_NAME]
        super().__init__(f"an object has two values under the name '{self.name}'")


def json_of(text: bytes | str) -> Any:
    """What the text says. Raises Ambiguous or Unreadable; another JSONDecodeError for what is no JSON."""
    found = loaded(text)
    # Each name that is written ends so, and perhaps something in a text does, too: as many as were kept are no more.
    if _ends_of_names(text if isinstance(text, bytes) else text.encode()) == _names_in(found):
        return found
    try:
        _LOOKING.decode(text if isinstance(text, str) else text.decode())
    except RecursionError as error:
        # As deep as orjson goes, and deeper than the stack.
        message = "nested too deeply"
        raise json.JSONDecodeError(message, "", 0) from error
    return found


def loaded(text: bytes | str) -> Any:
    """The same, the last of two values under one name winning. Raises Unreadable; another JSONDecodeError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fault = _fault_of(text)
        if fault is None:
            raise
        raise fault from error


class _TooLarge:
    """Stands for a number that no reader could take."""


def _fault_of(text: bytes | str) -> Unreadable | None:
    """What makes JSON unreadable; None for what is no JSON."""
    try:
        found = _READING.decode(text if isinstance(text, str) else text.decode())
    except UnicodeDecodeError as error:
        return Unreadable(f"the text is not UTF-8 at byte {error.start}")
    except (ValueError, RecursionError):
        return None
    return next(_faults_in(found), None)


def _faults_in(document: Any) -> Iterator[Unreadable]:
    # Each place is its name and the place around it: whole paths of many leaves, deep down, would be large.
    waiting: list[tuple[Any, Any]] = [(document, None)]
    while waiting:
        value, place = waiting.pop()
        if value is _TooLarge:
            path = _path_to(place)
            yield Unreadable(f"the number{_at(path)} is too large", path)
        elif isinstance(value, (str, dict)):
            for half in filter(None, map(half_in, value if isinstance(value, dict) else (value,))):
                path = _path_to(place)
                yield Unreadable(f"the text{_at(path)} is not valid Unicode: {half} is half of a character", path)
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(item, (name, place)) for name, item in items][::-1]


def _path_to(place: Any) -> Path:
    names: list[str] = []
    while place is not None:
        name, place = place
        names.append(str(name)[:_LONGEST_NAME])
    return tuple(reversed(names))


def _at(path: Path) -> str:
    return f" at {'.'.join(path)}" if path else ""


def _ends_of_names(text: bytes) -> int:
    if b'" ' in text or b'"\n' in text or b'"\r' in text or b'"\t' in text:
        return len(_END_OF_NAME.findall(text))
    # As most clients write them.
    return text.count(b'":')


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


def _number(text: str) -> Any:
    return _TooLarge if abs(float(text)) == float("inf") else None


def _no_constant(text: str) -> None:
    # NaN and its like are Python's, and nobody else's.
    raise ValueError(text)


# Reads all of it again, and keeps nothing: orjson, whose values are taken, lets the last of two win.
# Numbers may be longer than Python reads them.
_LOOKING: Final = json.JSONDecoder(object_pairs_hook=_once, parse_int=len, parse_float=len)
# Keeps what orjson stumbles over.
_READING: Final = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_no_constant)
