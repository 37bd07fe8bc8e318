"""Webhooks as the specification Standard Webhooks has them: signatures, ids by which messages are known, retries.

A message's id depends on its endpoint and its event only, so that a receiver knows it again however often it comes:
after a retry, a lost record, a replay or a redelivery.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.events import Stream
from app.domain.lifecycle import Lifecycle

SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105  the specification's mark of a secret, not one
PING = "webhook.ping"
# A receiver that fails is tried again for so long; then its endpoint is paused.
PATIENCE_SECONDS = 3 * 24 * 3600.0
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 5.0, 3.0, 4 * 3600.0
# Asked for longer by the receiver itself, no more than this is granted.
_LONGEST_WISH = 3600.0
_GONE = 410
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class WebhookStatus(StrEnum):
    """Of a webhook. FAILING: its last attempt failed, and it is tried again after a pause."""

    ACTIVE = "ACTIVE"
    FAILING = "FAILING"
    PAUSED = "PAUSED"


# Nothing is closed: a webhook that is no longer wanted is deleted.
WEBHOOK: Lifecycle[WebhookStatus] = Lifecycle(
    "webhook",
    initial=WebhookStatus.ACTIVE,
    closed=set(),
    settled={WebhookStatus.ACTIVE, WebhookStatus.PAUSED},
    edges=[
        (WebhookStatus.ACTIVE, "failed", WebhookStatus.FAILING),
        (WebhookStatus.ACTIVE, "gone", WebhookStatus.PAUSED),
        (WebhookStatus.ACTIVE, "pause", WebhookStatus.PAUSED),
        (WebhookStatus.FAILING, "delivered", WebhookStatus.ACTIVE),
        (WebhookStatus.FAILING, "resume", WebhookStatus.ACTIVE),
        (WebhookStatus.FAILING, "gone", WebhookStatus.PAUSED),
        (WebhookStatus.FAILING, "exhausted", WebhookStatus.PAUSED),
        (WebhookStatus.FAILING, "pause", WebhookStatus.PAUSED),
        (WebhookStatus.PAUSED, "resume", WebhookStatus.ACTIVE),
    ],
)


class WebhookReason(StrEnum):
    """Why an endpoint is paused; NONE when it is not."""

    NONE = "NONE"
    USER = "USER"
    GONE = "GONE"
    EXHAUSTED = "EXHAUSTED"


class DeliverySource(StrEnum):
    """What an attempt to deliver came from: the feed, in order, or somebody's wish, beside it."""

    EVENT = "EVENT"
    PING = "PING"
    REDELIVERY = "REDELIVERY"


class DeliveryStatus(StrEnum):
    """What became of an attempt; PENDING are those that somebody asked for and nobody has made yet."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. Without a `status_code` nothing was answered, and `error` says why."""

    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    answer: str | None = None
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300

    @property
    def gone(self) -> bool:
        return self.status_code == _GONE

    @property
    def fault(self) -> str | None:
        """In a few words, why this was no delivery."""
        if self.delivered:
            return None
        return self.error or f"the receiver answered {self.status_code}"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an endpoint is: its status, its failures in a row, and the seconds since the first of them."""

    status: WebhookStatus
    failures: int = 0
    failing_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an attempt. `pause_seconds` is how long nothing is sent; None: no pause."""

    status: WebhookStatus
    reason: WebhookReason
    failures: int
    pause_seconds: float | None = None


def judge(standing: Standing, outcome: Outcome, random: float) -> Verdict:
    """What follows from `outcome`; `random`, in [0, 1), spreads endpoints that failed together."""
    if standing.status is WebhookStatus.PAUSED:
        # Somebody paused it while the attempt was under way: that stands.
        return Verdict(standing.status, WebhookReason.USER, 0 if outcome.delivered else standing.failures + 1)
    if outcome.delivered:
        return Verdict(_after(standing.status, "delivered"), WebhookReason.NONE, 0)
    failures = standing.failures + 1
    if outcome.gone:
        return Verdict(_after(standing.status, "gone"), WebhookReason.GONE, failures)
    if standing.failing_seconds > PATIENCE_SECONDS:
        return Verdict(_after(standing.status, "exhausted"), WebhookReason.EXHAUSTED, failures)
    wish = min(outcome.retry_after or 0.0, _LONGEST_WISH)
    return Verdict(
        _after(standing.status, "failed"), WebhookReason.NONE, failures, max(wish, retry_pause(failures, random))
    )


def retry_pause(failures: int, random: float) -> float:
    """Seconds to wait after so many failures in a row: 5, 15, 45, … up to four hours, or down to half of that."""
    grown = _FIRST_PAUSE * _GROWTH ** min(failures - 1, 20)
    return min(grown, _LONGEST_PAUSE) * (0.5 + random / 2)


def event_type(kind: str) -> str:
    """The type of a message: JobStatusChanged becomes job.status_changed."""
    noun, *rest = (word.lower() for word in _WORD.split(kind))
    return ".".join(part for part in (noun, "_".join(rest)) if part)


def event_message_id(endpoint_id: int, stream: Stream, stream_id: int, seq: int) -> str:
    """The id of the message that tells this endpoint of this event."""
    return _message_id(f"{endpoint_id}:{stream.value}:{stream_id}:{seq}")


def ping_message_id(endpoint_id: int, nonce: str) -> str:
    """The id of a ping; `nonce` tells it from every other one."""
    return _message_id(f"{endpoint_id}:ping:{nonce}")


def secret_text(key: bytes) -> str:
    """A signing key as its receiver is given it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def sign(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The header webhook-signature: one signature for each of the secrets, which are texts `whsec_…`."""
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = (hmac.digest(_key(secret), content, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in signatures)


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX))


def _message_id(plain: str) -> str:
    # No dot may be in it: dots separate what is signed.
    return "msg_" + hashlib.sha256(plain.encode()).hexdigest()[:32]


def _after(status: WebhookStatus, event: str) -> WebhookStatus:
    """Success leaves ACTIVE, and failure FAILING, as it is; neither is a change that the machine declares."""
    return WEBHOOK.after(status, event) if WEBHOOK.permits(status, event) else status
