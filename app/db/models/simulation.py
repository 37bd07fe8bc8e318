"""What simulated jobs record of resources: nothing of it is so."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, identity, one_of, owned_by_tenant, within_tenant
from app.domain.enums import DriftStatus
from app.domain.statuses import ResourceStatus


class SimulatedResource(Base):
    """One resource of the stack as a simulated job would leave it; gone when the job has ended.

    Columns mean what those of CloudResource do. `resource_id` is the real one, where there is one.
    """

    __tablename__ = "simulated_resource"
    __table_args__ = (
        within_tenant("job_id", "orchestration_job"),
        within_tenant("resource_id", "cloud_resource"),
        UniqueConstraint("tenant_id", "job_id", "resource_key"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    job_id: Mapped[int] = mapped_column(BigInteger)
    resource_key: Mapped[str] = mapped_column(String(250))
    resource_id: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[ResourceStatus] = one_of(ResourceStatus, "status")
    drift_status: Mapped[DriftStatus] = one_of(DriftStatus, "drift_status")
    drift: Mapped[list[Any] | None]
    external_id: Mapped[str | None] = mapped_column(Text)
    applied: Mapped[dict[str, Any] | None]
    outputs: Mapped[dict[str, Any] | None]
    private: Mapped[dict[str, Any] | None]
    state_version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
