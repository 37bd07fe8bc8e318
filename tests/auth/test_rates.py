"""Rates: never more than the burst and what has come back since, whoever asks how."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import clock
from app.auth import rates
from app.auth.rates import Meter, Rate


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: time[0])
    return time


def test_a_burst_and_then_what_comes_back(now: list[float]) -> None:
    meter = Meter(Rate(per_second=2, burst=4))
    assert [meter.take("a") for _ in range(4)] == [0] * 4
    assert meter.take("a") == pytest.approx(0.5)
    assert meter.left("a") == 0
    # Somebody else has their own.
    assert meter.take("b", 4) == 0
    now[0] += 0.5
    assert meter.take("a") == 0
    now[0] += 60
    assert meter.left("a") == 4
    assert meter.take("a", 4) == 0


def test_what_there_never_is_is_refused_for_ever(now: list[float]) -> None:
    del now
    meter = Meter(Rate(1, 4))
    assert meter.take("a", 5) == inf
    assert meter.left("a") == 4


@given(
    asked=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 6)), max_size=40),
    rate=st.builds(Rate, st.floats(0.5, 5), st.floats(1, 8)),
)
def test_never_more_than_the_burst_and_what_has_come_back(asked: list[tuple[float, int]], rate: Rate) -> None:
    time = [0.0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "monotonic", lambda: time[0])
        meter, taken = Meter(rate), 0.0
        for pause, points in asked:
            time[0] += pause
            wait = meter.take("a", points)
            if wait == 0:
                taken += points
            elif wait < inf:
                # It says truly when there is enough again.
                time[0] += wait + 1e-6
                assert meter.take("a", points) == 0
                taken += points
            assert taken <= rate.burst + time[0] * rate.per_second + 1e-3


def test_few_are_remembered(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    del now
    monkeypatch.setattr(rates, "_KEPT", 2)
    meter = Meter(Rate(1, 1))
    assert [meter.take(key) for key in "abc"] == [0, 0, 0]
    assert (meter.left("a"), meter.left("c")) == (1, 0)
