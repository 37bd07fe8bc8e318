"""Who is asking, once that is certain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.domain.enums import Permission, Role, UserKind


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody in a tenant, with what their role and the token they came with allow together."""

    tenant_id: int
    tenant_slug: str
    user_id: int
    role: Role
    permissions: frozenset[Permission]
    # 0 for whoever the OpenID provider sends: they have no token of ours.
    token_id: int
    expires_at: datetime
    kind: UserKind = UserKind.PERSON
    # Of a platform administrator: what let them in, and why they said they came.
    access_id: int = 0
    reason: str = ""
    # Whether the token is that of a browser that somebody has logged in with: no other is good in a cookie.
    is_session: bool = False

    @property
    def actor(self) -> str:
        """As audit columns and events name them: `user:12`, `service-account:4`, `platform-access:3`."""
        if self.kind is UserKind.PLATFORM:
            return f"platform-access:{self.access_id}"
        return f"service-account:{self.user_id}" if self.kind is UserKind.SERVICE_ACCOUNT else f"user:{self.user_id}"

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions
