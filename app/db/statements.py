"""SQL of the machinery: written with names, run by the driver itself.

The ORM's way costs about 0.3 ms a statement, which is right for what people do and too much for what the engine does a
thousand times a second. A `Statement` is turned into the driver's form once, when its module is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

# A name after a single colon; `::type` is a cast.
_NAME: Final = re.compile(r"(?<!:):([a-z_]+)")

Row = Mapping[str, Any]


class Statement:
    """One statement with named parameters, such as `:tenant`. JSON goes in as text and comes out as values."""

    __slots__ = ("names", "sql")

    def __init__(self, sql: str) -> None:
        self.names: tuple[str, ...] = tuple(dict.fromkeys(_NAME.findall(sql)))
        places = {name: f"${position}" for position, name in enumerate(self.names, 1)}
        self.sql = _NAME.sub(lambda found: places[found[1]], sql)

    def bind(self, parameters: Mapping[str, Any]) -> list[Any]:
        """The values in the order of their places. KeyError names one that is missing; more than needed is fine."""
        return [parameters[name] for name in self.names]


def dumps(value: Any) -> str:
    """JSON as a statement takes it."""
    return orjson.dumps(value).decode()
