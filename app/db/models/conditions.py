"""What plans wait for: what they watch, the signals they were sent, and what was seen each time they were looked at."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, String, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, identity, one_of, owned_by_tenant, within_tenant
from app.domain.enums import StatusReason


class ConditionEvaluation(Base):
    """One look at what makes a plan run, or several in a row that saw the same.

    `at` is the first of them and `last_at` the last; `inputs` are those of the last, a JSON object.
    """

    __tablename__ = "condition_evaluation"
    __table_args__ = (
        within_tenant("plan_id", "deployment_plan"),
        within_tenant("spawned_plan_id", "deployment_plan"),
        Index("idx_condition_evaluation_plan", "tenant_id", "plan_id", "at", "id"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    plan_id: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    last_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    times: Mapped[int] = mapped_column(BigInteger, default=1, server_default=text("1"))
    result: Mapped[bool] = mapped_column(Boolean)
    trigger: Mapped[str] = mapped_column(String(120))
    inputs: Mapped[dict[str, Any]]
    skip_reason: Mapped[StatusReason | None] = one_of(StatusReason, "skip_reason")
    message: Mapped[str | None] = mapped_column(Text)
    spawned_plan_id: Mapped[int | None] = mapped_column(BigInteger)


class PlanWatch(Base):
    """What a plan that waits for its condition remembers. Written under the plan's lock, but for the marks.

    `look_at` is the timer. A mark says that something it reads has changed: whoever was looking meanwhile finds their
    number grown, and lets it be looked at again. `because` says who set the timer.
    """

    __tablename__ = "plan_watch"
    __table_args__ = (
        within_tenant("plan_id", "deployment_plan"),
        Index("idx_plan_watch_look_at", "look_at", postgresql_where=text("look_at IS NOT NULL")),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    plan_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    subjects: Mapped[list[str]] = mapped_column(ARRAY(Text))
    armed: Mapped[bool] = mapped_column(Boolean, default=True, server_default=text("true"))
    true_since: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]
    fired_at: Mapped[datetime | None]
    look_at: Mapped[datetime | None]
    because: Mapped[str] = mapped_column(String(120))
    marks: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))


class PlanSignal(Base):
    """A word from outside that a plan waits for; the newest of each name, until the plan has run because of it."""

    __tablename__ = "plan_signal"
    __table_args__ = (within_tenant("plan_id", "deployment_plan"),)

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    plan_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    payload: Mapped[Any | None]
    count: Mapped[int] = mapped_column(BigInteger, default=1, server_default=text("1"))
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    sent_by: Mapped[str | None] = mapped_column(String(120))


class WatchCursor(Base):
    """Up to where the tenant's feed has been looked through for what plans watch."""

    __tablename__ = "watch_cursor"

    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"), primary_key=True)
    feed: Mapped[int] = mapped_column(BigInteger)
