"""Two threads, one line of source at a time, in every order: a scheduler for tests.

Each of two functions runs in a thread of its own. Before each line of the watched modules its
thread stops, and goes on when the order says so. The orders are those with two switches: one thread
runs i lines, the other j lines, then each to its end. A race that needs no more than two switches
is found, whichever lines it is between. The locks of the watched modules are ours, so that a thread
that waits for one gives its turn to the other; where both wait, that is a deadlock, and told.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

LONGEST = 60.0  # seconds that one order may take


class Deadlock(AssertionError):
    """Each thread waits for the other."""


class Scheduler:
    """Says which of two threads runs; one object an order."""

    def __init__(self, first: int, lines: int, others: int) -> None:
        self.taken = [0, 0]  # lines, by thread
        self._plan = [(first, lines), (1 - first, others), (first, None), (1 - first, None)]
        self._changed = threading.Condition()
        self._turn = first
        self._left: int | None = lines
        self._at = 0
        self._ended = [False, False]
        self._waits: list[Callable[[], bool] | None] = [None, None]  # for what, where it waits
        self._failed: BaseException | None = None
        self._numbers: dict[int, int] = {}
        self._both = threading.Barrier(2)  # or the second could have the number of the first

    def run(self, functions: tuple[Callable[[], Any], Callable[[], Any]], files: set[str]) -> None:
        """Run both to their end; raise what one of them raised.

        No garbage is collected meanwhile: a finalizer of what an earlier test left would make
        steps of its own, in the middle of a step of one of the two.
        """
        gc.disable()
        try:
            self._run(functions, files)
        finally:
            gc.enable()

    def _run(self, functions: tuple[Callable[[], Any], Callable[[], Any]], files: set[str]) -> None:
        threads = [
            threading.Thread(target=self._body, args=(number, function, files), daemon=True)
            for number, function in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONGEST)
            assert not thread.is_alive(), "a thread waits for what no thread will do"
        if self._failed is not None:
            raise self._failed

    def _body(self, number: int, function: Callable[[], Any], files: set[str]) -> None:
        self._numbers[threading.get_ident()] = number

        def trace(frame, event, _argument):
            if frame.f_code.co_filename not in files:
                return None
            if event == "line":
                self.step(number)
            return trace

        try:
            self._both.wait(LONGEST)
            self._wait_for_turn(number)
            sys.settrace(trace)
            try:
                function()
            finally:
                sys.settrace(None)
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._failed = self._failed or error
        finally:
            with self._changed:
                self._ended[number] = True
                self._pass_on(number)
            self._both.wait(LONGEST)

    def step(self, number: int) -> None:
        """Stop before a line, until it is this thread's turn."""
        with self._changed:
            self.taken[number] += 1
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    self._next()
        self._wait_for_turn(number)

    def _next(self) -> None:
        """Go on to the next part of the order; the lock is held."""
        while self._at + 1 < len(self._plan):
            self._at += 1
            self._turn, self._left = self._plan[self._at]
            if not self._ended[self._turn] and not self._is_waiting(self._turn):
                break
        self._changed.notify_all()

    def _is_waiting(self, number: int) -> bool:
        wanted = self._waits[number]
        return wanted is not None and not wanted()

    def _pass_on(self, number: int) -> None:
        """Give the turn to the other thread, if it can go on; the lock is held."""
        other = 1 - number
        if not self._ended[other] and not self._is_waiting(other):
            self._turn, self._left = other, None
        elif not self._ended[number] and not self._is_waiting(number):
            self._turn = number
        elif not all(self._ended):
            self._failed = self._failed or Deadlock("each thread waits for the other")
            self._ended = [True, True]
        self._changed.notify_all()

    def _wait_for_turn(self, number: int) -> None:
        with self._changed:
            while self._turn != number and not self._ended[1 - number]:
                if not self._changed.wait(LONGEST):
                    raise Deadlock("no turn comes")
            if all(self._ended):
                raise Deadlock("each thread waits for the other")

    def wait_until(self, wanted: Callable[[], bool]) -> None:
        """Give the turn away until `wanted` holds; called by our locks."""
        number = self._numbers.get(threading.get_ident())
        if number is None:
            assert wanted(), "the test itself waits for a lock that a stopped thread has"
            return
        while not wanted():
            with self._changed:
                self._waits[number] = wanted
                self._pass_on(number)
            self._wait_for_turn(number)
            with self._changed:
                if self._is_waiting(number) and self._ended[1 - number]:
                    raise Deadlock("the other thread ended, and what it was to do is not done")
        self._waits[number] = None


