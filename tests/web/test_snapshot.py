"""How the past of a queue is kept, and when the sampler looks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from watcher.config.queue_settings import Queue
from watcher.rules.lifecycle import State
from watcher.web import sampler
from watcher.web.sampler import IDLE, REST, WATCHED, Sampler
from watcher.web.snapshot import LONGEST_STEP, STEP, Past, QueueSnapshot


def status(at, ready=0, oldest=None):
    return SimpleNamespace(at=at, states={State.READY: SimpleNamespace(count=ready, oldest=oldest)})


def test_the_past_has_a_bound_and_its_newest_points():
    past = Past(points=8)
    for number in range(1000):
        past.add(status(number * STEP, number, float(number)))
        assert len(past) <= 8
    said = past.record("q")
    steps = [b - a for a, b in zip(said["time"], said["time"][1:], strict=False)]
    assert set(steps) == {LONGEST_STEP}
    assert said["time"][-1] > 990 * STEP
    assert said["depth"]["ready"] == [round(at / STEP) for at in said["time"]]
    assert said["oldest"] == [float(round(at / STEP)) for at in said["time"]]


def test_a_point_too_near_to_the_last_one_is_left_out_unless_the_clock_went_back():
    past = Past()
    for at in (100.0, 101.0, 105.0, 110.0, 50.0):
        past.add(status(at))
    assert past.record("q")["time"] == [100.0, 110.0, 50.0]
    assert past.record("q")["oldest"] == [None, None, None]


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def looks(monkeypatch):
    """The moments of the looks of one queue; `cost` is what each takes."""
    clock, seen = Clock(), []
    looking = Sampler(clock, clock)
    looking.cost, looking.asking = 0.001, False
    looking.clock = clock

    def sample(queue, _claims):
        seen.append(clock.now)
        clock.now += looking.cost
        return QueueSnapshot(queue.settings.name, queue.settings.path, clock.now)

    def sleep(seconds):
        clock.now += seconds
        if looking.asking:
            looking.ask()

    monkeypatch.setattr(sampler, "_sample", sample)
    monkeypatch.setattr(sampler.time, "sleep", sleep)
    looking.configure([Queue(name="q", path="/q")])
    looking.seen = seen
    return looking


def run(looks, seconds, ask=False):
    end = looks.clock.now + seconds
    looks.asking = ask
    while looks.clock.now < end:
        if ask:
            looks.ask()
        due = looks.look()
        looks.clock.now = min(max(due, looks.clock.now + 0.1), looks.clock.now + 0.5)
    return len(looks.seen)


def test_a_queue_is_looked_at_each_second_while_a_client_asks_and_else_now_and_then(looks):
    assert run(looks, 100) == pytest.approx(100 / IDLE, abs=2)
    looks.seen.clear()
    assert run(looks, 100, ask=True) == pytest.approx(100 / WATCHED, rel=0.4)


def test_a_look_that_takes_long_is_repeated_seldom(looks):
    looks.cost = 2.0
    assert run(looks, 1000, ask=True) == pytest.approx(1000 / (2.0 * REST), abs=2)


def test_many_queues_take_a_part_of_a_core_alone(looks):
    looks.cost = 0.01
    looks.configure([Queue(name=f"q{number}", path=f"/q{number}") for number in range(500)])

    def share(*, ask):
        began = looks.clock.now
        looks.seen.clear()
        return run(looks, 300, ask=ask) * looks.cost / (looks.clock.now - began)

    began = looks.clock.now
    looks.look()  # the first one at each queue
    assert looks.clock.now - began == pytest.approx(2 * 500 * looks.cost, abs=1)
    assert share(ask=True) == pytest.approx(0.1, rel=0.1)
    looks.clock.now += 100
    assert share(ask=False) == pytest.approx(0.05, rel=0.1)
