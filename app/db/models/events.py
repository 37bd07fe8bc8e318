"""The journal: facts and log lines of a job under one sequence, facts of a plan under its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, SmallInteger, String, func, text
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
    """A chunk of lines of one attempt of a step, numbered first_seq..last_seq in the job's sequence: app.db.chunks.

    `levels` is the set of levels in it and `size` its bytes before packing. Partitioned by the week of `at` (UTC), so
    that what is too old is dropped and not deleted: migration 0024.
    """

    __tablename__ = "job_log"
    __table_args__ = (within_tenant("job_id", "orchestration_job"), {"postgresql_partition_by": "RANGE (at)"})

    tenant_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    first_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # In the key because the partitions need it there; the row lock of the job keeps first_seq unique without it.
    at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.clock_timestamp())
    last_seq: Mapped[int] = mapped_column(BigInteger)
    step_run_id: Mapped[int | None] = mapped_column(BigInteger)
    attempt: Mapped[int | None] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(Integer)
    levels: Mapped[int] = mapped_column(SmallInteger)
    codec: Mapped[int] = mapped_column(SmallInteger)
    step_key: Mapped[str | None] = mapped_column(String(250))
    # STORAGE EXTERNAL: it is packed already.
    body: Mapped[bytes] = mapped_column(LargeBinary)
