"""Who is asking, once that is certain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.domain.enums import Permission, Role


@dataclass(frozen=True, slots=True)
class Principal:
    """A person in a tenant, with what their role and the token they came with allow together."""

    tenant_id: int
    tenant_slug: str
    user_id: int
    role: Role
    permissions: frozenset[Permission]
    # 0 for whoever the OpenID provider sends: they have no token of ours.
    token_id: int
    expires_at: datetime

    @property
    def actor(self) -> str:
        """As audit columns and events name them: `user:12`."""
        return f"user:{self.user_id}"

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions
