"""Which entries are given out while something holds a queue: attempts that overlap a cure."""

from __future__ import annotations

import pytest

from watcher.daemon.handler_trial import HandlerTrial
from watcher.daemon.ready import Ready
from watcher.observe.health import Health
from watcher.rules.age import SECOND
from watcher.rules.breaker import Breaker
from watcher.rules.doubt import EAGER, Doubt
from watcher.rules.evidence import Proof
from watcher.rules.results import AttemptEnd, HandlerResult, Verdict
from watcher.rules.retry import Policy

NOT_RUN = HandlerResult(Verdict.MISCONFIGURED, "answered 401")
DELAY = 3600.0


class Clock:
    """A clock that a test moves."""

    now = 1000

    def real(self):
        return self.now * SECOND

    def mono(self):
        return self.now * SECOND


class Queue:
    """A queue whose attempts a test ends when it likes."""

    def __init__(self, names):
        self.doubt, self.ready, self.health, self.clock = Doubt(), Ready(), Health("q"), Clock()
        policy = Policy(initial=DELAY)
        self.trial = HandlerTrial(
            self.doubt, Breaker(), self.ready, self.health, policy, self.clock
        )
        for name in names:
            self.ready.push(name, Proof.NO_WRITER)

    def begin(self):
        """Take an entry in hand, if one is given out."""
        if self.ready.held:
            return None
        return self.ready.pop(lambda: pytest.fail("no entry is given out")), self.doubt.ticket

    def end(self, attempt, outcome):
        """End an attempt as the worker does."""
        item, ticket = attempt
        if self.doubt.weigh(item.name, ticket, outcome).verdict is Verdict.MISCONFIGURED:
            self.trial.begin(item, outcome.reason)
        else:
            self.ready.finish(item.name, handled=True)
            self.trial.look(AttemptEnd.DONE)


@pytest.fixture
def held():
    """A queue that is held, with the last of the eager trials still in hand."""
    queue = Queue([b"%d" % number for number in range(8)])
    for _ in range(EAGER - 1):
        queue.end(queue.begin(), NOT_RUN)
    return queue, queue.begin()


def test_after_the_eager_trials_the_queue_waits(held):
    queue, last = held
    queue.end(last, NOT_RUN)
    assert queue.begin() is None
    assert queue.trial.tick() == queue.clock.now + DELAY
    queue.clock.now += DELAY
    queue.trial.tick()
    assert queue.begin() is not None
    assert queue.begin() is None


@pytest.mark.parametrize("given_out", [False, True])
def test_a_failure_that_began_before_an_operators_cure_does_not_take_the_trial_back(
    held, given_out
):
    queue, last = held
    assert queue.trial.try_now()
    if given_out:
        queue.trial.tick()
    queue.end(last, NOT_RUN)
    queue.trial.tick()
    attempt = queue.begin()
    assert attempt is not None, "the trial for which the operator asked"
    queue.end(attempt, HandlerResult(Verdict.DONE))
    assert not queue.health.troubles
    assert len(queue.ready) == 7
    assert not queue.ready.held


def test_a_trial_of_the_only_entry_stays_allowed_when_an_earlier_failure_ends():
    queue = Queue([b"one", b"two"])
    first, second = queue.begin(), queue.begin()
    queue.end(first, NOT_RUN)
    queue.trial.try_now()
    queue.trial.tick()
    queue.end(second, NOT_RUN)
    assert queue.begin() is not None


def test_one_bad_entry_alone_is_not_tried_again_and_again():
    queue = Queue([b"one"])
    queue.end(queue.begin(), NOT_RUN)
    assert len(queue.ready) == 1
    assert not queue.ready._may_pop()
