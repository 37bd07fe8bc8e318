"""The state of OpenTofu workspaces: who works on one, and its newest versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, identity, owned_by_tenant, within_tenant


class TofuState(Base):
    """A workspace. `owner` is the resource that it belongs to, `operation` the one that began it."""

    __tablename__ = "tofu_state"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index("uq_tofu_state_name", "tenant_id", "name", unique=True, postgresql_where=text("NOT is_deleted")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    name: Mapped[str] = mapped_column(String(120))
    owner: Mapped[str] = mapped_column(String(400))
    operation: Mapped[str] = mapped_column(String(120))
    # Of the newest version; none was written yet without them.
    lineage: Mapped[str | None] = mapped_column(String(120))
    serial: Mapped[int | None] = mapped_column(BigInteger)
    md5: Mapped[str | None] = mapped_column(String(32))
    # What the holder says of itself; its operation, and when its pass ends.
    lock: Mapped[dict[str, Any] | None]
    lock_operation: Mapped[str | None] = mapped_column(String(120))
    lock_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    is_deleted: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class TofuStateVersion(Base):
    """One version, sealed whole: states hold passwords."""

    __tablename__ = "tofu_state_version"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("state_id", "tofu_state"),
        Index("idx_tofu_state_version_newest", "tenant_id", "state_id", "id"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    state_id: Mapped[int] = mapped_column(BigInteger)
    serial: Mapped[int] = mapped_column(BigInteger)
    operation: Mapped[str] = mapped_column(String(120))
    size: Mapped[int] = mapped_column(Integer)
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
