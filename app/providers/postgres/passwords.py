"""Password verifiers, made here so that no password is ever part of a statement (and of the server's log)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import unicodedata

ITERATIONS = 4096
SALT_BYTES = 16


def verifier(password: str) -> str:
    """What PostgreSQL stores for SCRAM-SHA-256 (RFC 5803), with a fresh salt."""
    salt = secrets.token_bytes(SALT_BYTES)
    prepared = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored = _text(hashlib.sha256(client_key).digest())
    return f"SCRAM-SHA-256${ITERATIONS}:{_text(salt)}${stored}:{_text(server_key)}"


def fingerprint(stored: str) -> str:
    """Tells whether a verifier is still the same one, without being of any use to who reads it."""
    return hashlib.sha256(stored.encode()).hexdigest()


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
