"""The entries that wait for a worker of this process: in order of arrival, each name once.

There are two lanes: fresh entries, and deferred entries that are due. Workers get them in turn, so
that a backlog of failing entries takes at most half of the attempts.
Guarantees: bounded (`push` returns False when a lane is full, and the queue is then *behind*). A
name is in here once, however many events name it. A name that is pushed while a worker has it is
given out once more afterwards, because a writer may have renamed a new file over the one in hand.
While the queue is held (`allow`), a name that was tried and `put_aside` comes after all others.
With `limit_in_hand`, no more names are in hand than a program that embeds the queue asked for.
The moment at which the event of a rename was read goes with the name: a file that has this name
later may be another one (`claim.take`).
Fails: never.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from watcher.rules.evidence import Proof
from watcher.rules.names import is_deferred

MAX_READY = 65_536  # names in each lane
MAX_ASIDE = 1024  # names


class Item(NamedTuple):
    """One name in a worker's hands, and what is known of it."""

    name: bytes
    proof: Proof
    event_time_ns: int = 0  # when its event was read (nanoseconds since the epoch; 0: not known)


# What is known of a name that waits: its proof and its event's time. The greater one counts.
_Known = tuple[Proof, int]


class Ready:
    """A queue of names. The thread that reads events adds them; workers take them."""

    def __init__(self, limit: int = MAX_READY) -> None:
        self.limit = limit
        self._waiting: dict[bytes, _Known] = {}
        self._fresh: deque[bytes] = deque()
        self._due: deque[bytes] = deque()
        self._due_next = False
        self._working: dict[bytes, _Known | None] = {}  # None: not pushed again
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiters = 0  # workers that wait for `_changed`
        self._nudged = False  # one of them has to return from `wait`, with or without a name
        self.wake_leader: Callable[[], None] | None = None  # None: no worker of ours leads
        self.handled = 0  # how many entries were done
        self._closed = False
        self._paused = False  # an operator paused the queue
        self.pause_changed: Callable[[], None] = lambda: None  # called after each `pause`
        self._permits: int | None = None  # None: no limit
        self._aside: deque[bytes] = deque()  # tried while the queue is held, the oldest first
        self._again = False  # whether a permit is also good for one of those
        self._most: int | None = None  # how many names may be in hand; None: no limit

    def __len__(self) -> int:
        return len(self._fresh) + len(self._due) + len(self._aside)

    @property
    def fresh(self) -> int:
        """How many fresh entries wait: the limit is theirs."""
        return len(self._fresh)

    @property
    def due(self) -> int:
        """How many deferred entries wait."""
        return len(self._due)

    def is_ready(self, name: bytes) -> bool:
        """Whether a name waits for a worker or is in the hands of one."""
        return name in self._waiting or name in self._working

    def working(self) -> list[bytes]:
        """Return the names that workers have in hand."""
        return list(self._working)

    def pass_lock(self) -> None:
        """Take and release the lock."""
        with self._lock:
            pass

    # -- names come in ------------------------------------------------------------------------

    def push(self, name: bytes, proof: Proof, event_time_ns: int = 0) -> bool:
        """Add an entry; return False if there is no room. The stronger of two proofs counts."""
        known = (proof, event_time_ns)
        with self._lock:
            if name in self._working:
                before = self._working[name]
                self._working[name] = known if before is None else max(before, known)
                return True
            before = self._waiting.get(name)
            if before is not None:
                if known > before:
                    self._waiting[name] = known
                return True
            lane = self._lane(name)
            if len(lane) >= self.limit:
                return False
            self._waiting[name] = known
            lane.append(name)
            if self._waiters or self.wake_leader is not None:
                self._call_workers()
            return True

    def fill(self, names: Iterable[bytes], proof: Proof, event_time_ns: int = 0) -> int:
        """Add fresh entries as `push` does, under one lock; return for how many there was room."""
        known, waiting, fresh, taken = (proof, event_time_ns), self._waiting, self._fresh, 0
        with self._lock:
            for name in names:
                if name in self._working:
                    before = self._working[name]
                    self._working[name] = known if before is None else max(before, known)
                elif name not in waiting:
                    if len(fresh) >= self.limit:
                        break
                    waiting[name] = known
                    fresh.append(name)
                elif known > waiting[name]:
                    waiting[name] = known
                taken += 1
            if taken and (self._waiters or self.wake_leader is not None):
                self._call_workers(taken)
        return taken

    def _lane(self, name: bytes) -> deque[bytes]:
        return self._due if is_deferred(name) else self._fresh

    def _call_workers(self, count: int = 1) -> None:
        """Wake so many workers: those that wait for `_changed`, then the leader.

        The caller holds the lock. A worker that was notified and does not run yet still counts as
        a waiter. So the leader is woken only if more names wait than the waiters can take.
        """
        if self._paused or self._has_enough():
            return
        if self._waiters:
            self._changed.notify(count)
        waiting = len(self) if self._again else len(self._fresh) + len(self._due)
        wake = self.wake_leader  # read once: the leader sets it to None without the lock
        if wake is not None and waiting > self._waiters:
            self.wake_leader = None
            wake()

    # -- names go out -------------------------------------------------------------------------

    def pop(self, wait: Callable[[], None] | None = None) -> Item | None:
        """Take an entry in hand; call `wait` (or `self.wait`) while there is none.

        Returns None once this is closed.
        """
        while True:
            with self._lock:
                if self._closed:
                    return None
                name = None
                if self._paused:
                    pass
                elif self._fresh and not self._due and self._permits is None and self._most is None:
                    name = self._fresh.popleft()
                elif self._waiting and self._may_pop():
                    if self._permits is not None:
                        self._permits -= 1
                    name = self._first()
                if name is not None:
                    self._working[name] = None
                    return Item(name, *self._waiting.pop(name))
            (wait or self.wait)()

    def _first(self) -> bytes:
        """Remove the next name from its lane and return it."""
        if not (self._due or self._fresh):
            return self._aside.popleft()
        lane = self._due if self._due and (self._due_next or not self._fresh) else self._fresh
        self._due_next = lane is self._fresh
        return lane.popleft()

    @property
    def held(self) -> bool:
        """Whether names wait until an operator, or a trial of the handler, lets them go."""
        return self._paused or self._permits == 0

    def _has_enough(self) -> bool:
        """Whether so many names are in hand as were asked for."""
        return self._most is not None and len(self._working) >= self._most

    def _may_pop(self) -> bool:
        if self.held or self._has_enough():
            return False
        return bool(self._fresh or self._due or (self._again and self._aside))

    def pop_more(self, most: int) -> list[Item]:
        """Take up to `most` more entries in hand, without a wait; none while the queue is held."""
        found: list[Item] = []
        with self._lock:
            if not self._gives_out():
                return found
            while len(found) < most and (self._fresh or self._due):
                name = self._first()
                self._working[name] = None
                found.append(Item(name, *self._waiting.pop(name)))
        return found

    def gives_out(self) -> bool:
        """Whether entries are given out in any number: nothing holds or pauses the queue."""
        with self._lock:
            return self._gives_out()

    def _gives_out(self) -> bool:
        return not self._closed and not self._paused and self._permits is None

    @property
    def closed(self) -> bool:
        """Whether nothing is given out any more."""
        return self._closed

    def wait(self, seconds: float | None = None) -> None:
        """Wait until there is an entry to take, for `nudge`, or for `close`; at most so long."""
        with self._lock:
            self._waiters += 1
            try:
                while not (self._closed or self._nudged or self._may_pop()):
                    if seconds is None:
                        self._changed.wait()
                    elif not self._changed.wait(seconds):
                        break
                self._nudged = False
            finally:
                self._waiters -= 1

    def nudge(self) -> None:
        """Have one worker return from `wait`: it is to become the leader (`EventReader`)."""
        with self._lock:
            self._nudged = True
            self._changed.notify()

    def begin_leading(self, wake: Callable[[], None]) -> bool:
        """Note how to wake the worker that is about to wait for events; False if it need not wait.

        The worker sets `wake_leader` to None after its wait.
        """
        with self._lock:
            if self._closed or (self._waiting and self._may_pop()):
                return False
            self.wake_leader = wake
            return True

    # -- names that were in hand --------------------------------------------------------------

    def finish(self, name: bytes, *, handled: bool = False) -> int:
        """Let go of an entry that `pop` gave, and count it; return how many still wait."""
        with self._lock:
            self.handled += handled
            again = self._working.pop(name, None)
            if again is not None:
                self._waiting[name] = again
                self._lane(name).append(name)
                self._call_workers()
            return len(self._fresh) + len(self._due)

    def put_back(self, item: Item) -> None:
        """Let go of an entry and give it out again before all others."""
        with self._lock:
            self._wait_again(item)
            self._lane(item.name).appendleft(item.name)
            self._call_workers()

    def put_aside(self, item: Item) -> None:
        """Let go of an entry that was tried while the queue is held: others come before it."""
        with self._lock:
            self._wait_again(item)
            self._aside.append(item.name)
            if len(self._aside) > MAX_ASIDE:
                oldest = self._aside.popleft()
                self._lane(oldest).append(oldest)
            self._call_workers()

    def _wait_again(self, item: Item) -> None:
        name, known = item.name, (item.proof, item.event_time_ns)
        again = self._working.pop(name, None)
        self._waiting[name] = known if again is None else max(known, again)

    # -- holding the queue, and the end -------------------------------------------------------

    def allow(self, permits: int | None, *, again: bool = False) -> None:
        """Give out so many more entries (0: none; None: no limit).

        With None, the names that were put aside return to the head of their lanes. A number is
        good for one of them only with `again`, and only if no other name waits.
        """
        with self._lock:
            self._permits, self._again = permits, again
            if permits is None:
                while self._aside:
                    name = self._aside.pop()
                    self._lane(name).appendleft(name)
            self._changed.notify_all()
            self._call_workers()

    def allow_one(self) -> None:
        """Give out one more entry, unless `allow` has let entries out that are not taken yet."""
        with self._lock:
            if self._permits == 0:
                self._permits, self._again = 1, False
                self._changed.notify_all()
                self._call_workers()

    def pause(self, *, paused: bool) -> None:
        """Give out no entry while an operator has the queue paused. Permits stay as they are."""
        with self._lock:
            self._paused = paused
            if not paused:
                self._changed.notify_all()
                self._call_workers()
        self.pause_changed()

    def limit_in_hand(self, most: int) -> None:
        """Give out a name only while fewer than `most` are in hand; any thread may call it."""
        with self._lock:
            grows = self._most is None or most > self._most
            self._most = most
            if grows and self._waiting:
                self._call_workers()

    def allow_another(self) -> None:
        """Give out one more entry; whether it may be one put aside stays as it was."""
        with self._lock:
            if self._permits is not None:
                self._permits = 1
            self._changed.notify_all()
            self._call_workers()

    def take_all(self) -> list[Item]:
        """Close, and take out the names that wait, in their order.

        A name that is in hand and was pushed once more meanwhile is among them.
        """
        self.close()
        with self._lock:
            names = (*self._aside, *self._fresh, *self._due)
            waiting = [Item(name, *self._waiting[name]) for name in names]
            again = [Item(name, *known) for name, known in self._working.items() if known]
            self._working = dict.fromkeys(self._working)
            self._waiting = {}
            self._aside.clear()
            self._fresh.clear()
            self._due.clear()
        return waiting + again

    def close(self) -> None:
        """Give out no more: `pop` returns None to every worker."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            if (wake := self.wake_leader) is not None:
                wake()
