"""Keys: the installation's ring, and under it a data key of each tenant, kept wrapped in `tenant_key`.

A data key is made when the tenant is first met and stays the same for ever; only what wraps it changes. A process
that has unwrapped one may therefore keep it: turning the ring needs no word to anybody.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
# Unwrapped keys in one process; a tenant that is met again after it was pushed out costs a read.
_KEPT = 50_000


class SealBroken(Exception):
    """A sealed value does not open: another key, tenant or place, or it was tampered with."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A tenant's data key as it is stored: `ring_key` names the key of the ring that opens `wrapped`."""

    ring_key: str
    wrapped: bytes = field(repr=False)


class KeyRing:
    """The installation's keys of 32 bytes each: the first one wraps, all of them open. ValueError for other sizes.

    A key's id is a part of its hash, so that the same key has the same id wherever it is listed.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            message = "a ring has at least one key"
            raise ValueError(message)
        for key in keys:
            if len(key) != KEY_BYTES:
                message = f"a sealing key has {KEY_BYTES} bytes, this one {len(key)}"
                raise ValueError(message)
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.first = key_id(keys[0])

    def __contains__(self, ring_key: str) -> bool:
        return ring_key in self._ciphers

    @property
    def ciphers(self) -> tuple[AESGCM, ...]:
        """All of them, the first one first."""
        return tuple(self._ciphers.values())

    def wrap(self, data_key: bytes, tenant_id: int) -> WrappedKey:
        """The data key under the first key."""
        nonce = os.urandom(NONCE_BYTES)
        box = self._ciphers[self.first].encrypt(nonce, data_key, _associated(tenant_id, self.first))
        return WrappedKey(self.first, nonce + box)

    def unwrap(self, key: WrappedKey, tenant_id: int) -> bytes:
        """The data key. Raises SealBroken, also where the ring does not have the key any more."""
        cipher = self._ciphers.get(key.ring_key)
        if cipher is None:
            message = f"the data key of tenant {tenant_id} is wrapped with {key.ring_key}, which is not on the ring"
            raise SealBroken(message)
        try:
            return cipher.decrypt(
                key.wrapped[:NONCE_BYTES], key.wrapped[NONCE_BYTES:], _associated(tenant_id, key.ring_key)
            )
        except (ValueError, InvalidTag) as error:
            message = f"the data key of tenant {tenant_id} does not open with {key.ring_key}"
            raise SealBroken(message) from error


class TenantKeys:
    """The data keys that this process has met. A Database that has one sees to it that a tenant is met first."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self._ciphers: OrderedDict[int, AESGCM] = OrderedDict()

    def knows(self, tenant_id: int) -> bool:
        """Whether the tenant's key need not be read."""
        return tenant_id in self._ciphers

    def made(self, tenant_id: int) -> WrappedKey:
        """A new key for the tenant, which is of no use until it is stored and learned."""
        return self.ring.wrap(AESGCM.generate_key(8 * KEY_BYTES), tenant_id)

    def learn(self, tenant_id: int, key: WrappedKey) -> None:
        """Take in what is stored. Raises SealBroken."""
        self._ciphers[tenant_id] = AESGCM(self.ring.unwrap(key, tenant_id))
        if len(self._ciphers) > _KEPT:
            self._ciphers.popitem(last=False)

    def forget(self) -> None:
        """Begin anew: another database has other keys."""
        self._ciphers.clear()

    def cipher(self, tenant_id: int) -> AESGCM:
        """What seals for the tenant. Raises SealBroken where its key could not be read."""
        found = self._ciphers.get(tenant_id)
        if found is None:
            message = f"the data key of tenant {tenant_id} is not known: none of the ring opens it, or nobody read it"
            raise SealBroken(message)
        return found


def key_id(key: bytes) -> str:
    """A name for a key that says nothing about it."""
    return hashlib.sha256(b"windlass key id\0" + key).hexdigest()[:12]


def _associated(tenant_id: int, ring_key: str) -> bytes:
    return b"windlass data key\0%d\0%s" % (tenant_id, ring_key.encode())
