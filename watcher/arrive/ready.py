"""The entries that wait for a worker of this process: first come, first served, each once.

There are two lanes: fresh entries, and deferred ones that are due. They are given out in turn, so
that neither starves the other: a backlog that fails takes half of the attempts at most.
Guarantees: bounded (`push` says no when it is full, and the queue is then *behind*); a name is in
here once, whoever sees it and however often; a name that is pushed while a worker has it is given
out once more afterwards, because a new file may have been renamed over the one in hand. With a name
goes when its rename was heard of: what stands under it later may be another file (`claim.take`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from watcher.evidence import How
from watcher.spool.layout import DEFERRED

MAX_READY = 65_536


# What is known of a name: how, and when it was heard of (nanoseconds since the epoch).
_Word = tuple[How, int]


class Ready:
    """A queue of names between the watcher's thread and the workers'."""

    def __init__(self, limit: int = MAX_READY) -> None:
        self.limit = limit
        self._waiting: dict[bytes, _Word] = {}
        self._fresh: deque[bytes] = deque()
        self._due: deque[bytes] = deque()
        self._due_next = False
        self._working: dict[bytes, _Word | None] = {}
        self._heard: dict[bytes, int] = {}  # of the names in hand
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiters = 0  # workers that wait for `_changed`
        self._nudged = False  # one of them is to look up, though there may be nothing for it
        self.listening: Callable[[], None] | None = None  # wakes the worker that listens
        self._closed = False
        self._permits: int | None = None  # None: no limit

    def __len__(self) -> int:
        return len(self._fresh) + len(self._due)

    @property
    def fresh(self) -> int:
        """How many fresh entries wait: the limit is theirs."""
        return len(self._fresh)

    @property
    def due(self) -> int:
        """How many deferred entries wait."""
        return len(self._due)

    def _lane(self, name: bytes) -> deque[bytes]:
        return self._due if name.startswith(DEFERRED) else self._fresh

    def _first(self) -> bytes:
        """Take out the name whose turn it is."""
        lane = self._due if self._due and (self._due_next or not self._fresh) else self._fresh
        self._due_next = lane is self._fresh
        return lane.popleft()

    def __contains__(self, name: bytes) -> bool:
        return name in self._waiting or name in self._working

    def working(self) -> list[bytes]:
        """Return the names that workers have in hand."""
        return list(self._working)

    def push(self, name: bytes, how: How, heard: int = 0) -> bool:
        """Add an entry; False when there is no room. Of two hows the stronger proof counts."""
        word = (how, heard)
        with self._lock:
            if name in self._working:
                before = self._working[name]
                self._working[name] = word if before is None else max(before, word)
                return True
            known = self._waiting.get(name)
            if known is not None:
                if word > known:
                    self._waiting[name] = word
                return True
            lane = self._due if name.startswith(DEFERRED) else self._fresh
            if len(lane) >= self.limit:
                return False
            self._waiting[name] = word
            lane.append(name)
            if self._waiters or self.listening is not None:
                self._tell()
            return True

    def fill(self, names: Iterable[bytes], how: How, heard: int = 0) -> int:
        """Add fresh entries as `push` does, all at once; return how many there was room for."""
        word, waiting, fresh, taken = (how, heard), self._waiting, self._fresh, 0
        with self._lock:
            for name in names:
                if name in self._working:
                    before = self._working[name]
                    self._working[name] = word if before is None else max(before, word)
                elif name not in waiting:
                    if len(fresh) >= self.limit:
                        break
                    waiting[name] = word
                    fresh.append(name)
                elif word > waiting[name]:
                    waiting[name] = word
                taken += 1
            if taken and (self._waiters or self.listening is not None):
                self._tell(taken)
        return taken

    def _tell(self, count: int = 1) -> None:
        """Have so many workers look up: those that wait, then the one that listens.

        We hold the lock. Who was told already and has not looked up yet is still counted among
        those that wait, so what decides is whether there is more than they can take.
        """
        if self._waiters:
            self._changed.notify(count)
        if self.listening is not None and len(self._fresh) + len(self._due) > self._waiters:
            wake, self.listening = self.listening, None
            wake()

    def _may_pop(self) -> bool:
        return bool(self._fresh or self._due) and self._permits != 0

    def pop(self, wait: Callable[[Ready], None] | None = None) -> tuple[bytes, How] | None:
        """Take an entry in hand; `wait` (else our own) when there is none; None once closed."""
        while True:
            with self._lock:
                if self._closed:
                    return None
                if (self._fresh or self._due) and self._permits != 0:
                    if self._permits is not None:
                        self._permits -= 1
                    name = self._first() if self._due else self._fresh.popleft()
                    how, self._heard[name] = self._waiting.pop(name)
                    self._working[name] = None
                    return name, how
            if wait is None:
                self.wait()
            else:
                wait(self)

    def wait(self) -> None:
        """Wait until there is an entry to take, or `nudge`, or the end."""
        with self._lock:
            self._waiters += 1
            try:
                while not (self._closed or self._nudged or self._may_pop()):
                    self._changed.wait()
                self._nudged = False
            finally:
                self._waiters -= 1

    def nudge(self) -> None:
        """Have a worker that waits look up."""
        with self._lock:
            self._nudged = True
            self._changed.notify()

    def begin_listening(self, wake: Callable[[], None]) -> bool:
        """Say how to wake the worker that is about to listen; False if there is work for it.

        It sets `listening` to None when it looks up by itself.
        """
        with self._lock:
            if self._closed or self._may_pop():
                return False
            self.listening = wake
            return True

    def heard(self, name: bytes) -> int:
        """Return when a name in hand was heard of (nanoseconds since the epoch; 0: not said)."""
        return self._heard.get(name, 0)

    def finish(self, name: bytes) -> int:
        """Let go of an entry that `pop` gave; return how many still wait."""
        with self._lock:
            again = self._working.pop(name, None)
            self._heard.pop(name, None)
            if again is not None:
                self._waiting[name] = again
                self._lane(name).append(name)
                self._tell()
            return len(self._fresh) + len(self._due)

    def put_back(self, name: bytes, how: How) -> None:
        """Let go of an entry and give it out again before all others."""
        with self._lock:
            again = self._working.pop(name, None)
            word = (how, self._heard.pop(name, 0))
            self._waiting[name] = word if again is None else max(word, again)
            self._lane(name).appendleft(name)
            self._tell()

    def allow(self, permits: int | None) -> None:
        """Give out so many more entries (0: hold everything), or with None as many as asked for."""
        with self._lock:
            self._permits = permits
            self._changed.notify_all()
            self._tell()

    def close(self) -> None:
        """Give out no more: `pop` returns None to every worker."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            if self.listening is not None:
                self.listening()
