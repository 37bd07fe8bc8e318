"""Hooks: how the world outside calls, and how it proves who it is.

A caller that signs does so as Standard Webhooks has it: `webhook-signature` holds `v1,<base64>` once or several times,
each the HMAC-SHA-256 of `<webhook-id>.<webhook-timestamp>.<body>` under a secret written `whsec_<base64>`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.domain.automation import Rate

# By these, scanners find what has leaked.
TOKEN_PREFIX = "wlh_"  # noqa: S105
SECRET_PREFIX = "whsec_"  # noqa: S105
SECRET_BYTES = 32
# How far the clock of a caller may be off.
TOLERANCE_SECONDS = 300
# How often a hook may be called whose plan has no rate.
USUAL_RATE = Rate(60, timedelta(minutes=1))
_TOKEN = re.compile(r"wlh_[0-9A-Za-z_-]{43}")
_ID = re.compile(r"[!-~]{1,200}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it came: what its headers say, the bytes that were signed, and what they mean."""

    body: bytes
    payload: Any
    id: str | None = None
    timestamp: str | None = None
    signature: str | None = None

    @property
    def is_well_formed(self) -> bool:
        """Whether the id, where there is one, can be kept."""
        return self.id is None or _ID.fullmatch(self.id) is not None

    def is_signed(self, secret: str, now: float) -> bool:
        """Whether who knows `secret` has signed it, at most five minutes before or after `now`, in seconds."""
        if self.id is None or self.timestamp is None or self.signature is None:
            return False
        if _TIMESTAMP.fullmatch(self.timestamp) is None or abs(int(self.timestamp) - now) > TOLERANCE_SECONDS:
            return False
        expected = signature_of(secret, self.id, self.timestamp, self.body).encode()
        given = [part.encode() for part in self.signature.split(" ")]
        # All are compared, so that the time it takes says nothing.
        return sum(hmac.compare_digest(part, expected) for part in given) > 0


def signature_of(secret: str, call_id: str, timestamp: str, body: bytes) -> str:
    """What `webhook-signature` has to hold. Raises ValueError for what is no secret."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError as error:
        message = "this is no signing secret"
        raise ValueError(message) from error
    signed = f"{call_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def written_secret(key: bytes) -> str:
    """A signing secret as its owner keeps it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def hash_of(token: str) -> bytes | None:
    """What is stored of a token; None for what no token looks like. 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest() if _TOKEN.fullmatch(token) else None


def call_of(headers: Mapping[str, str], body: bytes, payload: Any) -> Call:
    """A call from its headers, whose names are in lower case, and its body."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return Call(body, payload, *(headers.get(name) for name in names))
