"""The body of a chunk of log lines: columns in JSON, packed by whoever writes and unpacked by whoever reads.

PostgreSQL never looks inside: what whole chunks can be chosen or passed over by stands in columns beside the body. The
JSON is [first moment, [microseconds to the next line, …], "one digit per line for its level", "stream" or [streams],
[messages], null or {"place of a line": its fields}].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from typing import Any, NamedTuple

import orjson
from isal import isal_zlib

from app.domain.enums import LogLevel
from app.domain.logs import LogLine

# How a body is packed. What comes later gets a number of its own, and old chunks stay as they are.
PLAIN = 0
ZLIB = 1
# A line or two take as much room packed as plain, and packing them takes longer than all else about them.
_SMALL = 256
# Packs log lines to a quarter at 400 MB/s, and what zlib itself would unpack; higher levels gain nothing.
_LEVEL = 1
LEVELS: Sequence[LogLevel] = tuple(LogLevel)
_DIGITS = {level: str(number) for number, level in enumerate(LEVELS)}
_BITS = {level: 1 << number for number, level in enumerate(LEVELS)}


@dataclass(frozen=True, slots=True)
class Packed:
    """A body, its size before packing in bytes, and the levels in it as `bits` has them."""

    body: bytes
    size: int
    levels: int
    codec: int = ZLIB


class Columns(NamedTuple):
    """The lines of one chunk: the n-th of each list belongs to its n-th line. `fields` has those of lines with any."""

    moments: list[int]
    levels: str
    streams: list[str]
    messages: list[str]
    fields: dict[int, dict[str, Any]]


def bits(levels: Sequence[LogLevel]) -> int:
    """A set of levels as the column `levels` has it."""
    return sum({_BITS[level] for level in levels})


def pack(lines: Sequence[LogLine]) -> Packed:
    """The body of a chunk of these lines; there must be at least one. What UTF-8 cannot say is replaced."""
    moments, levels, streams, messages, fields = zip(*lines, strict=True)
    present = set(levels)
    columns = [
        moments[0],
        list(map(sub, moments[1:], moments)),
        "".join(map(_DIGITS.__getitem__, levels)),
        streams[0] if len(set(streams)) == 1 else streams,
        messages,
        {str(place): found for place, found in enumerate(fields) if found} if any(fields) else None,
    ]
    try:
        plain = orjson.dumps(columns)
    except TypeError:
        plain = orjson.dumps(_sayable(columns), default=str)
    held = sum(_BITS[level] for level in present)
    if len(plain) < _SMALL:
        return Packed(plain, len(plain), held, PLAIN)
    return Packed(isal_zlib.compress(plain, _LEVEL), len(plain), held)


def plain_text(codec: int, body: bytes) -> bytes:
    """The JSON of a body. Raises ValueError for a codec that this version does not know."""
    if codec == ZLIB:
        return isal_zlib.decompress(body)
    if codec == PLAIN:
        return body
    message = f"a chunk of the log is packed in a way ({codec}) that this version does not know"
    raise ValueError(message)


def unpack(plain: bytes) -> Columns:
    """The lines in the JSON of a body."""
    first, steps, levels, streams, messages, fields = orjson.loads(plain)
    return Columns(
        moments=list(accumulate(steps, initial=first)),
        levels=levels,
        streams=[streams] * len(messages) if isinstance(streams, str) else streams,
        messages=messages,
        fields={} if fields is None else {int(place): found for place, found in fields.items()},
    )


def _sayable(value: Any) -> Any:
    """The value without halves of surrogate pairs, which Python's texts can hold and UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_sayable(str(name)): _sayable(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sayable(inner) for inner in value]
    return value
