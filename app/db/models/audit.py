"""What people did, in the order in which it was sealed. Nobody who acts may change or remove any of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, identity, one_of
from app.domain.audit import AuditOutcome


class AuditEntry(Base):
    """One act of somebody, or what they were refused, written in the transaction of the act."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index("idx_audit_entry_feed", "tenant_id", "feed", "id"),
        Index("idx_audit_entry_target", "tenant_id", "target_type", "target_id", "id"),
        Index("idx_audit_entry_actor", "tenant_id", "actor", "id"),
    )

    id: Mapped[int] = identity()
    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"))
    # The number of the transaction: what is sealed is below those still at work.
    feed: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str] = mapped_column(String(120))
    token_id: Mapped[int | None] = mapped_column(BigInteger)
    address: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(64))
    # The name of the mutation, or of what else was done.
    action: Mapped[str] = mapped_column(String(80))
    outcome: Mapped[AuditOutcome] = one_of(AuditOutcome, "outcome")
    target_type: Mapped[str | None] = mapped_column(String(60))
    target_id: Mapped[int | None] = mapped_column(BigInteger)
    # {"Type:id": {"column": value}}: what was, and what is; no secret, and nothing long.
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]


class AuditSeal(Base):
    """The place of an entry in the chain of its tenant: its hash is that of its text and of the hash before it."""

    __tablename__ = "audit_seal"
    __table_args__ = (UniqueConstraint("tenant_id", "entry_id"),)

    tenant_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tenant.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    entry_id: Mapped[int] = mapped_column(BigInteger)
    feed: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
