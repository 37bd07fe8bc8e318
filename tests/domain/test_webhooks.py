"""Signatures against the specification's own implementation, and what follows from an attempt."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from app.domain.events import EventKind, Stream
from app.domain.webhooks import (
    PATIENCE_SECONDS,
    Outcome,
    Standing,
    WebhookReason,
    WebhookStatus,
    event_message_id,
    event_type,
    judge,
    ping_message_id,
    retry_pause,
    secret_text,
    sign,
)

ACTIVE, FAILING, PAUSED = WebhookStatus.ACTIVE, WebhookStatus.FAILING, WebhookStatus.PAUSED


@given(key=st.binary(min_size=24, max_size=64), body=st.text(), number=st.integers(min_value=1))
def test_the_reference_signs_the_same(key: bytes, body: str, number: int) -> None:
    secret, now = secret_text(key), int(time.time())
    message_id = event_message_id(number, Stream.JOB, 1, 2)
    signature = sign([secret], message_id, now, body.encode())
    assert signature == Webhook(secret).sign(message_id, datetime.fromtimestamp(now, UTC), body)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": signature}
    Webhook(secret).verify(body.encode(), headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.encode() + b" ", headers, json_parse=False)


def test_each_of_two_secrets_is_enough() -> None:
    old, new, other = (secret_text(bytes([number]) * 32) for number in range(3))
    now = int(time.time())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now)}
    headers["webhook-signature"] = sign([new, old], "msg_1", now, b"{}")
    assert Webhook(old).verify(b"{}", headers) == Webhook(new).verify(b"{}", headers) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(b"{}", headers)


def test_ids_tell_messages_apart_and_hold_no_dot() -> None:
    ids = {
        event_message_id(endpoint, stream, number, seq)
        for endpoint in (1, 11)
        for stream in Stream
        for number in (1, 11)
        for seq in (1, 11)
    }
    ids |= {ping_message_id(1, "a"), ping_message_id(1, "b")}
    assert len(ids) == 2 * len(Stream) * 4 + 2
    assert all(each.startswith("msg_") and "." not in each for each in ids)
    assert event_message_id(1, Stream.JOB, 2, 3) == event_message_id(1, Stream.JOB, 2, 3)


def test_types_are_grouped_by_their_noun() -> None:
    assert event_type("JobStatusChanged") == "job.status_changed"
    assert event_type("ReviewSubmitted") == "review.submitted"
    assert event_type("Ping") == "ping"
    assert len({event_type(kind) for kind in EventKind}) == len(EventKind)


@pytest.mark.parametrize(
    ("standing", "outcome", "status", "reason", "failures"),
    [
        (Standing(ACTIVE), Outcome(1, 200), ACTIVE, WebhookReason.NONE, 0),
        (Standing(ACTIVE), Outcome(1, 299), ACTIVE, WebhookReason.NONE, 0),
        (Standing(FAILING, 7, 900.0), Outcome(1, 204), ACTIVE, WebhookReason.NONE, 0),
        (Standing(ACTIVE), Outcome(1, 300), FAILING, WebhookReason.NONE, 1),
        (Standing(FAILING, 3, 60.0), Outcome(1, None, "x"), FAILING, WebhookReason.NONE, 4),
        (Standing(ACTIVE), Outcome(1, 410), PAUSED, WebhookReason.GONE, 1),
        (Standing(FAILING, 2, 9.0), Outcome(1, 410), PAUSED, WebhookReason.GONE, 3),
        (Standing(FAILING, 40, PATIENCE_SECONDS), Outcome(1, 500), FAILING, WebhookReason.NONE, 41),
        (Standing(FAILING, 40, PATIENCE_SECONDS + 1), Outcome(1, 500), PAUSED, WebhookReason.EXHAUSTED, 41),
        (Standing(PAUSED, 2), Outcome(1, 500), PAUSED, WebhookReason.USER, 3),
        (Standing(PAUSED, 2), Outcome(1, 200), PAUSED, WebhookReason.USER, 0),
    ],
)
def test_what_follows_from_an_attempt(
    standing: Standing, outcome: Outcome, status: WebhookStatus, reason: WebhookReason, failures: int
) -> None:
    verdict = judge(standing, outcome, 0.0)
    assert (verdict.status, verdict.reason, verdict.failures) == (status, reason, failures)
    # There is a pause exactly where there is something to wait for.
    assert (verdict.pause_seconds is not None) == (status is FAILING)


@given(failures=st.integers(min_value=1, max_value=10**6), random=st.floats(min_value=0, max_value=1, exclude_max=True))
def test_pauses_grow_and_are_bounded(failures: int, random: float) -> None:
    pause = retry_pause(failures, random)
    assert 2.5 <= pause <= 4 * 3600
    assert pause <= 2 * retry_pause(failures + 1, random)


def test_the_receiver_may_ask_for_more_time_but_not_for_ever() -> None:
    def pause(wish: float) -> float | None:
        return judge(Standing(ACTIVE), Outcome(1, 429, retry_after=wish), 0.0).pause_seconds

    assert (pause(0.0), pause(100.0), pause(10**9)) == (2.5, 100.0, 3600.0)
