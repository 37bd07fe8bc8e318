"""Whose a thing of the engine is, and which operation made it: an engine has no other place to write that down."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from app.providers.base import Context, ErrorKind, ProviderError

OWNER = "windlass.owner"
OPERATION = "windlass.operation"
SERVICE = "windlass.service"
REPLICA = "windlass.replica"
SPEC = "windlass.spec"
HASH = "windlass.hash"
NAME_PATTERN = "^[a-z0-9][a-z0-9_.-]{0,62}$"


def marked(context: Context) -> dict[str, str]:
    """The labels of what this operation makes."""
    return {OWNER: context.owner, OPERATION: context.operation_id}


def is_ours(context: Context, labels: Mapping[str, str] | None) -> bool:
    """Whether a thing with these labels is that of the context's resource."""
    return (labels or {}).get(OWNER) == context.owner


def is_made_here(context: Context, labels: Mapping[str, str] | None) -> bool:
    """Whether this very operation made it."""
    return is_ours(context, labels) and (labels or {}).get(OPERATION) == context.operation_id


def refuse_foreign(context: Context, labels: Mapping[str, str] | None, what: str) -> None:
    """Raises ProviderError ACCESS_DENIED for what is not the tenant's own."""
    owner = (labels or {}).get(OWNER, "")
    if owner.split(":")[:2] != context.owner.split(":")[:2]:
        message = f"{what} is not one that Windlass made for this tenant"
        raise ProviderError(ErrorKind.ACCESS_DENIED, message)


def taken(name: str, kind: str) -> ProviderError:
    """What is said where something else is in the place."""
    message = f"the {kind} {name} exists already, and this operation did not make it"
    return ProviderError(ErrorKind.ALREADY_EXISTS, message, path=("name",))


def digest(context: Context, properties: Mapping[str, Any]) -> str:
    """Tells whether two containers are the same. The owner is in it, so that a secret cannot be looked up by it."""
    canonical = json.dumps([context.owner, properties], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:40]
