"""Cursors of live streams: an opaque name for "everything up to here has been seen".

A cursor names its stream, so that the cursor of one object is never taken for a place in another. It stays good as long
as the journal of its stream is kept. It also says when the fact at its place was written: a database that was restored
from a backup gives the same numbers to other facts, and those were written at another time.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from app.domain.errors import Invalid
from app.domain.events import Stream
from app.domain.logs import micros_of, moment_of

# v1 had a number only, and is what a place is written as whose fact is not known.
PLAIN: Final = "v1"
DATED: Final = "v2"
_MAX_TEXT = 200
_MAX_SEQ = 2**63 - 1
# The end of the year 9999, beyond which there are no moments.
_MAX_MICROS = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """How far somebody is in a stream: `seq` facts and lines, 0 before the first.

    `at` is when the fact with that number was written, where that is known. Places are compared by their numbers.
    """

    seq: int
    at: datetime | None = field(default=None, compare=False)


BEGINNING: Final = Place(0)


def encode(stream: Stream, stream_id: int, place: Place) -> str:
    """The cursor of a place in a stream."""
    plain = f"{stream.value}:{stream_id}:{place.seq}"
    plain = f"{PLAIN}:{plain}" if place.at is None else f"{DATED}:{plain}:{micros_of(place.at)}"
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def decode(text: str, stream: Stream, stream_id: int, *, argument: str = "after") -> Place:
    """The place that `text` names in this stream; whether it is one of its history is for the journal to say.

    Raises Invalid, with the path of `argument`, for a text that is no cursor and for the cursor of another stream.
    """
    try:
        return _place_in(text, [stream.value, str(stream_id)])
    except (ValueError, binascii.Error) as error:
        message = "this cursor does not belong to this stream"
        raise Invalid(message, path=(argument,)) from error


def _place_in(text: str, names: list[str]) -> Place:
    if len(text) > _MAX_TEXT:
        raise ValueError(text)
    padded = text + "=" * (-len(text) % 4)
    plain = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    version, *parts = plain.split(":")
    if parts[:2] != names or (version, len(parts)) not in {(PLAIN, 3), (DATED, 4)}:
        raise ValueError(text)
    seq = _number(parts[2], _MAX_SEQ)
    return Place(seq, moment_of(_number(parts[3], _MAX_MICROS)) if version == DATED else None)


def _number(digits: str, most: int) -> int:
    # Not every digit that Python reads is one that we write; so many digits at most that reading them costs nothing.
    if not digits.isdigit() or len(digits) > len(str(most)) or int(digits) > most:
        raise ValueError(digits)
    return int(digits)
