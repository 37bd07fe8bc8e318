"""Secrets at rest: every Secret in a JSON tree is kept as {"$sealed": "2:<base64>"}.

AES-256-GCM under the tenant's data key (app.db.keys). What is authenticated with a value says where it belongs: the
tenant, and the place. The standing secrets of a tenant (connections, webhooks, hooks, states of OpenTofu) have a place
of their own, made of table, column and the row's natural key, and the path within the document goes with it. What
the engine carries from row to row (parameters, specs, states, outputs) shares one place, ENGINE. A value copied to
another tenant or place does not open.

Without "2:" it is of before there were data keys: sealed under a key of the ring, and bound to its tenant only. Such
are opened, never written; `windlass keys rotate` seals them anew.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.exceptions import InvalidTag

from app.db.keys import NONCE_BYTES, KeyRing, SealBroken, TenantKeys
from app.domain.values import Secret, Value

if TYPE_CHECKING:
    from app.db.uow import Database

_MARK = "2:"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs. `row` is what the row is known by before it is stored: never a random number."""

    table: str
    column: str
    row: tuple[str | int, ...]


# Of values that statements copy from row to row, or that are put together anew from parts.
ENGINE = Place("engine", "", ())


def connection_place(provider: str, name: str) -> Place:
    """Of a connection's configuration."""
    return Place("provider_connection", "config", (provider, name))


def webhook_place(endpoint_id: int) -> Place:
    """Of a webhook's secret, which one day is its previous one."""
    return Place("webhook_endpoint", "secret", (endpoint_id,))


def hook_place(plan_id: int) -> Place:
    """Of what the calls of a plan's hook are signed with."""
    return Place("plan_hook", "signing_secret", (plan_id,))


def tofu_place(state_id: int, serial: int) -> Place:
    """Of one version of a workspace's state."""
    return Place("tofu_state_version", "body", (state_id, serial))


def place_of(table: str, column: str, row: Mapping[str, Any]) -> Place:
    """The place of what a stored row has in the column: for who goes through all tables."""
    match table, column:
        case "provider_connection", "config":
            return connection_place(row["provider"], row["name"])
        case "webhook_endpoint", "secret" | "previous_secret":
            return webhook_place(row["id"])
        case "plan_hook", "signing_secret":
            return hook_place(row["plan_id"])
        case "tofu_state_version", "body":
            return tofu_place(row["state_id"], row["serial"])
    return ENGINE


class Sealer:
    """Seals and opens trees for the tenants whose keys are known."""

    def __init__(self, keys: TenantKeys | KeyRing | bytes) -> None:
        ring = KeyRing([keys]) if isinstance(keys, bytes) else keys
        self.keys = ring if isinstance(ring, TenantKeys) else TenantKeys(ring)

    @classmethod
    def over(cls, database: Database, ring: KeyRing) -> Sealer:
        """A sealer that knows the key of each tenant by the time a transaction of it has begun."""
        if database.keys is None:
            database.keys = TenantKeys(ring)
        return cls(database.keys)

    def serve(self, database: Database) -> Sealer:
        """Have the keys of the database's tenants read for this sealer."""
        self.keys.forget()
        database.keys = self.keys
        return self

    def seal(self, tree: Value, tenant_id: int, place: Place = ENGINE) -> Value:
        """The tree as it may be stored: JSON without any plain secret. Raises SealBroken when the tenant has no key."""
        return self._sealed(tree, tenant_id, place, ())

    def open(self, tree: Value, tenant_id: int, place: Place = ENGINE) -> Value:
        """The stored tree with Secrets in it again. Raises SealBroken."""
        return self._opened(tree, tenant_id, place, ())

    def _sealed(self, tree: Value, tenant_id: int, place: Place, path: tuple[str | int, ...]) -> Value:
        if isinstance(tree, Secret):
            return self._seal(tree, tenant_id, place, path)
        if isinstance(tree, Mapping):
            return {key: self._sealed(item, tenant_id, place, (*path, key)) for key, item in tree.items()}
        if isinstance(tree, list | tuple):
            return [self._sealed(item, tenant_id, place, (*path, number)) for number, item in enumerate(tree)]
        return tree

    def _opened(self, tree: Value, tenant_id: int, place: Place, path: tuple[str | int, ...]) -> Value:
        if isinstance(tree, Mapping):
            sealed = tree.get("$sealed")
            if len(tree) == 1 and isinstance(sealed, str):
                return self._open(sealed, tenant_id, place, path)
            return {key: self._opened(item, tenant_id, place, (*path, key)) for key, item in tree.items()}
        if isinstance(tree, list):
            return [self._opened(item, tenant_id, place, (*path, number)) for number, item in enumerate(tree)]
        return tree

    def _seal(self, secret: Secret, tenant_id: int, place: Place, path: tuple[str | int, ...]) -> dict[str, str]:
        nonce = os.urandom(NONCE_BYTES)
        cipher = self.keys.cipher(tenant_id)
        box = cipher.encrypt(nonce, orjson.dumps(secret.value), _associated(tenant_id, place, path))
        return {"$sealed": _MARK + base64.b64encode(nonce + box).decode()}

    def _open(self, sealed: str, tenant_id: int, place: Place, path: tuple[str | int, ...]) -> Secret:
        if not sealed.startswith(_MARK):
            return self._open_old(sealed, tenant_id)
        cipher = self.keys.cipher(tenant_id)
        try:
            box = base64.b64decode(sealed[len(_MARK) :], validate=True)
            plain = cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], _associated(tenant_id, place, path))
        except (ValueError, InvalidTag) as error:
            message = "a stored secret does not open with its tenant's key in this place"
            raise SealBroken(message) from error
        return Secret(orjson.loads(plain))

    def _open_old(self, sealed: str, tenant_id: int) -> Secret:
        """What was sealed before there were data keys."""
        try:
            box = base64.b64decode(sealed, validate=True)
        except ValueError as error:
            message = "a stored secret is not what was sealed"
            raise SealBroken(message) from error
        for cipher in self.keys.ring.ciphers:
            with suppress(ValueError, InvalidTag):
                return Secret(orjson.loads(cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], _old(tenant_id))))
        message = "a stored secret opens with no key of the ring"
        raise SealBroken(message)


def is_old(tree: Value) -> bool:
    """Whether anything in a stored tree was sealed before there were data keys."""
    if isinstance(tree, Mapping):
        sealed = tree.get("$sealed")
        if len(tree) == 1 and isinstance(sealed, str):
            return not sealed.startswith(_MARK)
        return any(is_old(item) for item in tree.values())
    return isinstance(tree, list) and any(is_old(item) for item in tree)


def masked(tree: Value) -> Value:
    """A stored tree as anyone may see it: {"$sealed": …} becomes {"$sensitive": true}. Needs no key."""
    if isinstance(tree, Mapping):
        if len(tree) == 1 and "$sealed" in tree:
            return {"$sensitive": True}
        return {key: masked(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [masked(item) for item in tree]
    return tree


def _associated(tenant_id: int, place: Place, path: tuple[str | int, ...]) -> bytes:
    """As JSON, so that no two places are written alike. What the engine carries is put together anew on its way."""
    where = () if place is ENGINE else path
    return orjson.dumps(("windlass", 2, tenant_id, place.table, place.column, place.row, where))


def _old(tenant_id: int) -> bytes:
    return b"windlass:%d" % tenant_id
