"""Secrets at rest: every Secret in a JSON tree is kept as {"$sealed": "<base64>"}.

AES-256-GCM under the installation's key; the tenant is authenticated with the value, so that a sealed value copied into
another tenant's row does not open. What comes out of the database is a Secret again.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.domain.values import Secret, Value, transform

_NONCE_BYTES = 12
KEY_BYTES = 32


class SealBroken(Exception):
    """A sealed value does not open: another key, another tenant, or it was tampered with."""


class Sealer:
    """Seals and opens trees. `key` is 32 bytes; ValueError otherwise."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            message = f"a sealing key has {KEY_BYTES} bytes, this one {len(key)}"
            raise ValueError(message)
        self._cipher = AESGCM(key)

    def seal(self, tree: Value, tenant_id: int) -> Value:
        """The tree as it may be stored: JSON without any plain secret."""
        return transform(tree, lambda leaf: self._seal(leaf, tenant_id) if isinstance(leaf, Secret) else leaf)

    def open(self, tree: Value, tenant_id: int) -> Value:
        """The stored tree with Secrets in it again. Raises SealBroken."""
        if isinstance(tree, Mapping):
            sealed = tree.get("$sealed")
            if len(tree) == 1 and isinstance(sealed, str):
                return self._open(sealed, tenant_id)
            return {key: self.open(item, tenant_id) for key, item in tree.items()}
        if isinstance(tree, list):
            return [self.open(item, tenant_id) for item in tree]
        return tree

    def _seal(self, secret: Secret, tenant_id: int) -> dict[str, str]:
        nonce = os.urandom(_NONCE_BYTES)
        box = self._cipher.encrypt(nonce, orjson.dumps(secret.value), _associated(tenant_id))
        return {"$sealed": base64.b64encode(nonce + box).decode()}

    def _open(self, sealed: str, tenant_id: int) -> Secret:
        try:
            box = base64.b64decode(sealed, validate=True)
            plain = self._cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], _associated(tenant_id))
        except (ValueError, InvalidTag) as error:
            message = "a stored secret does not open with this installation's key"
            raise SealBroken(message) from error
        return Secret(orjson.loads(plain))


def masked(tree: Value) -> Value:
    """A stored tree as anyone may see it: {"$sealed": …} becomes {"$sensitive": true}. Needs no key."""
    if isinstance(tree, Mapping):
        if len(tree) == 1 and "$sealed" in tree:
            return {"$sensitive": True}
        return {key: masked(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [masked(item) for item in tree]
    return tree


def _associated(tenant_id: int) -> bytes:
    return b"windlass:%d" % tenant_id
