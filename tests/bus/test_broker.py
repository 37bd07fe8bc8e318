"""Doorbells are heard when they are rung, not at the next look."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import dramatiq
import pytest

from app.embedded.valkey import EmbeddedValkey
from app.messages import StepDue
from workers import broker as brokers
from workers.actors import declare_actors
from workers.broker import Broker, make_broker
from workers.doorbell import Doorbell

# Whoever waits for the next look waits longer than a test may take.
_NEVER = 600.0
_Hearing = Callable[[float], AbstractContextManager["queue.Queue[int]"]]


@pytest.fixture
def ringing(valkey_server: EmbeddedValkey) -> Iterator[Broker]:
    broker = make_broker(valkey_server.url)
    declare_actors(broker)
    broker.flush_all()
    yield broker
    broker.close()


@pytest.fixture
def hearing(valkey_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> _Hearing:
    """A worker of some patience that puts the numbers of the steps that it hears of into a queue."""

    @contextmanager
    def hear(patience: float) -> Iterator[queue.Queue[int]]:
        monkeypatch.setattr(brokers, "_PATIENCE_SECONDS", patience)
        broker, heard, stopping = make_broker(valkey_server.url), queue.Queue[int](), threading.Event()

        def hear_all(messages: Sequence[StepDue]) -> None:
            for message in messages:
                heard.put(message.step_run_id)

        declare_actors(broker, hear_all)
        ears = dramatiq.Worker(broker, worker_timeout=100, worker_threads=1)
        listener = threading.Thread(target=broker.listen, args=(stopping,))
        listener.start()
        ears.start()
        try:
            yield heard
        finally:
            stopping.set()
            monkeypatch.undo()
            broker.rung.set()
            ears.stop(timeout=5_000)
            listener.join(5)
            broker.close()

    return hear


def _ring(broker: Broker, numbers: range, tell: Callable[[], None]) -> None:
    doorbell = Doorbell(broker, tell, 32)
    doorbell.ring(StepDue(1, 1, number) for number in numbers)
    doorbell.start()
    doorbell.stop()


def test_a_ring_wakes_whoever_sleeps(ringing: Broker, hearing: _Hearing) -> None:
    with hearing(_NEVER) as heard:
        # The first may be found by the first look; those behind it find a sleeper.
        for number in range(5):
            _ring(ringing, range(number, number + 1), ringing.tell)
            assert heard.get(timeout=20) == number


def test_what_is_done_makes_room_for_more(ringing: Broker, hearing: _Hearing) -> None:
    with hearing(_NEVER) as heard:
        _ring(ringing, range(100), ringing.tell)
        assert sorted(heard.get(timeout=20) for _ in range(100)) == list(range(100))


def test_many_go_together_and_few_each_by_itself(ringing: Broker) -> None:
    messages = {}
    for number in (1, 4, 100):
        ringing.flush_all()
        _ring(ringing, range(number), _nothing)
        messages[number] = ringing.client.llen(f"{brokers.NAMESPACE}:{StepDue.queue}")
    assert (messages[1], messages[4]) == (1, 4)
    assert 100 / 8 <= messages[100] <= 40


def test_whoever_rings_in_a_crowd_leaves_it_to_the_scheduler(ringing: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    doorbell, now = Doorbell(ringing, _nothing, 3), [0.0]
    monkeypatch.setattr("workers.doorbell.clock.monotonic", lambda: now[0])
    assert doorbell.room() > 0
    doorbell.ring(StepDue(1, 1, number) for number in range(4))
    assert doorbell.queued() == 4, "nobody has sent them yet"
    doorbell.start()
    doorbell.stop()
    assert doorbell.queued() == 4, "nobody has heard them"
    # What was seen of the first ring is old by now.
    now[0] += 1
    later = Doorbell(ringing, _nothing, 3)
    later.ring([StepDue(1, 1, 12)])
    later.start()
    later.stop()
    assert later.room() == 0
    # It is not known any more, and whoever rings looks again.
    now[0] += 1
    assert later.room() > 0


def test_a_hint_that_is_lost_costs_a_moment(ringing: Broker, hearing: _Hearing) -> None:
    with hearing(0.05) as heard:
        for number in range(3):
            _ring(ringing, range(number, number + 1), _nothing)
            assert heard.get(timeout=20) == number


def _nothing() -> None:
    """Nobody is told."""
