"""The rows of webhooks as delivery moves them: leased, opened, moved on with the log in one transaction, released.

What people change of an endpoint counts up its `version`; what delivery moves does not. Its place in the feed is only
ever moved from where the sender read it: a replay in between stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.db.feed import HORIZON, Position
from app.db.statements import Row, Statement
from app.db.uow import Transaction
from app.domain.webhooks import DeliverySource, DeliveryStatus, Outcome, Standing, WebhookStatus, judge

# How much of its log an endpoint keeps, and how many attempts may be waiting that somebody asked for.
KEPT = 1000
ASKED_LIMIT = 20

_PLACE = "(w.feed, w.feed_stream, w.feed_stream_id, w.feed_seq)"
LEASE = Statement(
    "UPDATE webhook_endpoint SET fence = fence + 1,"  # noqa: S608
    " lease_until = clock_timestamp() + make_interval(secs => :lease)"
    " WHERE id = (SELECT w.id FROM webhook_endpoint w WHERE NOT w.is_deleted"
    "  AND (w.lease_until IS NULL OR w.lease_until <= statement_timestamp())"
    "  AND ((w.status <> 'PAUSED' AND (w.next_attempt_at IS NULL OR w.next_attempt_at <= statement_timestamp())"
    "    AND EXISTS (SELECT 1 FROM event_log e WHERE e.tenant_id = w.tenant_id"
    f"     AND (e.feed, e.stream, e.stream_id, e.seq) > {_PLACE} AND e.feed < {HORIZON}))"
    "   OR EXISTS (SELECT 1 FROM webhook_delivery d WHERE d.tenant_id = w.tenant_id AND d.endpoint_id = w.id"
    "    AND d.status = 'PENDING'))"
    # Whose last turn is longest ago.
    "  ORDER BY w.lease_until NULLS FIRST, w.id LIMIT 1 FOR UPDATE SKIP LOCKED)"
    " RETURNING tenant_id, id, fence"
)
_OPEN = Statement(
    "SELECT w.id, w.tenant_id, t.slug, w.name, w.url, w.secret, w.event_types, w.selection, w.feed, w.feed_stream,"
    " w.feed_stream_id, w.feed_seq, w.version,"
    " CASE WHEN w.previous_until > statement_timestamp() THEN w.previous_secret END AS previous_secret,"
    " w.status <> 'PAUSED' AND (w.next_attempt_at IS NULL OR w.next_attempt_at <= statement_timestamp()) AS due"
    " FROM webhook_endpoint w JOIN tenant t ON t.id = w.tenant_id AND NOT t.is_deleted"
    " WHERE w.tenant_id = :tenant AND w.id = :id AND w.fence = :fence AND NOT w.is_deleted"
)
_ASKED = Statement(
    "SELECT id, message_id, cursor FROM webhook_delivery"
    " WHERE tenant_id = :tenant AND endpoint_id = :id AND status = 'PENDING' ORDER BY id LIMIT :limit"
)
_LOCK = Statement(
    "SELECT status, failures, feed, feed_stream, feed_stream_id, feed_seq, version, fence,"
    " extract(epoch FROM clock_timestamp() - coalesce(failing_since, clock_timestamp()))::float8 AS failing_seconds"
    " FROM webhook_endpoint WHERE tenant_id = :tenant AND id = :id FOR UPDATE"
)
_LOG = Statement(
    "INSERT INTO webhook_delivery (tenant_id, endpoint_id, source, type, message_id, cursor, attempt, status,"
    " status_code, duration_ms, error, answer, completed_at) VALUES (:tenant, :id, :source, :type, :message, :cursor,"
    " :attempt, :status, :code, :duration, :error, :answer, clock_timestamp())"
)
_MOVE = Statement(
    "UPDATE webhook_endpoint SET feed = :feed, feed_stream = :stream, feed_stream_id = :stream_id, feed_seq = :seq,"
    " status = :status, status_reason = CASE WHEN status = 'PAUSED' THEN status_reason ELSE :reason END,"
    " failures = :failures, last_error = :error,"
    " failing_since = CASE WHEN :failures::int > 0 THEN coalesce(failing_since, clock_timestamp()) END,"
    " next_attempt_at = clock_timestamp() + make_interval(secs => :pause::float8),"
    " delivered_at = CASE WHEN :failures::int = 0 THEN clock_timestamp() ELSE delivered_at END,"
    " lease_until = clock_timestamp() + make_interval(secs => :lease)"
    " WHERE tenant_id = :tenant AND id = :id"
)
_PASS = Statement(
    "UPDATE webhook_endpoint w SET feed = :feed, feed_stream = :stream, feed_stream_id = :stream_id, feed_seq = :seq"  # noqa: S608
    f" WHERE w.tenant_id = :tenant AND w.id = :id AND w.fence = :fence AND {_PLACE}"
    " = (:from_feed::bigint, :from_stream::text, :from_stream_id::bigint, :from_seq::bigint)"
)
_COMPLETE = Statement(
    "UPDATE webhook_delivery SET status = :status, status_code = :code, duration_ms = :duration, error = :error,"
    " answer = :answer, completed_at = clock_timestamp()"
    " WHERE tenant_id = :tenant AND id = :delivery AND status = 'PENDING'"
)
_RENEW = Statement(
    "UPDATE webhook_endpoint SET lease_until = clock_timestamp() + make_interval(secs => :lease)"
    " WHERE tenant_id = :tenant AND id = :id AND fence = :fence AND NOT is_deleted RETURNING version"
)
_RELEASE = Statement(
    "UPDATE webhook_endpoint SET lease_until = clock_timestamp()"
    " WHERE tenant_id = :tenant AND id = :id AND fence = :fence"
)
_TRIM = Statement(
    "DELETE FROM webhook_delivery WHERE tenant_id = :tenant AND endpoint_id = :id AND status <> 'PENDING' AND id <="
    " (SELECT id FROM webhook_delivery WHERE tenant_id = :tenant AND endpoint_id = :id ORDER BY id DESC"
    "  OFFSET :kept LIMIT 1)"
)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to deliver to an endpoint, for some time. `fence` tells it from every other one."""

    tenant_id: int
    endpoint_id: int
    fence: int

    @property
    def key(self) -> dict[str, Any]:
        return {"tenant": self.tenant_id, "id": self.endpoint_id, "fence": self.fence}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as its sender sees it. `secrets` are sealed, the newest first; `is_due`: events may be sent now."""

    id: int
    tenant_id: int
    tenant_slug: str
    name: str
    url: str
    secrets: tuple[Mapping[str, Any], ...]
    event_types: frozenset[str]
    selection: str | None
    position: Position
    version: int
    is_due: bool

    def wants(self, kind: str) -> bool:
        """Whether it is told of events of this kind."""
        return not self.event_types or kind in self.event_types


@dataclass(frozen=True, slots=True)
class Request:
    """An attempt that somebody asked for: of the event at `cursor`, or without one a ping."""

    id: int
    message_id: str
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """An attempt to tell of the event at `position`, by a sender that read the endpoint's place as `since`."""

    since: Position
    position: Position
    type: str
    message_id: str
    outcome: Outcome


