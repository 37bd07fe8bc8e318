"""A result as it is sent: encoded once, and wrapped once for each transport that somebody follows it over."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import orjson
from strawberry.types import ExecutionResult


class Encoded:
    """`text` is the JSON of a result; `cursor` is the place of the frame in it, where the document asks for that."""

    def __init__(self, text: bytes, cursor: str | None = None) -> None:
        self.text = text
        self.cursor = cursor

    @classmethod
    def of(cls, result: ExecutionResult) -> Encoded:
        """A result with everything that it has."""
        body: dict[str, Any] = {}
        if result.errors:
            body["errors"] = [error.formatted for error in result.errors]
        body["data"] = result.data
        if result.extensions:
            body["extensions"] = result.extensions
        return cls(orjson.dumps(body), _cursor_in(result.data))

    @cached_property
    def message(self) -> bytes:
        """Of graphql-transport-ws, all but its beginning `{"id":…`."""
        return b',"type":"next","payload":' + self.text + b"}"

    @cached_property
    def event(self) -> bytes:
        """A server-sent event, whose id is the cursor."""
        head = b"event: next\n" if self.cursor is None else b"event: next\nid: " + self.cursor.encode() + b"\n"
        # JSON has no line breaks of its own, so it is one line of data.
        return head + b"data: " + self.text + b"\n\n"


def _cursor_in(data: Any) -> str | None:
    if not isinstance(data, dict) or len(data) != 1:
        return None
    (frame,) = data.values()
    cursor = frame.get("cursor") if isinstance(frame, dict) else None
    return cursor if isinstance(cursor, str) else None
