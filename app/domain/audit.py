"""The audit log: what is written of a change, and how a chain of entries is verified.

An exported line is {"seq": 7, "hash": "…", "entry": …}; the hash is SHA-256 over the hash before it, as hexadecimal
text, and the text of the entry as it stands in the line. The first one has no hash before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

LARGEST_VALUE: Final = 1_000
LARGEST_ENTRY: Final = 16 * 1024
MOST_OBJECTS: Final = 50
_ENTRY: Final = b'"entry":'


class AuditOutcome(StrEnum):
    """Whether it was done, or somebody was kept from it."""

    DONE = "DONE"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a chain is broken, and how: `seq` is of the line that does not fit."""

    seq: int
    message: str


@dataclass(frozen=True, slots=True)
class Verified:
    """How far a chain was followed."""

    entries: int
    seq: int
    hash: str
    fault: Fault | None = None


def bounded(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values by object and column, with what is long left out and said to be: {"$omitted": characters}."""
    kept = {
        name: {column: _short(value) for column, value in columns.items()}
        for name, columns in list(values.items())[:MOST_OBJECTS]
    }
    if len(values) > MOST_OBJECTS:
        kept["$omitted"] = {"objects": len(values) - MOST_OBJECTS}
    size = len(orjson.dumps(kept))
    if size > LARGEST_ENTRY:
        return {name: {"$omitted": list(columns)[:MOST_OBJECTS]} for name, columns in kept.items()}
    return kept


def _short(value: Any) -> Any:
    size = len(orjson.dumps(value, default=str))
    return value if size <= LARGEST_VALUE else {"$omitted": size}


def link(previous: str, entry: bytes) -> str:
    """The hash of an entry behind the one whose hash is `previous`."""
    return hashlib.sha256(previous.encode() + entry).hexdigest()


def verify(lines: Iterable[bytes], head: tuple[int, str] | None = None) -> Verified:
    """Follow an exported chain from its beginning.

    `head` is a place and hash that were noted before: a chain that ends before it, or passes it with another hash, was
    cut or made anew.
    """
    previous, seq, count = "", 0, 0
    for line in lines:
        if not line.strip():
            continue
        try:
            given = orjson.loads(line)
            entry = line[line.index(_ENTRY) + len(_ENTRY) : line.rindex(b"}")]
            said = int(given["seq"])
            written = str(given["hash"])
        except (ValueError, KeyError, TypeError):
            return Verified(count, seq, previous, Fault(seq + 1, "the line is no entry"))
        if said != seq + 1:
            return Verified(count, seq, previous, Fault(seq + 1, f"after {seq} comes {said}"))
        if link(previous, entry) != written:
            return Verified(count, seq, previous, Fault(said, "the hash is not that of the entry"))
        previous, seq, count = written, said, count + 1
        if head is not None and seq == head[0] and written != head[1]:
            return Verified(count, seq, previous, Fault(seq, "another hash was noted for this place"))
    if head is not None and seq < head[0]:
        return Verified(count, seq, previous, Fault(seq + 1, f"the chain ends here, and {head[0]} was noted"))
    return Verified(count, seq, previous)
