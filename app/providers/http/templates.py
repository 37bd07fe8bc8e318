"""Requests as they are written down, with places to fill in; and JSON pointers into what is answered.

A place is `{id}`, `{operation}`, `{owner}`, `{mark}`, `{fields.name}`, `{secretFields.name}` or `{outputs.name}`. A
text that is nothing but a place becomes its value, of whatever type; in a longer text, and in a path, a place holds a
scalar. Braces around anything else are just braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from app.domain.diffing import split_pointer
from app.domain.values import transform
from app.providers.base import ErrorKind, ProviderError

ABSENT = object()
_PLACE = re.compile(r"\{((?:id|operation|owner|mark|fields|secretFields|outputs)(?:\.[A-Za-z0-9_-]+)*)\}")


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """The JSON value `template` with its places filled in. Raises ProviderError INVALID for a place without value."""

    def fill(leaf: Any) -> Any:
        if not isinstance(leaf, str):
            return leaf
        whole = _PLACE.fullmatch(leaf)
        if whole:
            return _value(whole[1], values)
        return _PLACE.sub(lambda found: _scalar(found[1], values), leaf)

    return transform(template, fill)


def filled_path(template: str, values: Mapping[str, Any]) -> str:
    """A path with its places filled in, each as one segment at most: what is filled in cannot lead elsewhere."""

    def segment(found: re.Match[str]) -> str:
        text = _scalar(found[1], values)
        if text in {"", ".", ".."}:
            message = f"{found[0]} is {text!r}, which is no part of a path"
            raise ProviderError(ErrorKind.INVALID, message)
        return quote(text, safe="")

    return _PLACE.sub(segment, template)


def places(template: Any) -> frozenset[str]:
    """The places in a template, as `id` or `fields.name`."""
    found: set[str] = set()

    def note(leaf: Any) -> Any:
        if isinstance(leaf, str):
            found.update(_PLACE.findall(leaf))
        return leaf

    transform(template, note)
    return frozenset(found)


def pointed(document: Any, pointer: str) -> Any:
    """What a JSON pointer leads to; ABSENT where it leads nowhere."""
    for step in split_pointer(pointer):
        if isinstance(document, Mapping) and step in document:
            document = document[step]
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return ABSENT
    return document


def _value(place: str, values: Mapping[str, Any]) -> Any:
    found: Any = values
    for name in place.split("."):
        if not isinstance(found, Mapping) or name not in found:
            message = f"there is nothing for {{{place}}}"
            raise ProviderError(ErrorKind.INVALID, message)
        found = found[name]
    return found


def _scalar(place: str, values: Mapping[str, Any]) -> str:
    found = _value(place, values)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, (str, int, float)):
        return str(found)
    message = f"{{{place}}} is no text or number that could be a part of a text"
    raise ProviderError(ErrorKind.INVALID, message)
