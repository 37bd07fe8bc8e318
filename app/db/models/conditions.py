"""What was seen of a condition or a trigger, and what followed from it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Index, String, Text, func, text
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
