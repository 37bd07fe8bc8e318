"""Cloud resources: what is recorded of the things in the outside world."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, SoftDeleted, identity, one_of, owned_by_tenant, within_tenant
from app.domain.enums import DriftStatus
from app.domain.statuses import ResourceStatus

_ALIVE = text("status NOT IN ('DELETED', 'DETACHED')")


class CloudResource(Audited, SoftDeleted, Base):
    """One real thing, known by (tenant, stack, key) across plans. A recreated thing is a new row."""

    __tablename__ = "cloud_resource"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("owner_plan_id", "deployment_plan"),
        Index("uq_cloud_resource_key", "tenant_id", "stack", "resource_key", unique=True, postgresql_where=_ALIVE),
        Index("idx_cloud_resource_status", "tenant_id", "status", "created_at", "id"),
        Index("idx_cloud_resource_updated", "tenant_id", "updated_at", "id"),
        Index("idx_cloud_resource_name", "tenant_id", "name", "id"),
        Index("idx_cloud_resource_page", "tenant_id", "created_at", "id"),
        Index("idx_cloud_resource_owner", "tenant_id", "owner_plan_id"),
        Index(
            "idx_cloud_resource_observe_at",
            "observe_at",
            postgresql_where=text("observe_at IS NOT NULL AND status IN ('ACTIVE', 'IMPORTING', 'UNKNOWN')"),
        ),
        Index("idx_cloud_resource_revert_at", "revert_at", postgresql_where=text("revert_at IS NOT NULL")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    stack: Mapped[str] = mapped_column(String(200))
    resource_key: Mapped[str] = mapped_column(String(250))
    name: Mapped[str] = mapped_column(String(250))
    type: Mapped[str] = mapped_column(String(120))
    provider: Mapped[str] = mapped_column(String(60))
    connection: Mapped[str | None] = mapped_column(String(120))
    region: Mapped[str | None] = mapped_column(String(60))
    external_id: Mapped[str | None] = mapped_column(Text)
    status: Mapped[ResourceStatus] = one_of(ResourceStatus, "status", default=ResourceStatus.PLANNED)
    drift_status: Mapped[DriftStatus] = one_of(DriftStatus, "drift_status", default=DriftStatus.NOT_CHECKED)
    drift_checked_at: Mapped[datetime | None]
    # What differs ([{path, expected, actual, sensitive}]), and the differences that do not count.
    drift: Mapped[list[Any] | None]
    drift_ignores: Mapped[list[Any] | None]
    # An observation: when it is due, whose it is until when, and how often in a row it failed.
    observe_at: Mapped[datetime | None]
    observe_until: Mapped[datetime | None]
    observe_fence: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    observe_failures: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    observe_error: Mapped[dict[str, Any] | None]
    # The step run whose effect on it nobody knows the outcome of, or that failed before the resource had an identity;
    # and the identity under which somebody wants it taken as it is.
    in_doubt_step_id: Mapped[int | None] = mapped_column(BigInteger)
    adopt_id: Mapped[str | None] = mapped_column(Text)
    # When its owner plan is to be asked to put it back.
    revert_at: Mapped[datetime | None]
    # desired: as the plan rendered it; applied: as we last left it; observed: as last seen at the provider.
    desired: Mapped[dict[str, Any] | None]
    applied: Mapped[dict[str, Any] | None]
    observed: Mapped[dict[str, Any] | None]
    outputs: Mapped[dict[str, Any] | None]
    private: Mapped[dict[str, Any] | None]
    state_version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    # Keys in the same stack that this one was last applied against: deletions run against these edges.
    depends_on: Mapped[list[str]] = mapped_column(ARRAY(String(250)), server_default=text("'{}'"))
    retain: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    prevent_destroy: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    owner_plan_id: Mapped[int | None] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class ResourceRevision(Base):
    """What a resource was after each change."""

    __tablename__ = "resource_revision"
    __table_args__ = (
        within_tenant("resource_id", "cloud_resource"),
        within_tenant("job_id", "orchestration_job"),
        UniqueConstraint("tenant_id", "resource_id", "number"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    resource_id: Mapped[int] = mapped_column(BigInteger)
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    number: Mapped[int] = mapped_column(Integer)
    properties: Mapped[dict[str, Any]]
    outputs: Mapped[dict[str, Any] | None]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class ProviderConnection(Audited, SoftDeleted, Base):
    """How to reach one outside system; secret values are sealed inside `config`."""

    __tablename__ = "provider_connection"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index("uq_provider_connection_name", "tenant_id", "name", unique=True, postgresql_where=text("NOT is_deleted")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    name: Mapped[str] = mapped_column(String(120))
    provider: Mapped[str] = mapped_column(String(60))
    config: Mapped[dict[str, Any]]
    is_default: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class ResourceLock(Base):
    """Who may write a stack's resources now; taken all at once or not at all, freed when the job ends."""

    __tablename__ = "resource_lock"
    __table_args__ = (
        within_tenant("job_id", "orchestration_job"),
        Index("idx_resource_lock_job", "tenant_id", "job_id"),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    lock_key: Mapped[str] = mapped_column(String(250), primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    taken_at: Mapped[datetime] = mapped_column(server_default=func.now())
