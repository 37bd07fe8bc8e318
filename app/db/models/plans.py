"""Deployment plans: what shall be, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import (
    Audited,
    Base,
    SoftDeleted,
    identity,
    one_of,
    or_later,
    owned_by_tenant,
    within_tenant,
)
from app.domain.enums import FailureStrategy, FiringOutcome, PlanType, RollbackScope, StatusReason
from app.domain.statuses import PlanStatus


class DeploymentPlan(Audited, SoftDeleted, Base):
    """One intended change of a stack. A finished plan stays as the record of what it did."""

    __tablename__ = "deployment_plan"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("user_id", "app_user"),
        within_tenant("submitted_by_id", "app_user"),
        within_tenant("workflow_id", "workflow"),
        # A public template may belong to another tenant, so its tenant is named beside it.
        ForeignKeyConstraint(
            ["template_tenant_id", "template_id"],
            ["resource_template.tenant_id", "resource_template.id"],
            name="fk_deployment_plan_template",
        ),
        ForeignKeyConstraint(
            ["template_tenant_id", "template_revision_id"],
            ["template_revision.tenant_id", "template_revision.id"],
            name="fk_deployment_plan_template_revision",
        ),
        within_tenant("parent_plan_id", "deployment_plan"),
        within_tenant("rollback_of_id", "deployment_plan"),
        Index("idx_deployment_plan_tenant", "tenant_id"),
        Index("idx_deployment_plan_user", "user_id"),
        Index("idx_deployment_plan_workflow", "workflow_id"),
        Index("idx_deployment_plan_template", "template_id"),
        Index("idx_deployment_plan_type", "plan_type"),
        Index("idx_deployment_plan_status", "status"),
        Index("idx_deployment_plan_scheduled", "scheduled_at"),
        Index("idx_deployment_plan_page", "tenant_id", "created_at", "id"),
        Index("idx_deployment_plan_name", "tenant_id", "plan_name", "id"),
        Index("idx_deployment_plan_tenant_status", "tenant_id", "status", "created_at", "id"),
        Index("idx_deployment_plan_scheduled_order", "tenant_id", "scheduled_order", "id"),
        Index("idx_deployment_plan_started_order", "tenant_id", "started_order", "id"),
        Index("idx_deployment_plan_updated", "tenant_id", "updated_at", "id"),
        Index("idx_deployment_plan_stack", "tenant_id", "stack", "created_at", "id"),
        Index(
            "idx_deployment_plan_parent",
            "tenant_id",
            "parent_plan_id",
            "id",
            postgresql_where=text("parent_plan_id IS NOT NULL"),
        ),
        # Timers: a plan that has gone on leaves them by its status, so that nobody has to remember to stop them.
        Index(
            "idx_deployment_plan_valid_until",
            "valid_until",
            postgresql_where=text(
                "NOT is_deleted AND valid_until IS NOT NULL"
                " AND status IN ('PENDING_APPROVAL', 'READY', 'SCHEDULED', 'WAITING')"
            ),
        ),
        Index(
            "idx_deployment_plan_approval_deadline",
            "approval_deadline",
            postgresql_where=text("NOT is_deleted AND approval_deadline IS NOT NULL AND status = 'PENDING_APPROVAL'"),
        ),
        Index(
            "idx_deployment_plan_fire_at",
            "fire_at",
            postgresql_where=text("NOT is_deleted AND fire_at IS NOT NULL AND status = 'SCHEDULED'"),
        ),
        Index("idx_deployment_plan_ttl_at", "ttl_at", postgresql_where=text("ttl_at IS NOT NULL")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    # Whoever asked for it last; with its maker they are the authors, who do not approve their own.
    submitted_by_id: Mapped[int | None] = mapped_column(BigInteger)
    workflow_id: Mapped[int | None] = mapped_column(BigInteger)
    template_tenant_id: Mapped[int | None] = mapped_column(BigInteger)
    template_id: Mapped[int | None] = mapped_column(BigInteger)
    template_revision_id: Mapped[int | None] = mapped_column(BigInteger)
    plan_name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    plan_type: Mapped[PlanType] = one_of(PlanType, "plan_type")
    status: Mapped[PlanStatus] = one_of(PlanStatus, "status", default=PlanStatus.DRAFT)
    status_reason: Mapped[StatusReason] = one_of(StatusReason, "status_reason", default=StatusReason.NONE)
    status_message: Mapped[str | None] = mapped_column(Text)
    stack: Mapped[str] = mapped_column(String(200))
    configuration: Mapped[dict[str, Any] | None]
    parameters: Mapped[dict[str, Any] | None]
    resources: Mapped[Any | None]
    dependencies: Mapped[Any | None]
    # The state that a plan restores which undoes another, sealed: app.domain.planning.restoring.
    target: Mapped[dict[str, Any] | None]
    # Keys of the resources that alone it is about, with what they need; null: of all.
    only_keys: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    constraints: Mapped[Any | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    failure_strategy: Mapped[FailureStrategy] = one_of(
        FailureStrategy, "failure_strategy", default=FailureStrategy.ROLLBACK
    )
    rollback_scope: Mapped[RollbackScope] = one_of(RollbackScope, "rollback_scope", default=RollbackScope.JOB)
    schedule: Mapped[dict[str, Any] | None]
    condition: Mapped[Any | None]
    valid_until: Mapped[datetime | None]
    preview: Mapped[dict[str, Any] | None]
    preview_hash: Mapped[str | None] = mapped_column(String(64))
    # Counts how often approval was asked for: reviews of earlier rounds count for nothing.
    review_round: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    approval_deadline: Mapped[datetime | None]
    diagnostics: Mapped[list[Any] | None]
    # What policies said of it when it was last worked out.
    policy_results: Mapped[list[Any] | None]
    parent_plan_id: Mapped[int | None] = mapped_column(BigInteger)
    rollback_of_id: Mapped[int | None] = mapped_column(BigInteger)
    # The jobs a dashboard asks for first; no foreign key, because the job refers back.
    active_job_id: Mapped[int | None] = mapped_column(BigInteger)
    last_job_id: Mapped[int | None] = mapped_column(BigInteger)
    event_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    # When the newest of these facts was written; it stands in that fact, too: app.domain.cursors.
    event_at: Mapped[datetime | None]
    feed: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    # When its schedule says; `fire_at` is when the tick looks, which jitter makes later.
    scheduled_at: Mapped[datetime | None]
    scheduled_order: Mapped[datetime] = or_later("scheduled_at")
    fire_at: Mapped[datetime | None]
    # When what it made has lived long enough; and whether it is the plan that takes such things away.
    ttl_seconds: Mapped[int | None] = mapped_column(BigInteger)
    ttl_at: Mapped[datetime | None]
    teardown: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    started_at: Mapped[datetime | None]
    started_order: Mapped[datetime] = or_later("started_at")
    completed_at: Mapped[datetime | None]
    duration_seconds: Mapped[int | None] = mapped_column(Integer)
    error_message: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class PlanResource(Base):
    """Which resources a plan works on; both directions of the customer's relation."""

    __tablename__ = "plan_resource"
    __table_args__ = (
        within_tenant("plan_id", "deployment_plan"),
        within_tenant("resource_id", "cloud_resource"),
        Index("idx_plan_resource_resource", "tenant_id", "resource_id"),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    plan_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    resource_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)


