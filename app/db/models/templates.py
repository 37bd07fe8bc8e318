"""Resource templates and their immutable revisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, SoftDeleted, identity, one_of, owned_by_tenant, within_tenant
from app.domain.enums import DefinitionStatus, TemplateType


class ResourceTemplate(Audited, SoftDeleted, Base):
    """A standard set of resources. The columns hold the draft; publishing freezes it as a revision."""

    __tablename__ = "resource_template"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index(
            "uq_resource_template_tenant_name",
            "tenant_id",
            "template_name",
            unique=True,
            postgresql_where=text("NOT is_deleted"),
        ),
        Index("idx_resource_template_tenant", "tenant_id"),
        Index("idx_resource_template_name", "template_name"),
        Index("idx_resource_template_type", "template_type"),
        Index("idx_resource_template_status", "status"),
        Index("idx_resource_template_public", "is_public"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    template_name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    template_type: Mapped[TemplateType] = one_of(TemplateType, "template_type")
    status: Mapped[DefinitionStatus] = one_of(DefinitionStatus, "status", default=DefinitionStatus.DRAFT)
    template_content: Mapped[dict[str, Any]]
    parameters: Mapped[dict[str, Any] | None]
    dependencies: Mapped[Any | None]
    outputs: Mapped[dict[str, Any] | None]
    constraints: Mapped[Any | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    is_public: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    tags: Mapped[dict[str, Any] | None]
    latest_revision_id: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class TemplateRevision(Audited, Base):
    """What a template said when it was published; never changes. A plan pins one."""

    __tablename__ = "template_revision"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "template_id", "number"),
        within_tenant("template_id", "resource_template"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    template_id: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int] = mapped_column(Integer)
    status: Mapped[DefinitionStatus] = one_of(DefinitionStatus, "status", default=DefinitionStatus.PUBLISHED)
    content: Mapped[dict[str, Any]]
    checksum: Mapped[str] = mapped_column(String(64))
    # Copied from the template so that the policy on foreign reads needs no join.
    is_public: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    published_at: Mapped[datetime | None]
