"""API tokens as text: `wl_<11 characters of id>_<43 of secret><6 of checksum>`.

The prefix lets secret scanners find a leaked token, the checksum lets a mistyped one be refused without asking the
database. The secret has 256 random bits, so its SHA-256 is safe to store: there is nothing to guess that a slow hash
would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import Final

_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH: Final = 11
_SECRET_BYTES: Final = 32
_CHECKSUM_LENGTH: Final = 6
_SHAPE: Final = re.compile(r"(?P<head>wl_(?P<id>[0-9A-Za-z]{11})_(?P<secret>[0-9A-Za-z_-]{43}))(?P<sum>[0-9A-Za-z]{6})")


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A new token. `text` is shown once and stored nowhere."""

    public_id: str
    secret_hash: bytes
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """What a well-formed token claims; whether it is true, only the stored hash can tell."""

    public_id: str
    secret_hash: bytes

    def proves(self, stored_hash: bytes) -> bool:
        """Whether the secret is the stored one, in a time that does not depend on where they differ."""
        return hmac.compare_digest(self.secret_hash, stored_hash)


def mint() -> MintedToken:
    """A new token with a random id and secret."""
    public_id = "".join(secrets.choice(_BASE62) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    head = f"wl_{public_id}_{secret}"
    return MintedToken(public_id, _hash(secret), head + _checksum(head))


def parse(text: str) -> ParsedToken | None:
    """The parts of a token, or None when it is malformed or mistyped."""
    found = _SHAPE.fullmatch(text)
    if found is None or not hmac.compare_digest(found["sum"], _checksum(found["head"])):
        return None
    return ParsedToken(found["id"], _hash(found["secret"]))


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _checksum(head: str) -> str:
    rest = zlib.crc32(head.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