class Lock:
    """A lock whose waiters give their turn away."""

    again = False  # whether the thread that has it may take it once more

    def __init__(self, current: Callable[[], Scheduler]) -> None:
        self._current = current
        self._owner: int | None = None
        self._depth = 0

    def acquire(self, blocking: bool = True) -> bool:
        me = threading.get_ident()
        if self.again and self._owner == me:
            self._depth += 1
            return True
        if self._owner is not None:
            if not blocking:
                return False
            self._current().wait_until(lambda: self._owner is None)
        self._owner, self._depth = me, 1
        return True

    def release(self) -> None:
        assert self._owner == threading.get_ident(), "released by a thread that does not have it"
        self._depth -= 1
        if self._depth == 0:
            self._owner = None

    def locked(self) -> bool:
        return self._owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_error: object) -> None:
        self.release()


class RLock(Lock):
    """The same, for a thread that may take it again."""

    again = True


class Condition(RLock):
    """A condition on our lock, or on its own."""

    def __init__(self, current: Callable[[], Scheduler], lock: Lock | None = None) -> None:
        super().__init__(current)
        self._lock = lock
        self._waiting: list[list[bool]] = []

    def acquire(self, blocking: bool = True) -> bool:
        return super().acquire(blocking) if self._lock is None else self._lock.acquire(blocking)

    def release(self) -> None:
        if self._lock is None:
            super().release()
        else:
            self._lock.release()

    def wait(self) -> bool:
        notified = [False]
        self._waiting.append(notified)
        self.release()
        self._current().wait_until(lambda: notified[0])
        self.acquire()
        return True

    def notify(self, count: int = 1) -> None:
        for notified in self._waiting[:count]:
            notified[0] = True
        del self._waiting[:count]

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class Stepper:
    """Runs a scene in every order: `make` gives two functions and a check of what they left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, modules: tuple[ModuleType, ...]) -> None:
        self._scheduler: Scheduler | None = None
        self._files = {str(module.__file__) for module in modules}
        for name, module in list(sys.modules.items()):  # a lock of any of them may be waited for
            ours = name.startswith("watcher.") or module in modules
            if ours and getattr(module, "threading", None) is threading:
                monkeypatch.setattr(module, "threading", self._threading())

    def _threading(self) -> SimpleNamespace:
        """Return what takes the place of `threading` in a watched module."""

        def current() -> Scheduler:
            assert self._scheduler is not None
            return self._scheduler

        ours = {name: getattr(threading, name) for name in threading.__all__}
        ours["Lock"] = lambda: Lock(current)
        ours["RLock"] = lambda: RLock(current)
        ours["Condition"] = lambda lock=None: Condition(current, lock)
        return SimpleNamespace(**ours)

    def lock(self) -> Any:
        """Return a lock of ours, for a module that made its own when it was imported."""
        return self._threading().Lock()

    def every_order(
        self, make: Callable[[], tuple[Callable[[], Any], Callable[[], Any], Callable[[], None]]]
    ) -> int:
        """Run the scene that `make` makes in every order of two switches; return how many."""
        orders = 0
        for first in (0, 1):
            lines = 0
            while True:
                done = self._one_more_switch(make, first, lines)
                orders += done[0]
                if done[1]:
                    break
                lines += 1
        return orders

    def _one_more_switch(self, make: Any, first: int, lines: int) -> tuple[int, bool]:
        """Run every order in which `first` stops after so many lines; whether it had no more."""
        for others, orders in zip(self._numbers(), self._numbers(), strict=True):
            scheduler = self._scheduler = Scheduler(first, lines, others)
            one, two, check = make()
            try:
                scheduler.run((one, two), self._files)
                check()
            except BaseException as error:
                error.add_note(f"in the order: thread {first} {lines} lines, the other {others}")
                raise
            if scheduler.taken[1 - first] <= others:
                return orders + 1, scheduler.taken[first] <= lines
        raise AssertionError("unreachable")

    @staticmethod
    def _numbers() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1


@pytest.fixture
def steps(monkeypatch):
    """Return a stepper that watches the modules that are named."""
    return lambda *modules: Stepper(monkeypatch, modules)
