"""Who has to agree: what a configuration may say, and who counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.approvals import ApprovalPolicy, Council, Review
from app.domain.durations import parse_duration
from app.domain.errors import DomainError, Invalid, Several


@pytest.mark.parametrize(
    ("configuration", "policy"),
    [
        (None, ApprovalPolicy()),
        ({}, ApprovalPolicy()),
        ({"approvals": None}, ApprovalPolicy()),
        ({"approvals": {}}, ApprovalPolicy(1)),
        ({"approvals": {"required": 0}}, ApprovalPolicy(0)),
        (
            {"approvals": {"required": 2, "authorMayApprove": True, "deadline": "PT24H"}},
            ApprovalPolicy(2, author_may_approve=True, deadline=timedelta(hours=24)),
        ),
    ],
)
def test_what_a_configuration_asks_for(configuration: Any, policy: ApprovalPolicy) -> None:
    assert ApprovalPolicy.of(configuration) == policy


@pytest.mark.parametrize(
    ("approvals", "paths"),
    [
        (2, [()]),
        ([], [()]),
        ({"required": True}, [("required",)]),
        ({"required": 1.5}, [("required",)]),
        ({"required": -1}, [("required",)]),
        ({"required": 21}, [("required",)]),
        ({"requierd": 2}, [("requierd",)]),
        ({"authorMayApprove": "no"}, [("authorMayApprove",)]),
        ({"deadline": 5}, [("deadline",)]),
        ({"deadline": "PT0S"}, [("deadline",)]),
        ({"deadline": "P367D"}, [("deadline",)]),
        ({"required": "2", "deadline": "tomorrow", "x": 1}, [("x",), ("required",), ("deadline",)]),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_path(approvals: Any, paths: list[tuple[str, ...]]) -> None:
    with pytest.raises(DomainError) as caught:
        ApprovalPolicy.of({"approvals": approvals})
    errors = caught.value.errors if isinstance(caught.value, Several) else (caught.value,)
    assert [error.path for error in errors] == [("configuration", "approvals", *path) for path in paths]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("PT15M", timedelta(minutes=15)),
        ("PT24H", timedelta(days=1)),
        ("P1DT12H", timedelta(hours=36)),
        ("P2W", timedelta(weeks=2)),
        ("PT0.5S", timedelta(seconds=0.5)),
        ("PT1H30M15S", timedelta(hours=1, minutes=30, seconds=15)),
    ],
)
def test_durations(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1Y", "P1M", "1H", "PT1H ", "P1DT", "PT-1H", "pt1h", "PT٣H", "P1W1D", "P9999999D", None, 7]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(Invalid) as caught:
        parse_duration(text, ("deadline",))
    assert caught.value.path == ("deadline",)


reviews = st.builds(
    Review,
    user_id=st.integers(1, 5),
    approved=st.booleans(),
    preview_hash=st.sampled_from(["a", "b"]),
    round=st.integers(1, 3),
)


@given(st.lists(reviews, max_size=30), st.integers(0, 4), st.integers(1, 3), st.sampled_from(["a", "b"]))
def test_everybody_counts_once_and_only_for_what_is_there_now(
    said: list[Review], required: int, now: int, preview_hash: str
) -> None:
    council = Council(ApprovalPolicy(required), {1}, now, preview_hash, tuple(said))
    people = 0
    for person in range(1, 6):
        current = [r for r in said if (r.user_id, r.round, r.preview_hash) == (person, now, preview_hash)]
        people += any(review.approved for review in current)
        assert council.has_spoken(person) == bool(current)
    assert council.granted == people
    assert council.agreed == (people >= required)


def test_an_author_is_barred_unless_told_otherwise() -> None:
    strict = Council(ApprovalPolicy(1), {1, 2}, 1, "a")
    assert [strict.is_barred(person) for person in (1, 2, 3)] == [True, True, False]
    assert not Council(ApprovalPolicy(1, author_may_approve=True), {1}, 1, "a").is_barred(1)
