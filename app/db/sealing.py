"""Secrets at rest: every Secret in a JSON tree is kept as {"$sealed": "<name of a key>.2.<base64>"}.

AES-256-GCM under a key of the tenant's own, which is derived from one of the installation's (HKDF-SHA256); the tenant
and the place (app.db.places) are authenticated with the value besides. A sealed value that is copied into another
tenant's row, or to another place, does not open. Without the "2" it is of before there were places. The
first of the installation's keys seals, all of them open: that is how one is replaced (app.db.resealing). What comes out
of the database is a Secret again.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.db.places import ENGINE, Place, associated
from app.domain.values import PLAIN, Secret, Value, branches

if TYPE_CHECKING:
    from app.settings import Settings

_NONCE_BYTES = 12
KEY_BYTES = 32
_SEALED = "$sealed"
_KEPT = 2_000
# Says that the place was authenticated.
_PLACED = "2"
_Path = tuple[str | int, ...]


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

    def seal(self, tree: Value, tenant_id: int, place: Place = ENGINE) -> Value:
        """The tree as it may be stored: JSON without any plain secret."""
        return self._sealed(tree, tenant_id, place, ())

    def open(self, tree: Value, tenant_id: int, place: Place = ENGINE) -> Value:
        """The stored tree with Secrets in it again. Raises SealBroken."""
        if not _is_any_sealed(tree):
            return tree
        return self._walked(tree, (), lambda sealed, path: self._open(sealed, tenant_id, place, path))

    def renewed(self, tree: Value, tenant_id: int, place: Place = ENGINE) -> tuple[Value, int]:
        """The stored tree with everything sealed as it is today, and how much of it was not. Raises SealBroken."""
        count = 0

        def renew(sealed: str, path: _Path) -> dict[str, str]:
            nonlocal count
            if sealed.startswith(f"{self._name}.{_PLACED}."):
                return {_SEALED: sealed}
            count += 1
            return self._seal(self._open(sealed, tenant_id, place, path), tenant_id, place, path)

        return self._walked(tree, (), renew), count

    def _sealed(self, tree: Value, tenant_id: int, place: Place, path: _Path) -> Value:
        if type(tree) in PLAIN:
            return tree
        if isinstance(tree, Secret):
            return self._seal(tree, tenant_id, place, path)
        if isinstance(tree, (dict, Mapping)):
            return {key: self._sealed(item, tenant_id, place, (*path, key)) for key, item in tree.items()}
        if isinstance(tree, list | tuple):
            return [self._sealed(item, tenant_id, place, (*path, number)) for number, item in enumerate(tree)]
        return tree

    def _walked(self, tree: Value, path: _Path, change: Callable[[str, _Path], Value]) -> Value:
        """The stored tree with `change` applied to all that is sealed in it."""
        # To ask an abstract class whether it means a leaf takes longer than all the rest.
        if type(tree) in PLAIN:
            return tree
        if isinstance(tree, (dict, Mapping)):
            sealed = tree.get(_SEALED)
            if len(tree) == 1 and isinstance(sealed, str):
                return change(sealed, path)
            return {key: self._walked(item, (*path, key), change) for key, item in tree.items()}
        if isinstance(tree, list):
            return [self._walked(item, (*path, number), change) for number, item in enumerate(tree)]
        return tree

    def _seal(self, secret: Secret, tenant_id: int, place: Place, path: _Path) -> dict[str, str]:
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._cipher(self._name, tenant_id)
        box = cipher.encrypt(nonce, orjson.dumps(secret.value), associated(tenant_id, place, path))
        return {_SEALED: f"{self._name}.{_PLACED}.{base64.b64encode(nonce + box).decode()}"}

    def _open(self, sealed: str, tenant_id: int, place: Place, path: _Path) -> Secret:
        name, dot, text = sealed.partition(".")
        if not dot:
            return self._open_unnamed(sealed, tenant_id)
        if name not in self._keys:
            message = f"a stored secret was sealed with the key {name[:16]}, which this installation does not have"
            raise SealBroken(message)
        mark, dot, box = text.partition(".")
        if not dot:
            return _opened(self._cipher(name, tenant_id), text, _associated(tenant_id))
        if mark != _PLACED:
            message = "a stored secret was sealed by a later version"
            raise SealBroken(message)
        return _opened(self._cipher(name, tenant_id), box, associated(tenant_id, place, path))

    def _open_unnamed(self, sealed: str, tenant_id: int) -> Secret:
        """What was sealed before keys had names: under an installation's key itself."""
        broken = SealBroken("a stored secret does not open with this installation's keys")
        for key in self._keys.values():
            try:
                return _opened(AESGCM(key), sealed, _associated(tenant_id))
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


def _is_any_sealed(tree: Value) -> bool:
    """Whether there is anything to open in what was stored: mostly there is not, and this is found out much faster."""
    return bool(tree) and any(_SEALED in item for item in branches(tree) if isinstance(item, (dict, Mapping)))


def name_of(key: bytes) -> str:
    """What a key is called beside what it sealed; it tells nothing of the key."""
    return base64.urlsafe_b64encode(hashlib.sha256(b"windlass:" + key).digest()[:6]).decode()


def _opened(cipher: AESGCM, text: str, data: bytes) -> Secret:
    try:
        box = base64.b64decode(text, validate=True)
        plain = cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], data)
    except (ValueError, InvalidTag) as error:
        message = "a stored secret does not open with this installation's keys in this place"
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
