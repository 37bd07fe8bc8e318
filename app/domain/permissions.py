"""Which role may do what. A token's scopes narrow its user's role and never widen it."""

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


def effective(role: Role, scopes: Iterable[str]) -> frozenset[Permission]:
    """What a token with `scopes` (names of permissions) gives a user of `role`. Unknown names give nothing."""
    named = set(scopes)
    return frozenset(permission for permission in ROLE_PERMISSIONS[role] if permission.value in named)
