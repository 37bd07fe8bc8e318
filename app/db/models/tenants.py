"""Tenants, the people in them, and the tokens they come with."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Audited, Base, SoftDeleted, identity, one_of, owned_by_tenant, within_tenant
from app.domain.enums import Role, TokenKind, UserKind


class Tenant(Audited, SoftDeleted, Base):
    """An organisation. Everything else belongs to exactly one."""

    __tablename__ = "tenant"
    __table_args__ = (UniqueConstraint("slug"),)

    id: Mapped[int] = identity()
    name: Mapped[str] = mapped_column(String(200))
    slug: Mapped[str] = mapped_column(String(63))
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # SQLAlchemy reads it from the class


class TenantLimit(Base):
    """How much the tenant may have under way. A tenant without a row has the defaults of `app.domain.limits`."""

    __tablename__ = "tenant_limit"
    __table_args__ = (
        CheckConstraint("max_running_jobs > 0", name="running"),
        CheckConstraint("max_queued_jobs > 0", name="queued"),
        CheckConstraint("max_resources > 0", name="resources"),
        CheckConstraint("max_plans > 0", name="plans"),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"), primary_key=True)
    max_running_jobs: Mapped[int] = mapped_column(Integer)
    max_queued_jobs: Mapped[int] = mapped_column(Integer)
    # None: as many as it likes.
    max_resources: Mapped[int | None] = mapped_column(Integer)
    max_plans: Mapped[int | None] = mapped_column(Integer)


class User(Audited, SoftDeleted, Base):
    """A person of one tenant, or somebody who acts there as one would; nobody else is listed as a person."""

    __tablename__ = "app_user"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("custom_role_id", "custom_role"),
        CheckConstraint("custom_role_id IS NULL OR role = 'VIEWER'", name="custom"),
        Index(
            "idx_app_user_custom_role",
            "tenant_id",
            "custom_role_id",
            postgresql_where=text("custom_role_id IS NOT NULL"),
        ),
        Index(
            "uq_app_user_tenant_id_email",
            "tenant_id",
            "email",
            unique=True,
            postgresql_where=text("NOT is_deleted AND kind = 'PERSON'"),
        ),
        Index(
            "uq_app_user_service_account",
            "tenant_id",
            "display_name",
            unique=True,
            postgresql_where=text("NOT is_deleted AND kind = 'SERVICE_ACCOUNT'"),
        ),
        Index("uq_app_user_platform", "tenant_id", "email", unique=True, postgresql_where=text("kind = 'PLATFORM'")),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    email: Mapped[str] = mapped_column(String(320))
    display_name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[UserKind] = one_of(UserKind, "kind", default=UserKind.PERSON)
    # Of a service account: whether it may approve, where its role allows that.
    may_approve: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    role: Mapped[Role] = one_of(Role, "role")
    # In place of `role`, which then is the least of them.
    custom_role_id: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(Integer, default=1, server_default=text("1"))
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class ApiToken(Audited, Base):
    """A credential of a user. Only the hash of its secret is stored."""

    __tablename__ = "api_token"
    __table_args__ = (
        UniqueConstraint("public_id"),
        UniqueConstraint("tenant_id", "id"),
        within_tenant("user_id", "app_user"),
        within_tenant("custom_role_id", "custom_role"),
        within_tenant("platform_access_id", "platform_access"),
        CheckConstraint("kind <> 'PLATFORM' OR platform_access_id IS NOT NULL", name="platform"),
        Index("idx_api_token_user", "tenant_id", "user_id"),
        Index(
            "idx_api_token_platform_access",
            "tenant_id",
            "platform_access_id",
            postgresql_where=text("platform_access_id IS NOT NULL"),
        ),
        Index(
            "idx_api_token_custom_role",
            "tenant_id",
            "custom_role_id",
            postgresql_where=text("custom_role_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = owned_by_tenant()
    user_id: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[TokenKind] = one_of(TokenKind, "kind", default=TokenKind.API)
    name: Mapped[str] = mapped_column(String(200))
    public_id: Mapped[str] = mapped_column(String(16))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(20)))
    # Narrows it further, to what the role says at the time.
    custom_role_id: Mapped[int | None] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    # Of a session: when its owner logged in; renewing it does not change that.
    session_since: Mapped[datetime | None]
    platform_access_id: Mapped[int | None] = mapped_column(BigInteger)


class UserPassword(Base):
    """What somebody proves themselves by where there is no other authority."""

    __tablename__ = "user_password"
    __table_args__ = (within_tenant("user_id", "app_user"),)

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
