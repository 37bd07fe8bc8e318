"""The journal: facts and log lines of a job under one sequence, facts of a plan under its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, one_of, within_tenant
from app.domain.events import Stream


class EventLog(Base):
    """One fact, written in the transaction that made it true. Gapless per stream together with `JobLog`."""

    __tablename__ = "event_log"
    __table_args__ = (
        Index("idx_event_log_feed", "tenant_id", "feed", "stream", "stream_id", "seq"),
        Index("idx_event_log_at", "at", postgresql_using="brin"),
    )

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    stream: Mapped[Stream] = one_of(Stream, "stream", primary_key=True)
    stream_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # The place in the tenant's feed: app.db.feed. Events of simulated jobs have none.
    feed: Mapped[int | None] = mapped_column(BigInteger, default=0, server_default=text("0"))
    kind: Mapped[str] = mapped_column(String(60))
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str | None] = mapped_column(String(120))
    correlation_id: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]]


class JobLog(Base):
    """A batch of lines of one step, numbered first_seq..last_seq in the job's sequence.

    `lines` is a list of {"at", "level", "stream", "message", "fields"?}; the n-th line has seq first_seq + n.
    """

    __tablename__ = "job_log"
    __table_args__ = (within_tenant("job_id", "orchestration_job"),)

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    first_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    step_run_id: Mapped[int | None] = mapped_column(BigInteger)
    step_key: Mapped[str | None] = mapped_column(String(250))
    attempt: Mapped[int | None] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    lines: Mapped[list[Any]]
