"""The rules that a tenant's plans are judged by."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, SoftDeleted, identity, one_of
from app.domain.enums import PolicyLevel, PolicySubject


class Policy(Audited, SoftDeleted, Base):
    """One rule, as app.domain.policies reads it."""

    __tablename__ = "policy"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index("uq_policy_name", "tenant_id", "name", unique=True, postgresql_where=text("NOT is_deleted")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    name: Mapped[str] = mapped_column(String(120))
    description: Mapped[str | None] = mapped_column(Text)
    level: Mapped[PolicyLevel] = one_of(PolicyLevel, "level")
    subject: Mapped[PolicySubject] = one_of(PolicySubject, "subject")
    condition: Mapped[str | None] = mapped_column(Text)
    requirement: Mapped[str] = mapped_column(Text)
    message: Mapped[str | None] = mapped_column(Text)
    time_zone: Mapped[str] = mapped_column(String(60), default="UTC", server_default="UTC")
    is_enabled: Mapped[bool] = mapped_column(Boolean, default=True, server_default=text("true"))
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
