"""Orchestration jobs: one execution of a plan, forward or back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, SoftDeleted, identity, one_of, or_later, or_longer, within_tenant
from app.domain.enums import (
    CancelMode,
    CancelOutcome,
    FailureStrategy,
    JobDirection,
    JobType,
    RollbackCompleteness,
    RollbackScope,
    StatusReason,
)
from app.domain.statuses import JobStatus

_ORDERS = ("started_order", "completed_order", "duration_order")


class OrchestrationJob(Audited, SoftDeleted, Base):
    """A terminal job never changes again: retry and continued rollback make a new one with `parent_job_id`."""

    __tablename__ = "orchestration_job"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("plan_id", "deployment_plan"),
        within_tenant("parent_job_id", "orchestration_job"),
        Index("idx_orchestration_job_tenant", "tenant_id"),
        Index("idx_orchestration_job_plan", "plan_id"),
        Index("idx_orchestration_job_type", "job_type"),
        Index("idx_orchestration_job_status", "status"),
        Index("idx_orchestration_job_started", "started_at"),
        Index("idx_orchestration_job_page", "tenant_id", "created_at", "id"),
        Index("idx_orchestration_job_tenant_status", "tenant_id", "status", "created_at", "id"),
        Index("idx_orchestration_job_tenant_plan", "tenant_id", "plan_id", "created_at", "id"),
        *(Index(f"idx_orchestration_job_{name}", "tenant_id", name, "id") for name in _ORDERS),
        Index("idx_orchestration_job_pause", "pause_until", postgresql_where=text("pause_until IS NOT NULL")),
        Index(
            "idx_orchestration_job_queue_until",
            "queue_until",
            postgresql_where=text(
                "queue_until IS NOT NULL AND started_at IS NULL AND status IN ('QUEUED', 'DISPATCHED')"
            ),
        ),
        Index("idx_orchestration_job_queued", "tenant_id", "id", postgresql_where=text("status = 'QUEUED'")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    plan_id: Mapped[int] = mapped_column(BigInteger)
    job_name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str | None] = mapped_column(Text)
    job_type: Mapped[JobType] = one_of(JobType, "job_type")
    status: Mapped[JobStatus] = one_of(JobStatus, "status", default=JobStatus.QUEUED)
    status_reason: Mapped[StatusReason] = one_of(StatusReason, "status_reason", default=StatusReason.NONE)
    status_message: Mapped[str | None] = mapped_column(Text)
    direction: Mapped[JobDirection] = one_of(JobDirection, "direction", default=JobDirection.FORWARD)
    simulated: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    stack: Mapped[str] = mapped_column(String(200))
    # What every step sees: parameters, plan and tenant; frozen when the job is made.
    configuration: Mapped[dict[str, Any] | None]
    inputs: Mapped[dict[str, Any] | None]
    outputs: Mapped[dict[str, Any] | None]
    logs: Mapped[dict[str, Any] | None]
    artifacts: Mapped[list[Any] | None]
    error: Mapped[dict[str, Any] | None]
    failure_strategy: Mapped[FailureStrategy] = one_of(
        FailureStrategy, "failure_strategy", default=FailureStrategy.ROLLBACK
    )
    rollback_scope: Mapped[RollbackScope] = one_of(RollbackScope, "rollback_scope", default=RollbackScope.JOB)
    # Of a job that was rolled back: whether everything was.
    rollback_completeness: Mapped[RollbackCompleteness | None] = one_of(RollbackCompleteness, "rollback_completeness")
    parent_job_id: Mapped[int | None] = mapped_column(BigInteger)
    cancel_mode: Mapped[CancelMode | None] = one_of(CancelMode, "cancel_mode")
    cancel_outcome: Mapped[CancelOutcome | None] = one_of(CancelOutcome, "cancel_outcome")
    cancel_requested_at: Mapped[datetime | None]
    # Until when a worker has to have begun with it; the tick ends it otherwise.
    queue_until: Mapped[datetime | None]
    # The timer of a pause: then the tick ends it.
    pause_until: Mapped[datetime | None]
    priority: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    event_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    # When the newest of these facts was written; it stands in that fact, too: app.domain.cursors.
    event_at: Mapped[datetime | None]
    feed: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    # The log: lines and bytes written, and once it is full how many lines were left out since.
    log_lines: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    log_left_out: Mapped[int | None] = mapped_column(BigInteger)
    # How many times a lost worker's work was taken over.
    recoveries: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    retry_count: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    queued_at: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    duration_seconds: Mapped[int | None] = mapped_column(Integer)
    started_order: Mapped[datetime] = or_later("started_at")
    completed_order: Mapped[datetime] = or_later("completed_at")
    duration_order: Mapped[int] = or_longer("duration_seconds")
    error_message: Mapped[str | None] = mapped_column(Text)
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
