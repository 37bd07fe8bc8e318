from __future__ import annotations

import base64
import contextlib
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import cursors
from app.domain.cursors import Place
from app.domain.errors import Invalid
from app.domain.events import Stream
from app.domain.logs import moment_of

NUMBERS = st.integers(0, 2**63 - 1)


MOMENTS = st.none() | st.integers(0, 253_402_300_799_999_999).map(moment_of)


@given(st.sampled_from(Stream), NUMBERS, NUMBERS, MOMENTS)
def test_a_cursor_gives_back_its_place(stream: Stream, stream_id: int, seq: int, at: datetime | None) -> None:
    found = cursors.decode(cursors.encode(stream, stream_id, Place(seq, at)), stream, stream_id)
    assert (found.seq, found.at) == (seq, at)


def test_a_cursor_from_before_there_were_moments_is_good() -> None:
    assert cursors.decode(encoded("v1:JOB:7:12"), Stream.JOB, 7) == Place(12)


@pytest.mark.parametrize(
    ("stream", "stream_id"), [(Stream.PLAN, 7), (Stream.JOB, 8), (Stream.JOB, 77), (Stream.JOB, 0)]
)
def test_a_cursor_of_another_stream_is_refused(stream: Stream, stream_id: int) -> None:
    with pytest.raises(Invalid) as caught:
        cursors.decode(cursors.encode(Stream.JOB, 7, Place(3)), stream, stream_id)
    assert caught.value.path == ("after",)


def encoded(plain: str) -> str:
    return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "ä",
        "*" * 10,
        "A" * 1000,
        encoded("v1:JOB:7:"),
        encoded("v1:JOB:7:-1"),
        encoded("v1:JOB:7:1.5"),
        encoded("v1:JOB:7:³"),
        encoded(f"v1:JOB:7:{2**63}"),
        encoded("v0:JOB:7:1"),
        encoded("v1:JOB:7:1:1"),
        encoded("v2:JOB:7:1"),
        encoded("v2:JOB:7:1:"),
        encoded("v2:JOB:7:1:-1"),
        encoded("v2:JOB:7:1:253402300800000000"),
        encoded("v2:JOB:7:1:1:1"),
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        cursors.decode(text, Stream.JOB, 7)


@given(st.text())
def test_nothing_else_than_invalid_is_raised(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert cursors.decode(text, Stream.JOB, 7).seq >= 0
