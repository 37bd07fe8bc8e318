"""Webhooks: where a tenant's events are sent, and what a person may do about it. Delivery itself is the engine's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches

from sqlalchemy import Sequence as Numbers
from sqlalchemy import func, select

from app import clock
from app.auth.principal import Principal
from app.db import feed
from app.db.feed import Position
from app.db.models import WebhookDelivery, WebhookEndpoint
from app.db.places import webhook_place
from app.db.sealing import Sealer
from app.db.uow import Transaction
from app.db.webhooks import ASKED_LIMIT
from app.domain.enums import Permission
from app.domain.errors import Conflict, DomainError, IllegalState, Invalid, NotFound, QuotaExceeded, UnknownReference
from app.domain.events import EventKind, Stream
from app.domain.values import Secret
from app.domain.webhooks import (
    PING,
    SECRET_BYTES,
    WEBHOOK,
    DeliverySource,
    DeliveryStatus,
    WebhookReason,
    WebhookStatus,
    ping_message_id,
    secret_text,
)
from app.egress import Egress, EgressRefused
from app.services.authorizing import authorize
from app.services.faults import name_fault, refuse
from app.services.records import locked, one_at_a_time, same_version, store

NAME_LIMIT = 120
ENDPOINT_LIMIT = 25
SELECTION_LIMIT = 10_000
DEFAULT_GRACE = timedelta(hours=24)
LONGEST_GRACE = timedelta(days=7)
_NEXT_ID = select(Numbers("webhook_endpoint_id_seq").next_value())


@dataclass(frozen=True, slots=True)
class Tools:
    """What the verbs need beside a transaction. `check_selection` gives every fault of a selection, with no path."""

    sealer: Sealer
    egress: Egress
    check_selection: Callable[[str], list[DomainError]]


@dataclass(frozen=True, slots=True)
class CreateWebhook:
    """A webhook to be. No `types`: of all kinds of events. No `selection`: all that an event says itself."""

    name: str
    url: str
    types: Sequence[str] = ()
    selection: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateWebhook:
    """Changes to a webhook; None leaves a field as it is. No types: all; an empty selection: none."""

    id: int
    expected_version: int | None = None
    name: str | None = None
    url: str | None = None
    types: Sequence[str] | None = None
    selection: str | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class RotateSecret:
    """A new secret; the one before signs beside it for `grace`."""

    id: int
    expected_version: int | None = None
    grace: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ReplayWebhook:
    """Where the webhook goes on from: behind a cursor of the tenant's feed, or with what happened at `start`."""

    id: int
    after: str | None = None
    start: datetime | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """A webhook and the secret that its messages are signed with, which is shown once."""

    row: WebhookEndpoint
    secret: str = field(repr=False)


