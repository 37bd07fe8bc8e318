"""Faults of variables in the notation in which these were sent: the library shows values as Python writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from graphql import GraphQLError, VariableDefinitionNode
from graphql.pyutils import inspect

_LONGEST: Final = 200
_BEGINNING: Final = re.compile(r"Variable '\$(\w+)' has invalid value(?: at ([\w.\[\]]+))?: ")
_PLACE: Final = re.compile(r"\.(\w+)|\[(\d+)\]")


def reword(errors: Iterable[GraphQLError], variables: Mapping[str, Any]) -> None:
    """Rewrite in place what was found wrong with the variables of a request."""
    for error in errors:
        if error.nodes and isinstance(error.nodes[0], VariableDefinitionNode):
            error.message = reworded(error.message, variables)


def reworded(message: str, variables: Mapping[str, Any]) -> str:
    """The message with the value that it is about as JSON, of which the beginning is enough."""
    beginning = _BEGINNING.match(message)
    if beginning is None:
        return message
    try:
        value = variables[beginning.group(1)]
        for name, position in _PLACE.findall(beginning.group(2) or ""):
            value = value[name] if name else value[int(position)]
        before, shown, after = message[beginning.end() :].rpartition(inspect(value))
        # A list may have been one value, and what is missing has none.
        if not shown:
            return message
        return beginning.group() + before + _written(value) + after
    except (LookupError, TypeError):
        return message


def _written(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
