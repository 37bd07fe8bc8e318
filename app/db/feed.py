"""All events of a tenant in one order, for those who follow the tenant and not one job.

A number that is drawn when an event is written is no place to go on from: a smaller one may be committed later. A
counter of the tenant's would be one row that all its jobs wait for. So an event's place is the number of the
transaction that wrote it, raised to its stream's last place where that is higher; and nothing is read from where a
transaction may still be at work. What has been read is then complete, and each stream is in its own order.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.db.statements import Row, Statement
from app.db.uow import Transaction
from app.domain.errors import Invalid
from app.domain.events import EventKind, Stream
from app.domain.logs import micros_of, moment_of

# The first transaction that is not over yet. What it and all later ones write is not settled.
HORIZON = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_LAST = 2**63 - 1
# f1 does not say when the event was written, which tells it from those of a history that was undone.
_PLAIN, _DATED = "f1", "f2"

_READ = Statement(
    "SELECT feed, stream, stream_id, seq, kind, at, actor, correlation_id, data FROM event_log"  # noqa: S608
    " WHERE tenant_id = :tenant AND (feed, stream, stream_id, seq) > (:feed, :stream, :stream_id, :seq)"
    f" AND feed < {HORIZON} ORDER BY feed, stream, stream_id, seq LIMIT :limit"
)
_HEAD = Statement(f"SELECT {HORIZON} AS feed")
_SINCE = Statement(
    f"SELECT least(min(feed), {HORIZON}) AS feed FROM event_log WHERE tenant_id = :tenant AND at >= :start"  # noqa: S608
)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a tenant's feed; every event has one, and later events have greater ones."""

    feed: int
    stream: str
    stream_id: int
    seq: int
    # When the event was written, where that is known: app.domain.cursors.
    at: datetime | None = field(default=None, compare=False)

    def encode(self) -> str:
        """As an opaque cursor."""
        plain = f"{self.feed}:{self.stream}:{self.stream_id}:{self.seq}"
        plain = f"{_PLAIN}:{plain}" if self.at is None else f"{_DATED}:{plain}:{micros_of(self.at)}"
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, *, argument: str = "after") -> Position:
        """The place that a cursor names. Raises Invalid, with the path of `argument`, for any other text."""
        try:
            padded = text + "=" * (-len(text) % 4)
            plain = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
            version, feed, stream, stream_id, seq, *dated = plain.split(":")
            at = moment_of(int(dated[0])) if dated else None
            position = cls(int(feed), stream, int(stream_id), int(seq), at)
        except (ValueError, OverflowError, binascii.Error) as error:
            message = "this is no cursor of a tenant's feed"
            raise Invalid(message, path=(argument,)) from error
        numbers = (position.feed, position.stream_id, position.seq)
        if (version, len(dated)) not in {(_PLAIN, 0), (_DATED, 1)} or not all(
            0 <= number <= _LAST for number in numbers
        ):
            message = "this is no cursor of a tenant's feed"
            raise Invalid(message, path=(argument,))
        return position


BEGINNING = Position(0, "", 0, 0)


@dataclass(frozen=True, slots=True)
class FedEvent:
    """An event and its place. `data` has the shape that app.domain.events gives for its kind."""

    position: Position
    stream: Stream
    stream_id: int
    seq: int
    kind: EventKind
    at: datetime
    actor: str | None
    correlation_id: str
    data: Mapping[str, Any]


async def read(transaction: Transaction, after: Position | None, limit: int) -> list[FedEvent]:
    """Up to `limit` settled events of the transaction's tenant after `after`, in order. None: from the beginning."""
    place = after or BEGINNING
    rows = await transaction.fetch(
        _READ,
        {
            "tenant": transaction.tenant_id,
            "feed": place.feed,
            "stream": place.stream,
            "stream_id": place.stream_id,
            "seq": place.seq,
            "limit": limit,
        },
    )
    return [_event(row) for row in rows]


async def head(transaction: Transaction) -> Position:
    """The place before which everything is settled: whoever begins here misses nothing that is yet to be committed.

    A transaction that is at work now is after it, whatever it has written already.
    """
    row = await transaction.fetch_one(_HEAD, {})
    if row is None:
        message = "the database does not say which transactions are over"
        raise LookupError(message)
    return Position(row["feed"], "", 0, 0)


async def since(transaction: Transaction, start: datetime) -> Position:
    """The place from which nothing that happened at `start` or later is missing; a little from before may be there."""
    row = await transaction.fetch_one(_SINCE, {"tenant": transaction.tenant_id, "start": start})
    return await head(transaction) if row is None else Position(row["feed"], "", 0, 0)


def _event(row: Row) -> FedEvent:
    return FedEvent(
        position=Position(row["feed"], row["stream"], row["stream_id"], row["seq"], row["at"]),
        stream=Stream(row["stream"]),
        stream_id=row["stream_id"],
        seq=row["seq"],
        kind=EventKind(row["kind"]),
        at=row["at"],
        actor=row["actor"],
        correlation_id=row["correlation_id"],
        data=row["data"],
    )