async def lease(transaction: Transaction, seconds: float) -> Lease | None:
    """Take the endpoint of any tenant that has something to be told and has waited longest."""
    row = await transaction.fetch_one(LEASE, {"lease": seconds})
    return None if row is None else Lease(row["tenant_id"], row["id"], row["fence"])


async def opened(transaction: Transaction, held: Lease) -> tuple[Endpoint, list[Request]] | None:
    """The endpoint and what was asked for; None when the lease is lost or the endpoint gone."""
    row = await transaction.fetch_one(_OPEN, held.key)
    if row is None:
        return None
    asked = await transaction.fetch(_ASKED, {**held.key, "limit": ASKED_LIMIT})
    return _endpoint(row), [Request(each["id"], each["message_id"], each["cursor"]) for each in asked]


async def record(
    transaction: Transaction, held: Lease, endpoint: Endpoint, told: Told, *, random: float, lease_seconds: float
) -> bool:
    """Write down an attempt, and move the endpoint on when it was a delivery. Returns whether the next may follow.

    The attempt is logged whatever has happened to the endpoint meanwhile; it moves only if the lease still holds and
    its place is where the sender read it.
    """
    row = await transaction.fetch_one(_LOCK, held.key)
    if row is None:
        return False
    outcome = told.outcome
    standing = Standing(WebhookStatus(row["status"]), row["failures"], row["failing_seconds"])
    await transaction.fetch(
        _LOG,
        {
            **held.key,
            **_result(outcome),
            "source": DeliverySource.EVENT,
            "type": told.type,
            "message": told.message_id,
            "cursor": told.position.encode(),
            "attempt": standing.failures + 1,
        },
    )
    if row["fence"] != held.fence or _position(row) != told.since:
        return False
    verdict = judge(standing, outcome, random)
    place = told.position if outcome.delivered else told.since
    await transaction.fetch(
        _MOVE,
        {
            **held.key,
            **_named(place),
            "status": verdict.status,
            "reason": verdict.reason,
            "failures": verdict.failures,
            "pause": verdict.pause_seconds,
            "error": outcome.fault,
            "lease": lease_seconds,
        },
    )
    unchanged = row["version"] == endpoint.version
    return outcome.delivered and unchanged and verdict.status is not WebhookStatus.PAUSED


