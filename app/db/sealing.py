"""Secrets at rest: every Secret in a JSON tree is kept as {"$sealed": "<name of a key>.<base64>"}.

AES-256-GCM under a key of the tenant's own, which is derived from one of the installation's (HKDF-SHA256); the tenant
is authenticated with the value besides. A sealed value that is copied into another tenant's row does not open. The
first of the installation's keys seals, all of them open: that is how one is replaced (app.db.resealing). What comes out
of the database is a Secret again.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.domain.values import Secret, Value, transform

if TYPE_CHECKING:
    from app.settings import Settings

_NONCE_BYTES = 12
KEY_BYTES = 32
_SEALED = "$sealed"
_KEPT = 2_000


class SealBroken(Exception):
    """A sealed value does not open: another key, another tenant, or it was tampered with."""


class Sealer:
    """Seals with `key` and opens with it and those `before`. Each has 32 bytes; ValueError otherwise."""

    def __init__(self, key: bytes, before: Sequence[bytes] = ()) -> None:
        self._keys: dict[str, bytes] = {}
        for one in (key, *before):
            if len(one) != KEY_BYTES:
                message = f"a sealing key has {KEY_BYTES} bytes, this one {len(one)}"
                raise ValueError(message)
            self._keys.setdefault(name_of(one), one)
        self._name = name_of(key)
        self._ciphers: OrderedDict[tuple[str, int], AESGCM] = OrderedDict()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """With the keys of the installation. Raises SettingsError where there is none."""
        before = [base64.b64decode(key) for key in settings.previous_secret_keys]
        return cls(base64.b64decode(settings.required("secret_key")), before)

    def seal(self, tree: Value, tenant_id: int) -> Value:
        """The tree as it may be stored: JSON without any plain secret."""
        return transform(tree, lambda leaf: self._seal(leaf, tenant_id) if isinstance(leaf, Secret) else leaf)

    def open(self, tree: Value, tenant_id: int) -> Value:
        """The stored tree with Secrets in it again. Raises SealBroken."""
        if isinstance(tree, Mapping):
            sealed = tree.get(_SEALED)
            if len(tree) == 1 and isinstance(sealed, str):
                return self._open(sealed, tenant_id)
            return {key: self.open(item, tenant_id) for key, item in tree.items()}
        if isinstance(tree, list):
            return [self.open(item, tenant_id) for item in tree]
        return tree

    def renewed(self, tree: Value, tenant_id: int) -> tuple[Value, int]:
        """The stored tree with everything sealed under today's key, and how much of it was not. Raises SealBroken."""
        if isinstance(tree, Mapping):
            sealed = tree.get(_SEALED)
            if len(tree) == 1 and isinstance(sealed, str):
                if sealed.partition(".")[0] == self._name:
                    return tree, 0
                return self._seal(self._open(sealed, tenant_id), tenant_id), 1
            found = {key: self.renewed(item, tenant_id) for key, item in tree.items()}
            return {key: item for key, (item, _) in found.items()}, sum(count for _, count in found.values())
        if isinstance(tree, list):
            items = [self.renewed(item, tenant_id) for item in tree]
            return [item for item, _ in items], sum(count for _, count in items)
        return tree, 0

    def _seal(self, secret: Secret, tenant_id: int) -> dict[str, str]:
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._cipher(self._name, tenant_id)
        box = cipher.encrypt(nonce, orjson.dumps(secret.value), _associated(tenant_id))
        return {_SEALED: f"{self._name}.{base64.b64encode(nonce + box).decode()}"}

    def _open(self, sealed: str, tenant_id: int) -> Secret:
        name, dot, text = sealed.partition(".")
        if not dot:
            return self._open_unnamed(sealed, tenant_id)
        if name not in self._keys:
            message = f"a stored secret was sealed with the key {name[:16]}, which this installation does not have"
            raise SealBroken(message)
        return _opened(self._cipher(name, tenant_id), text, tenant_id)

    def _open_unnamed(self, sealed: str, tenant_id: int) -> Secret:
        """What was sealed before keys had names: under an installation's key itself."""
        broken = SealBroken("a stored secret does not open with this installation's keys")
        for key in self._keys.values():
            try:
                return _opened(AESGCM(key), sealed, tenant_id)
            except SealBroken as error:
                broken = error
        raise broken

    def _cipher(self, name: str, tenant_id: int) -> AESGCM:
        found = self._ciphers.get((name, tenant_id))
        if found is None:
            derivation = HKDF(SHA256(), KEY_BYTES, salt=None, info=_associated(tenant_id))
            found = self._ciphers[name, tenant_id] = AESGCM(derivation.derive(self._keys[name]))
            if len(self._ciphers) > _KEPT:
                self._ciphers.popitem(last=False)
        return found


def name_of(key: bytes) -> str:
    """What a key is called beside what it sealed; it tells nothing of the key."""
    return base64.urlsafe_b64encode(hashlib.sha256(b"windlass:" + key).digest()[:6]).decode()


def _opened(cipher: AESGCM, text: str, tenant_id: int) -> Secret:
    try:
        box = base64.b64decode(text, validate=True)
        plain = cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], _associated(tenant_id))
    except (ValueError, InvalidTag) as error:
        message = "a stored secret does not open with this installation's keys"
        raise SealBroken(message) from error
    value: Any = orjson.loads(plain)
    return Secret(value)


def masked(tree: Value) -> Value:
    """A stored tree as anyone may see it: {"$sealed": …} becomes {"$sensitive": true}. Needs no key."""
    if isinstance(tree, Mapping):
        if len(tree) == 1 and _SEALED in tree:
            return {"$sensitive": True}
        return {key: masked(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [masked(item) for item in tree]
    return tree


def _associated(tenant_id: int) -> bytes:
    return b"windlass:%d" % tenant_id
