"""Cursors of live streams: an opaque name for "everything up to here has been seen".

A cursor names its stream, so that the cursor of one object is never taken for a place in another. It stays good as long
as the journal of its stream is kept.
"""

from __future__ import annotations

import base64
import binascii

from app.domain.errors import Invalid
from app.domain.events import Stream

_VERSION = "v1"
_MAX_TEXT = 200
_MAX_SEQ = 2**63 - 1


def encode(stream: Stream, stream_id: int, seq: int) -> str:
    """The cursor of place `seq` in a stream; 0 is before its first fact."""
    plain = f"{_VERSION}:{stream.value}:{stream_id}:{seq}"
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def decode(text: str, stream: Stream, stream_id: int, *, argument: str = "after") -> int:
    """The place that `text` names in this stream.

    Raises Invalid, with the path of `argument`, for a text that is no cursor and for the cursor of another stream.
    """
    try:
        seq = _seq_in(text, f"{_VERSION}:{stream.value}:{stream_id}:")
    except (ValueError, binascii.Error) as error:
        message = "this cursor does not belong to this stream"
        raise Invalid(message, path=(argument,)) from error
    return seq


def _seq_in(text: str, prefix: str) -> int:
    if len(text) > _MAX_TEXT:
        raise ValueError(prefix)
    padded = text + "=" * (-len(text) % 4)
    plain = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    digits = plain.removeprefix(prefix)
    if digits == plain or not digits.isdigit():
        raise ValueError(prefix)
    seq = int(digits)
    if seq > _MAX_SEQ:
        raise ValueError(prefix)
    return seq
