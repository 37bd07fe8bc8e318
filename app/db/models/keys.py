"""The data keys of tenants, wrapped."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base


class TenantKey(Base):
    """What a tenant's secrets are sealed with, under a key of the installation's ring (app.db.keys)."""

    __tablename__ = "tenant_key"

    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"), primary_key=True)
    ring_key: Mapped[str] = mapped_column(String(12))
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    wrapped_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