async def create(transaction: Transaction, principal: Principal, command: CreateWebhook, tools: Tools) -> Issued:
    """Add a webhook; it is told of what happens from now on. Raises Conflict, QuotaExceeded, Invalid and its kin."""
    authorize(transaction, principal, Permission.ADMIN)
    selection = _given(command.selection)
    refuse(
        [
            name_fault(command.name, NAME_LIMIT, "the name of the webhook", "name"),
            _url_fault(command.url, tools),
            *_type_faults(command.types),
            *_selection_faults(selection, tools),
        ]
    )
    await one_at_a_time(transaction)
    await _require_room(transaction)
    place = await feed.head(transaction)
    secret = secret_text(secrets.token_bytes(SECRET_BYTES))
    # Drawn ahead: the secret is sealed for this row and no other.
    endpoint_id: int = (await transaction.session.execute(_NEXT_ID)).scalar_one()
    endpoint = WebhookEndpoint(
        id=endpoint_id,
        tenant_id=transaction.tenant_id,
        name=command.name.strip(),
        url=command.url,
        secret=_sealed(secret, endpoint_id, transaction, tools),
        event_types=list(dict.fromkeys(command.types)),
        selection=selection,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    _place(endpoint, place)
    await _store(transaction, endpoint)
    return Issued(endpoint, secret)


async def update(
    transaction: Transaction, principal: Principal, command: UpdateWebhook, tools: Tools
) -> WebhookEndpoint:
    """Change a webhook, pause it, or let it go on. What is being sent at this moment is sent as it was."""
    authorize(transaction, principal, Permission.ADMIN, f"webhook:{command.id}")
    await one_at_a_time(transaction)
    endpoint = await _find(transaction, command.id, command.expected_version)
    selection = _given(command.selection)
    refuse(
        [
            None if command.name is None else name_fault(command.name, NAME_LIMIT, "the name of the webhook", "name"),
            None if command.url is None else _url_fault(command.url, tools),
            *_type_faults(command.types or ()),
            *_selection_faults(selection, tools),
        ]
    )
    if command.name is not None:
        endpoint.name = command.name.strip()
    if command.url is not None and command.url != endpoint.url:
        endpoint.url = command.url
        endpoint.next_attempt_at = None
    if command.types is not None:
        endpoint.event_types = list(dict.fromkeys(command.types))
    if command.selection is not None:
        endpoint.selection = selection
        endpoint.next_attempt_at = None
    if command.paused is not None:
        _pause(endpoint) if command.paused else _resume(endpoint)
    endpoint.updated_by = transaction.actor
    await _store(transaction, endpoint)
    return endpoint


async def rotate(transaction: Transaction, principal: Principal, command: RotateSecret, tools: Tools) -> Issued:
    """Give a webhook a new secret."""
    authorize(transaction, principal, Permission.ADMIN, f"webhook:{command.id}")
    endpoint = await _find(transaction, command.id, command.expected_version)
    grace = DEFAULT_GRACE if command.grace is None else command.grace
    if not timedelta() <= grace <= LONGEST_GRACE:
        message = f"the old secret goes on for at most {LONGEST_GRACE.days} days"
        raise Invalid(message, path=("grace",))
    secret = secret_text(secrets.token_bytes(SECRET_BYTES))
    endpoint.previous_secret = endpoint.secret if grace else None
    endpoint.previous_until = clock.utc_now() + grace if grace else None
    endpoint.secret = _sealed(secret, endpoint.id, transaction, tools)
    endpoint.updated_by = transaction.actor
    await _store(transaction, endpoint)
    return Issued(endpoint, secret)


async def delete(
    transaction: Transaction, principal: Principal, webhook_id: int, expected_version: int | None
) -> WebhookEndpoint:
    """Remove a webhook. What is being sent at this moment still arrives."""
    authorize(transaction, principal, Permission.ADMIN, f"webhook:{webhook_id}")
    endpoint = await _find(transaction, webhook_id, expected_version)
    endpoint.is_deleted = True
    endpoint.secret, endpoint.previous_secret = {}, None
    endpoint.updated_by = transaction.actor
    await _store(transaction, endpoint)
    return endpoint


async def replay(transaction: Transaction, principal: Principal, command: ReplayWebhook) -> WebhookEndpoint:
    """Send again, in order, what followed a place in the feed. Raises Invalid unless exactly one place is named."""
    authorize(transaction, principal, Permission.WRITE, f"webhook:{command.id}")
    endpoint = await _find(transaction, command.id, None)
    if (command.after is None) == (command.start is None):
        message = "name either a cursor or a time"
        raise Invalid(message, path=("after",))
    if command.after is not None:
        place = Position.decode(command.after)
        if place.stream not in ("", *Stream):
            message = "this is no cursor of a tenant's feed"
            raise Invalid(message, path=("after",))
    else:
        place = await feed.since(transaction, command.start or clock.utc_now())
    _place(endpoint, place)
    endpoint.next_attempt_at = None
    endpoint.updated_by = transaction.actor
    await _store(transaction, endpoint)
    return endpoint


async def ping(transaction: Transaction, principal: Principal, webhook_id: int) -> WebhookDelivery:
    """Ask for a ping: one attempt, beside the events, also while the webhook is paused."""
    authorize(transaction, principal, Permission.WRITE, f"webhook:{webhook_id}")
    endpoint = await _find(transaction, webhook_id, None)
    message_id = ping_message_id(endpoint.id, secrets.token_hex(16))
    return await _ask(transaction, endpoint, DeliverySource.PING, PING, message_id, None)


async def redeliver(transaction: Transaction, principal: Principal, delivery_id: int) -> WebhookDelivery:
    """Ask for one more attempt of a message, under its id, beside the events that are due."""
    authorize(transaction, principal, Permission.WRITE, f"webhook delivery:{delivery_id}")
    earlier = await transaction.session.scalar(
        select(WebhookDelivery)
        .join(
            WebhookEndpoint,
            (WebhookEndpoint.tenant_id == WebhookDelivery.tenant_id)
            & (WebhookEndpoint.id == WebhookDelivery.endpoint_id)
            & ~WebhookEndpoint.is_deleted,
        )
        .where(WebhookDelivery.tenant_id == transaction.tenant_id, WebhookDelivery.id == delivery_id)
    )
    if earlier is None:
        message = "there is no such delivery"
        raise NotFound(message, path=("deliveryId",))
    if earlier.status is DeliveryStatus.PENDING:
        message = "this delivery is still to be made"
        raise IllegalState(message, status=earlier.status, path=("deliveryId",))
    endpoint = await _find(transaction, earlier.endpoint_id, None)
    source = DeliverySource.PING if earlier.cursor is None else DeliverySource.REDELIVERY
    return await _ask(transaction, endpoint, source, earlier.type, earlier.message_id, earlier.cursor)


async def _ask(
    transaction: Transaction,
    endpoint: WebhookEndpoint,
    source: DeliverySource,
    kind: str,
    message_id: str,
    cursor: str | None,
) -> WebhookDelivery:
    waiting = await transaction.session.scalar(
        select(func.count())
        .select_from(WebhookDelivery)
        .where(
            WebhookDelivery.tenant_id == transaction.tenant_id,
            WebhookDelivery.endpoint_id == endpoint.id,
            WebhookDelivery.status == DeliveryStatus.PENDING,
        )
    )
    if waiting is not None and waiting >= ASKED_LIMIT:
        message = "too many deliveries that were asked for are still to be made"
        raise QuotaExceeded(message, key="webhook.pending", limit=ASKED_LIMIT, used=waiting)
    delivery = WebhookDelivery(
        tenant_id=transaction.tenant_id,
        endpoint_id=endpoint.id,
        source=source,
        type=kind,
        message_id=message_id,
        cursor=cursor,
        status=DeliveryStatus.PENDING,
        created_by=transaction.actor,
    )
    await store(transaction, delivery)
    return delivery


async def _find(transaction: Transaction, webhook_id: int, expected_version: int | None) -> WebhookEndpoint:
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.tenant_id == transaction.tenant_id,
        WebhookEndpoint.id == webhook_id,
        ~WebhookEndpoint.is_deleted,
    )
    endpoint = await locked(transaction, query, "webhook")
    same_version(endpoint.version, expected_version, "webhook")
    return endpoint


