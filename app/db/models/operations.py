"""What keeps the machinery honest: workers and their leases, idempotency keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Index, Integer, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, identity


class Worker(Base):
    """A worker process and the lease that it renews; a worker without a lease owns nothing."""

    __tablename__ = "worker"

    id: Mapped[int] = identity()
    name: Mapped[str] = mapped_column(String(200))
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int] = mapped_column(Integer)
    app_version: Mapped[str] = mapped_column(String(40))
    # How many steps it has at a time; one that does not say so is taken for one at the defaults.
    hands: Mapped[int] = mapped_column(Integer, default=32, server_default=text("32"))
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    lease_until: Mapped[datetime]
    missing_since: Mapped[datetime | None]
    draining: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    dead_at: Mapped[datetime | None]


class IdempotencyKey(Base):
    """A mutation that was carried out: the same key again answers with the same object."""

    __tablename__ = "idempotency_key"
    __table_args__ = (Index("idx_idempotency_key_at", "created_at"),)

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    operation: Mapped[str] = mapped_column(String(60))
    fingerprint: Mapped[str] = mapped_column(String(64))
    result: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
