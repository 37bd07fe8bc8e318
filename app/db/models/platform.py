"""Whoever runs the installation, and when they were let into a tenant."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, identity, one_of, within_tenant
from app.domain.enums import Role


class PlatformAdministrator(Base):
    """A person of the installation, and of no tenant. Only the hash of their key is stored."""

    __tablename__ = "platform_administrator"
    __table_args__ = (UniqueConstraint("email"), UniqueConstraint("public_id"))

    id: Mapped[int] = identity()
    email: Mapped[str] = mapped_column(String(320))
    public_id: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    dismissed_at: Mapped[datetime | None]


class PlatformAccess(Audited, Base):
    """One time that a platform administrator is in a tenant: why, as what, and until when."""

    __tablename__ = "platform_access"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("user_id", "app_user"),
        Index("idx_platform_access_user", "tenant_id", "user_id"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    administrator: Mapped[str] = mapped_column(String(320))
    # Who they are among the tenant's users: the same each time, so that nobody approves their own plan.
    user_id: Mapped[int] = mapped_column(BigInteger)
    role: Mapped[Role] = one_of(Role, "role")
    reason: Mapped[str] = mapped_column(String(500))
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None] = mapped_column(String(120))
