"""The test of the test: the stepper finds races and deadlocks that are known to be there."""

from __future__ import annotations

import sys
import threading  # the stepper puts its own in the place of this

import pytest

from tests.threads.stepping import Deadlock, Lock, Stepper

HERE = sys.modules[__name__]


class Unlocked:
    """Counts with a race: between the read and the write another thread may count."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        count = self.count
        self.count = count + 1


class Locked(Unlocked):
    """Counts under a lock."""

    def __init__(self, lock: Lock) -> None:
        super().__init__()
        self.lock = lock

    def add(self) -> None:
        with self.lock:
            super().add()


def is_two(counter: Unlocked) -> None:
    assert counter.count == 2


@pytest.fixture
def stepper(monkeypatch) -> Stepper:
    assert HERE.threading is threading
    return Stepper(monkeypatch, (HERE,))


def test_a_lost_count_is_found(stepper) -> None:
    def make():
        counter = Unlocked()
        return counter.add, counter.add, lambda: is_two(counter)

    with pytest.raises(AssertionError) as found:
        stepper.every_order(make)
    assert "in the order: thread 0 " in found.value.__notes__[0]


def test_what_is_locked_is_right_in_every_order(stepper) -> None:
    def make():
        counter = Locked(stepper.lock())
        return counter.add, counter.add, lambda: is_two(counter)

    assert stepper.every_order(make) > 10


def test_two_locks_taken_in_two_orders_are_a_deadlock(stepper) -> None:
    def make():
        first, second = stepper.lock(), stepper.lock()

        def one() -> None:
            first.acquire()
            second.acquire()
            second.release()
            first.release()

        def two() -> None:
            second.acquire()
            first.acquire()
            first.release()
            second.release()

        return one, two, lambda: None

    with pytest.raises(Deadlock):
        stepper.every_order(make)


def test_a_wait_that_is_never_notified_is_found(stepper) -> None:
    def make():
        condition = HERE.threading.Condition()
        seen: list[bool] = []

        def one() -> None:
            if not seen:  # looked at without the lock
                with condition:
                    condition.wait()

        def two() -> None:
            seen.append(True)
            with condition:
                condition.notify_all()

        return one, two, lambda: None

    with pytest.raises(Deadlock):
        stepper.every_order(make)