async def _require_room(transaction: Transaction) -> None:
    there = await transaction.session.scalar(
        select(func.count())
        .select_from(WebhookEndpoint)
        .where(WebhookEndpoint.tenant_id == transaction.tenant_id, ~WebhookEndpoint.is_deleted)
    )
    if there is not None and there >= ENDPOINT_LIMIT:
        message = f"a tenant has at most {ENDPOINT_LIMIT} webhooks"
        raise QuotaExceeded(message, key="webhooks", limit=ENDPOINT_LIMIT, used=there)


async def _store(transaction: Transaction, endpoint: WebhookEndpoint) -> None:
    taken = Conflict(f"there already is a webhook '{endpoint.name}'", path=("name",))
    await store(transaction, endpoint, {"uq_webhook_endpoint_name": taken})


def _pause(endpoint: WebhookEndpoint) -> None:
    if endpoint.status is not WebhookStatus.PAUSED:
        endpoint.status = WEBHOOK.after(endpoint.status, "pause")
        endpoint.status_reason = WebhookReason.USER


def _resume(endpoint: WebhookEndpoint) -> None:
    """Try again now, with all patience."""
    if endpoint.status is not WebhookStatus.ACTIVE:
        endpoint.status = WEBHOOK.after(endpoint.status, "resume")
    endpoint.status_reason = WebhookReason.NONE
    endpoint.failures = 0
    endpoint.failing_since = endpoint.next_attempt_at = None


def _place(endpoint: WebhookEndpoint, place: Position) -> None:
    endpoint.feed, endpoint.feed_stream = place.feed, place.stream
    endpoint.feed_stream_id, endpoint.feed_seq = place.stream_id, place.seq


def _sealed(secret: str, endpoint_id: int, transaction: Transaction, tools: Tools) -> dict[str, object]:
    place = webhook_place(endpoint_id)
    box: dict[str, object] = tools.sealer.seal({"key": Secret(secret)}, transaction.tenant_id, place)
    return box


def _given(selection: str | None) -> str | None:
    return None if selection is None or not selection.strip() else selection


def _url_fault(url: str, tools: Tools) -> DomainError | None:
    try:
        tools.egress.check(url)
    except EgressRefused as refused:
        return Invalid(str(refused), path=("url",))
    return None


def _type_faults(types: Sequence[str]) -> list[DomainError]:
    known = [kind.value for kind in EventKind]
    faults: list[DomainError] = []
    for position, name in enumerate(types):
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            faults.append(UnknownReference(f"there is no event '{name}'{hint}", path=("types", str(position))))
    return faults[:20]


def _selection_faults(selection: str | None, tools: Tools) -> list[DomainError]:
    if selection is None:
        return []
    if len(selection) > SELECTION_LIMIT:
        return [Invalid(f"a selection has at most {SELECTION_LIMIT} characters", path=("selection",))]
    return [fault.under("selection") for fault in tools.check_selection(selection)]