async def record_request(
    transaction: Transaction, held: Lease, endpoint: Endpoint, request: Request, outcome: Outcome, seconds: float
) -> bool:
    """Write down what came of an attempt that was asked for. Returns whether the lease, renewed, still holds."""
    await transaction.fetch(_COMPLETE, {**held.key, **_result(outcome), "delivery": request.id})
    row = await transaction.fetch_one(_RENEW, {**held.key, "lease": seconds})
    return row is not None and row["version"] == endpoint.version


async def pass_over(transaction: Transaction, held: Lease, since: Position, position: Position) -> None:
    """Move the place behind events that the endpoint does not want."""
    origin = {f"from_{name}": value for name, value in _named(since).items()}
    await transaction.fetch(_PASS, {**held.key, **_named(position), **origin})


async def release(transaction: Transaction, held: Lease) -> None:
    """Let others have the endpoint, and forget the oldest of its log."""
    await transaction.fetch(_TRIM, {**held.key, "kept": KEPT})
    await transaction.fetch(_RELEASE, held.key)


def _endpoint(row: Row) -> Endpoint:
    return Endpoint(
        id=row["id"],
        tenant_id=row["tenant_id"],
        tenant_slug=row["slug"],
        name=row["name"],
        url=row["url"],
        secrets=tuple(box for box in (row["secret"], row["previous_secret"]) if box is not None),
        event_types=frozenset(row["event_types"]),
        selection=row["selection"],
        position=_position(row),
        version=row["version"],
        is_due=row["due"],
    )


def _result(outcome: Outcome) -> dict[str, Any]:
    return {
        "status": DeliveryStatus.DELIVERED if outcome.delivered else DeliveryStatus.FAILED,
        "code": outcome.status_code,
        "duration": outcome.duration_ms,
        "error": outcome.fault,
        "answer": outcome.answer,
    }


def _position(row: Row) -> Position:
    return Position(row["feed"], row["feed_stream"], row["feed_stream_id"], row["feed_seq"])


def _named(position: Position) -> dict[str, Any]:
    return {
        "feed": position.feed,
        "stream": position.stream,
        "stream_id": position.stream_id,
        "seq": position.seq,
    }
