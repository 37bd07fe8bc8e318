"""Which role may do what. A token's scopes, and its own role, narrow its user's role and never widen it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from app.domain.enums import Permission, Role

# Who asks for a change cannot approve it by the same role, so that two people are needed; an administrator is both.
ROLE_PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = MappingProxyType(
    {
        Role.VIEWER: frozenset({Permission.READ}),
        Role.OPERATOR: frozenset(
            {
                Permission.READ,
                Permission.WRITE,
                Permission.EXECUTE,
                Permission.CANCEL,
                Permission.ROLLBACK,
                Permission.DELETE,
            }
        ),
        Role.APPROVER: frozenset({Permission.READ, Permission.APPROVE}),
        Role.ADMIN: frozenset(Permission),
    }
)


def granted(role: Role, custom: Iterable[str] | None) -> frozenset[Permission]:
    """What somebody may do: what their custom role names, where they have one; else what the built-in one does.

    Unknown names give nothing.
    """
    return ROLE_PERMISSIONS[role] if custom is None else named(custom)


def of_service_account(role: Role, custom: Iterable[str] | None, *, may_approve: bool) -> frozenset[Permission]:
    """What a service account may do: that somebody agreed means a person, unless it was said otherwise."""
    may = granted(role, custom)
    return may if may_approve else may - {Permission.APPROVE}


def effective(may: frozenset[Permission], scopes: Iterable[str], custom: Iterable[str] | None) -> frozenset[Permission]:
    """What a token with `scopes`, and perhaps a custom role, gives somebody who may do `may`."""
    within = may & named(scopes)
    return within if custom is None else within & named(custom)


def named(names: Iterable[str]) -> frozenset[Permission]:
    """The permissions of these names; unknown ones give nothing."""
    known = set(names)
    return frozenset(permission for permission in Permission if permission.value in known)
