"""Standing plans: what they listen to, how far that has been heard, and what came of each trigger."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, one_of, owned_by_tenant, within_tenant
from app.domain.automation import TriggerKind
from app.domain.enums import StatusReason
from app.domain.firing import TriggerOutcome


class PlanAutomation(Base):
    """What a plan of type AUTOMATED listens to while it waits or is paused; gone when it does neither."""

    __tablename__ = "plan_automation"
    __table_args__ = (
        within_tenant("plan_id", "deployment_plan"),
        Index("idx_plan_automation_look_at", "look_at", postgresql_where=text("look_at IS NOT NULL")),
        Index("idx_plan_automation_fire_at", "fire_at", postgresql_where=text("fire_at IS NOT NULL")),
        Index(
            "idx_plan_automation_template",
            "template_tenant_id",
            "template_id",
            postgresql_where=text("template_id IS NOT NULL"),
        ),
        Index("idx_plan_automation_key", "tenant_id", "concurrency_key"),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    plan_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # The whole document, the workflow's part included, as it was when the plan began to wait.
    automation: Mapped[dict[str, Any]]
    concurrency_key: Mapped[str] = mapped_column(String(240))
    # Where the tenant's feed was when it began to wait: what happened before is not meant for it.
    armed_feed: Mapped[int] = mapped_column(BigInteger)
    # Runs up to this one do not count for the circuit breaker.
    counts_after: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    # When to look at it next: for its recurrence, and because something about it has changed.
    fire_at: Mapped[datetime | None]
    look_at: Mapped[datetime | None]
    # Not to be looked at before; set when that met a fault of ours.
    retry_at: Mapped[datetime | None]
    # The template that it follows, and the newest revision of it that was seen.
    template_tenant_id: Mapped[int | None] = mapped_column(BigInteger)
    template_id: Mapped[int | None] = mapped_column(BigInteger)
    seen_revision_id: Mapped[int | None] = mapped_column(BigInteger)


class AutomationFeed(Base):
    """How far the feed of a tenant has been heard on behalf of all its standing plans."""

    __tablename__ = "automation_feed"

    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"), primary_key=True)
    feed: Mapped[int] = mapped_column(BigInteger)
    stream: Mapped[str] = mapped_column(String(40))
    stream_id: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int] = mapped_column(BigInteger)


class PlanTrigger(Base):
    """One thing that a standing plan has heard, and what came of it. Its key is why nothing fires twice.

    `chain` are the standing plans that led to it, the first first; `cause` is what expressions may read of it.
    """

    __tablename__ = "plan_trigger"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "plan_id", "kind", "key"),
        within_tenant("plan_id", "deployment_plan"),
        within_tenant("child_plan_id", "deployment_plan"),
        Index("idx_plan_trigger_pending", "tenant_id", "plan_id", "id", postgresql_where=text("outcome = 'PENDING'")),
        Index(
            "idx_plan_trigger_child", "tenant_id", "child_plan_id", postgresql_where=text("child_plan_id IS NOT NULL")
        ),
        Index("idx_plan_trigger_plan", "tenant_id", "plan_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[int] = owned_by_tenant()
    plan_id: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[TriggerKind] = one_of(TriggerKind, "kind")
    key: Mapped[str] = mapped_column(String(300))
    chain: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), default=list, server_default=text("'{}'"))
    cause: Mapped[dict[str, Any]]
    # What came with a webhook; forgotten once it is decided about.
    payload: Mapped[Any | None]
    outcome: Mapped[TriggerOutcome] = one_of(TriggerOutcome, "outcome", default=TriggerOutcome.PENDING)
    reason: Mapped[StatusReason] = one_of(StatusReason, "reason", default=StatusReason.NONE)
    message: Mapped[str | None] = mapped_column(Text)
    concurrency_key: Mapped[str | None] = mapped_column(String(240))
    child_plan_id: Mapped[int | None] = mapped_column(BigInteger)
    # Of one that waits for a run to end: when to look again although nobody has said that it has.
    retry_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    decided_at: Mapped[datetime | None]


class PlanHook(Audited, Base):
    """The address under which the world outside may fire a plan: a hash of its token, and perhaps a signing secret."""

    __tablename__ = "plan_hook"
    __table_args__ = (
        within_tenant("plan_id", "deployment_plan"),
        Index("uq_plan_hook_token_hash", "token_hash", unique=True),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    plan_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    # Sealed. Without one nobody signs.
    signing_secret: Mapped[Any | None]
