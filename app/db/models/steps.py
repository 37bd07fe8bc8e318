"""Step runs, their attempts, and the journal of effects that rollback reads."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Float, Index, Integer, String, Text, UniqueConstraint, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, identity, one_of, owned_by_tenant, within_tenant
from app.domain.enums import ChangeAction, FailureStrategy, GateKind, JobDirection, StatusReason, StepType
from app.domain.operations import EffectState, OperationKind, Phase
from app.domain.statuses import StepStatus


class StepRun(Base):
    """One step of one job. The row is its own dispatch outbox.

    A row with `due_at` and without `worker_id` wants to be run at `due_at`; the tick rings a worker for it until some
    worker claims it. `fence` grows whenever the right to write is taken away from a worker.
    """

    __tablename__ = "step_run"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "job_id", "step_key"),
        within_tenant("job_id", "orchestration_job"),
        within_tenant("resource_id", "cloud_resource"),
        within_tenant("workflow_step_id", "workflow_step"),
        Index("idx_step_run_job", "job_id"),
        Index(
            "idx_step_run_due",
            "tenant_id",
            "due_at",
            "id",
            postgresql_where=text("due_at IS NOT NULL AND worker_id IS NULL"),
        ),
        Index("idx_step_run_worker", "worker_id", postgresql_where=text("worker_id IS NOT NULL")),
        Index(
            "idx_step_run_lost",
            "due_at",
            postgresql_where=text("worker_id IS NULL AND status_reason = 'WORKER_LOST' AND due_at IS NOT NULL"),
        ),
        Index(
            "idx_step_run_expires",
            "expires_at",
            postgresql_where=text(
                "expires_at IS NOT NULL AND worker_id IS NULL AND status IN ('READY', 'RETRY_WAIT', 'WAITING')"
            ),
        ),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    job_id: Mapped[int] = mapped_column(BigInteger)
    step_key: Mapped[str] = mapped_column(String(250))
    name: Mapped[str] = mapped_column(String(250))
    step_type: Mapped[StepType] = one_of(StepType, "step_type")
    operation: Mapped[OperationKind] = one_of(OperationKind, "operation")
    phase: Mapped[Phase] = one_of(Phase, "phase", default=Phase.APPLY)
    # The planned change; what was really done is in the effect.
    change: Mapped[ChangeAction] = one_of(ChangeAction, "change")
    status: Mapped[StepStatus] = one_of(StepStatus, "status", default=StepStatus.PENDING)
    status_reason: Mapped[StatusReason] = one_of(StatusReason, "status_reason", default=StatusReason.NONE)
    status_message: Mapped[str | None] = mapped_column(Text)
    wave: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    needs: Mapped[list[str]] = mapped_column(ARRAY(String(250)))
    # The step as planned, expressions unevaluated: type, properties, condition, retry policy, error handling.
    spec: Mapped[dict[str, Any]]
    workflow_step_id: Mapped[int | None] = mapped_column(BigInteger)
    resource_id: Mapped[int | None] = mapped_column(BigInteger)
    # Where a rollback job's step finds the effects to undo: the step run that made them.
    undo_of_id: Mapped[int | None] = mapped_column(BigInteger)
    # Whether an intent was ever written: only then can there be something to undo.
    touched: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    attempt: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    undo_attempt: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    max_attempts: Mapped[int] = mapped_column(Integer, default=3, server_default=text("3"))
    crashes: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    # How often an unknown outcome was asked for since it became unknown.
    observations: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    # Of one attempt; of all of them; of silence. None: that one does not apply.
    timeout_seconds: Mapped[float] = mapped_column(Float)
    total_seconds: Mapped[float | None] = mapped_column(Float)
    heartbeat_seconds: Mapped[float | None] = mapped_column(Float)
    operation_id: Mapped[UUID] = mapped_column(Uuid)
    fence: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    worker_id: Mapped[int | None] = mapped_column(BigInteger)
    due_at: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]
    dispatches: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    deadline_at: Mapped[datetime | None]
    # The timers of `total_seconds`, from the first attempt, and of `heartbeat_seconds`, while somebody has the step.
    expires_at: Mapped[datetime | None]
    silent_at: Mapped[datetime | None]
    handle: Mapped[dict[str, Any] | None]
    percent: Mapped[float | None] = mapped_column(Float)
    inputs: Mapped[dict[str, Any] | None]
    outputs: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    not_run_because: Mapped[str | None] = mapped_column(String(250))
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]


class StepAttempt(Base):
    """One try of a step, or of its compensation, by one worker."""

    __tablename__ = "step_attempt"
    __table_args__ = (
        within_tenant("step_run_id", "step_run"),
        UniqueConstraint("tenant_id", "step_run_id", "direction", "number"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    step_run_id: Mapped[int] = mapped_column(BigInteger)
    direction: Mapped[JobDirection] = one_of(JobDirection, "direction")
    number: Mapped[int] = mapped_column(Integer)
    worker: Mapped[str | None] = mapped_column(String(200))
    fence: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None]
    counts: Mapped[bool] = mapped_column(Boolean, default=True, server_default=text("true"))


class StepEffect(Base):
    """A side effect in the outside world: INTENT is committed before the call, the rest after it."""

    __tablename__ = "step_effect"
    __table_args__ = (
        within_tenant("job_id", "orchestration_job"),
        within_tenant("step_run_id", "step_run"),
        within_tenant("resource_id", "cloud_resource"),
        UniqueConstraint("tenant_id", "step_run_id", "direction"),
        Index("idx_step_effect_job", "tenant_id", "job_id"),
        Index("idx_step_effect_sweep", "sweep_at", postgresql_where=text("sweep_at IS NOT NULL")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    job_id: Mapped[int] = mapped_column(BigInteger)
    step_run_id: Mapped[int] = mapped_column(BigInteger)
    direction: Mapped[JobDirection] = one_of(JobDirection, "direction")
    resource_id: Mapped[int | None] = mapped_column(BigInteger)
    action: Mapped[ChangeAction] = one_of(ChangeAction, "action")
    state: Mapped[EffectState] = one_of(EffectState, "state", default=EffectState.INTENT)
    operation_id: Mapped[UUID] = mapped_column(Uuid)
    # Provider states {id, properties, outputs, private, version}, and what the action gave back for its undoing.
    before: Mapped[dict[str, Any] | None]
    intended: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    undo: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    completed_at: Mapped[datetime | None]
    # When the provider is asked again what an undone operation has made after all, and how often it was.
    sweep_at: Mapped[datetime | None]
    sweeps: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))


class Gate(Base):
    """A question to a person, inside a run; its answer lets the step go on."""

    __tablename__ = "gate"
    __table_args__ = (
        within_tenant("step_run_id", "step_run"),
        UniqueConstraint("tenant_id", "step_run_id"),
        Index(
            "idx_gate_deadline",
            "deadline_at",
            postgresql_where=text("deadline_at IS NOT NULL AND closed_at IS NULL"),
        ),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    step_run_id: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[GateKind] = one_of(GateKind, "kind", default=GateKind.APPROVAL)
    prompt: Mapped[str] = mapped_column(Text)
    input_schema: Mapped[dict[str, Any] | None]
    # E-mail addresses of those who alone may answer; empty, whoever has APPROVE may.
    approvers: Mapped[list[str]] = mapped_column(ARRAY(String(320)), server_default=text("'{}'"), default=list)
    # Whom else somebody has let answer who may: [{"from", "to", "at", "comment"}], the first first.
    delegations: Mapped[list[Any] | None]
    on_timeout: Mapped[FailureStrategy] = one_of(FailureStrategy, "on_timeout", default=FailureStrategy.HALT)
    deadline_at: Mapped[datetime | None]
    approved: Mapped[bool | None] = mapped_column(Boolean)
    answer: Mapped[Any | None]
    comment: Mapped[str | None] = mapped_column(Text)
    answered_by: Mapped[str | None] = mapped_column(String(120))
    answered_at: Mapped[datetime | None]
    # When the question was over, by an answer or without one.
    closed_at: Mapped[datetime | None]
