from __future__ import annotations

from app.domain.enums import ErrorClass
from app.domain.retrying import RetryPolicy, delay


def test_pauses_grow_to_the_bound() -> None:
    policy = RetryPolicy(initial_seconds=1, multiplier=3, max_seconds=20, jitter=False)
    assert [delay(policy, attempt, 0.5) for attempt in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]


def test_jitter_spreads_over_the_whole_pause() -> None:
    policy = RetryPolicy(initial_seconds=8)
    assert [delay(policy, 1, random) for random in (0.0, 0.25, 0.999)] == [0.0, 2.0, 7.992]


def test_very_many_attempts_do_not_overflow() -> None:
    assert delay(RetryPolicy(multiplier=100, jitter=False), 10_000, 0) == 60


def test_document_round_trip() -> None:
    policy = RetryPolicy(7, 0.5, 1.5, 9, jitter=False, retry_on=(ErrorClass.CONFLICT,), never_on=("GONE",))
    assert RetryPolicy.from_document(policy.document()) == policy
    assert RetryPolicy.from_document({}) == RetryPolicy()


def test_a_code_outranks_its_class() -> None:
    policy = RetryPolicy(retry_on=(ErrorClass.TRANSIENT,), never_on=("MAINTENANCE",))
    assert policy.covers(ErrorClass.TRANSIENT, "UNAVAILABLE")
    assert not policy.covers(ErrorClass.TRANSIENT, "MAINTENANCE")
    assert not policy.covers(ErrorClass.PERMANENT, "UNAVAILABLE")
