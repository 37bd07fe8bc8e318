"""Workflows and the definitions of their steps. Run state lives in `steps`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, SoftDeleted, identity, one_of, owned_by_tenant, within_tenant
from app.domain.enums import DefinitionStatus, StepType, WorkflowType


class Workflow(Audited, SoftDeleted, Base):
    """A process of steps, reusable by many plans."""

    __tablename__ = "workflow"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index(
            "uq_workflow_tenant_name",
            "tenant_id",
            "workflow_name",
            unique=True,
            postgresql_where=text("NOT is_deleted"),
        ),
        Index("idx_workflow_tenant", "tenant_id"),
        Index("idx_workflow_name", "workflow_name"),
        Index("idx_workflow_type", "workflow_type"),
        Index("idx_workflow_status", "status"),
        Index("idx_workflow_active", "is_active"),
        Index("idx_workflow_tenant_status", "tenant_id", "status"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    workflow_name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    workflow_type: Mapped[WorkflowType] = one_of(WorkflowType, "workflow_type")
    status: Mapped[DefinitionStatus] = one_of(DefinitionStatus, "status", default=DefinitionStatus.DRAFT)
    definition: Mapped[dict[str, Any]]
    parameters: Mapped[dict[str, Any] | None]
    triggers: Mapped[Any | None]
    conditions: Mapped[Any | None]
    actions: Mapped[Any | None]
    is_active: Mapped[bool] = mapped_column(Boolean, default=True, server_default=text("true"))
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    last_executed: Mapped[datetime | None]
    execution_count: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    success_count: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    failure_count: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class WorkflowStep(Audited, SoftDeleted, Base):
    """One step as defined; `outputs` are the declared ones."""

    __tablename__ = "workflow_step"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("workflow_id", "workflow"),
        Index(
            "uq_workflow_step_key",
            "tenant_id",
            "workflow_id",
            "step_key",
            unique=True,
            postgresql_where=text("NOT is_deleted"),
        ),
        Index("idx_workflow_step_workflow", "workflow_id"),
        Index("idx_workflow_step_order", "step_order"),
        Index("idx_workflow_step_type", "step_type"),
        Index("idx_workflow_step_status", "status"),
        Index("idx_workflow_step_workflow_order", "workflow_id", "step_order"),
        Index(
            "idx_workflow_step_page",
            "tenant_id",
            "workflow_id",
            "step_order",
            "id",
            postgresql_where=text("NOT is_deleted"),
        ),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    workflow_id: Mapped[int] = mapped_column(BigInteger)
    step_key: Mapped[str] = mapped_column(String(200))
    step_name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    step_order: Mapped[int] = mapped_column(Integer)
    step_type: Mapped[StepType] = one_of(StepType, "step_type")
    status: Mapped[DefinitionStatus] = one_of(DefinitionStatus, "status", default=DefinitionStatus.DRAFT)
    configuration: Mapped[dict[str, Any] | None]
    inputs: Mapped[dict[str, Any] | None]
    outputs: Mapped[dict[str, Any] | None]
    conditions: Mapped[Any | None]
    actions: Mapped[Any | None]
    timeout_seconds: Mapped[int | None] = mapped_column(Integer)
    retry_count: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    error_handling: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