class PlanDependency(Base):
    """A plan that waits until another one has succeeded: because somebody said so, because it reads its outputs."""

    __tablename__ = "plan_dependency"
    __table_args__ = (
        within_tenant("plan_id", "deployment_plan"),
        within_tenant("upstream_id", "deployment_plan"),
        Index("idx_plan_dependency_upstream", "tenant_id", "upstream_id"),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    plan_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    upstream_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    declared: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    # The name under which expressions of the plan read it; null where none does.
    read_as: Mapped[str | None] = mapped_column(String(200))


class Approval(Audited, Base):
    """One person's review of one preview of a plan."""

    __tablename__ = "approval"
    __table_args__ = (
        within_tenant("plan_id", "deployment_plan"),
        within_tenant("user_id", "app_user"),
        Index("idx_approval_plan", "tenant_id", "plan_id"),
        # A person says the same but once in a round; who approved may still reject.
        Index(
            "uq_approval_tenant_id_plan_id_round_user_id_approved",
            "tenant_id",
            "plan_id",
            "round",
            "user_id",
            "approved",
            unique=True,
        ),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    plan_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int] = mapped_column(BigInteger)
    approved: Mapped[bool] = mapped_column(Boolean)
    preview_hash: Mapped[str] = mapped_column(String(64))
    round: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    comment: Mapped[str | None] = mapped_column(Text)


class PlanFiring(Base):
    """One time of a recurring plan and what came of it. Its key is why no time fires twice."""

    __tablename__ = "plan_firing"
    __table_args__ = (
        within_tenant("plan_id", "deployment_plan"),
        within_tenant("child_plan_id", "deployment_plan"),
        Index("idx_plan_firing_queued", "tenant_id", "plan_id", "fire_at", postgresql_where=text("outcome = 'QUEUED'")),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    plan_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    fire_at: Mapped[datetime] = mapped_column(primary_key=True)
    outcome: Mapped[FiringOutcome] = one_of(FiringOutcome, "outcome")
    child_plan_id: Mapped[int | None] = mapped_column(BigInteger)
    # Not to be tried before; set when carrying it out met a fault of ours.
    retry_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
