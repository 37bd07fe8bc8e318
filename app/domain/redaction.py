"""The ways in which a secret text can turn up in what a program says, and what is shown in its place.

A net, not a proof: it finds known texts as they are, line by line, and encoded for URLs, JSON or in base64, at any
place in what was encoded. What was compressed, hashed or cut in pieces is not found.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "***"
# Shorter ones would mask half of every line.
SHORTEST = 4
# Of a text of several lines, lines as short as brackets and "key:" say nothing.
_SHORTEST_LINE = 8
# Of base64 that begins in the middle of other bytes; fewer characters come about by chance.
_SHORTEST_PIECE = 5


def spellings(words: Iterable[str]) -> tuple[str, ...]:
    """What to look for, longest first, so that no rest of a longer one stays."""
    found = {spelling for word in words if len(word) >= SHORTEST for spelling in _spelled(word)}
    return tuple(sorted(found, key=lambda spelling: (-len(spelling), spelling)))


def without(text: str, looked_for: Iterable[str]) -> str:
    """The text with MASK in place of each of `looked_for`, which `spellings` gave."""
    for spelling in looked_for:
        if spelling in text:
            text = text.replace(spelling, MASK)
    return text


def _spelled(word: str) -> Iterator[str]:
    # Logs are told line by line.
    lines = (line.strip() for line in word.splitlines()) if "\n" in word or "\r" in word else ()
    for text in (word, *(line for line in lines if len(line) >= _SHORTEST_LINE)):
        yield text
        for escaped in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
            yield escaped
            # JSON within JSON, as bodies of requests are logged.
            yield json.dumps(escaped)[1:-1]
        for encoded in (quote(text, safe="", errors="replace"), quote(text, errors="replace")):
            yield encoded
            yield _lower(encoded)
        yield quote_plus(text, errors="replace")
        yield _lower(quote_plus(text, errors="replace"))
        yield from _base64(text.encode(errors="replace"))


def _lower(encoded: str) -> str:
    """With %2f for %2F."""
    head, *rest = encoded.split("%")
    return "%".join([head, *(part[:2].lower() + part[2:] for part in rest)])


def _base64(data: bytes) -> Iterator[str]:
    """The characters that depend on nothing but `data`, wherever among other bytes it begins."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        piece = encoded[first:last].decode()
        if len(piece) >= _SHORTEST_PIECE:
            yield piece
            yield piece.replace("+", "-").replace("/", "_")
