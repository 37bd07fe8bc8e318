"""Roles that a tenant names itself."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, SoftDeleted, identity


class CustomRole(Audited, SoftDeleted, Base):
    """A named set of permissions."""

    __tablename__ = "custom_role"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index("uq_custom_role_name", "tenant_id", "name", unique=True, postgresql_where=text("NOT is_deleted")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    name: Mapped[str] = mapped_column(String(120))
    description: Mapped[str | None] = mapped_column(Text)
    permissions: Mapped[list[str]] = mapped_column(ARRAY(String(20)))
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
