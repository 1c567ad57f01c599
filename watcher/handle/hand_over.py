"""The handler of a queue that a program embeds: it hands each entry over and waits for a word.

A worker thread claims an entry and calls `run`, which gives the entry to the taker that has waited
longest. A taker is a thread, or a task of asyncio, of the program. `run` returns when the program
has given its word for the entry.
Guarantees: no entry is claimed that no taker waits for: `limit` is called with how many entries may
be in hand. If the taker has gone meanwhile, the entry is RELEASED: it goes back at once, and no
attempt counts. The first word counts. `end` takes no lock that a signal handler could find taken.
Fails: never.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Hashable
from queue import Empty, SimpleQueue
from typing import Protocol

from watcher.handle.entry import Entry
from watcher.rules.results import AttemptEnd, AttemptResult, HandlerResult, Verdict

LINGER = 0.002  # seconds
RELEASED = HandlerResult(Verdict.STOPPED, "given back", ran=False)


class Taker(Protocol):
    """What waits for one entry."""

    @property
    def owner(self) -> Hashable:
        """The thread or the task."""

    def give(self, in_hand: InHand | None) -> bool:
        """Give it an entry, or None: there is none. Return False if it has gone.

        Called from any thread; returns at once.
        """


class InHand:
    """One entry that the program has in hand.

    Attributes
    ----------
    entry:    the entry
    owner:    the thread or task that took it
    has_word: whether the program has given its word for it
    """

    def __init__(self, entry: Entry, owner: Hashable) -> None:
        self.entry = entry
        self.owner = owner
        self.has_word = False
        self._words: SimpleQueue[HandlerResult] = SimpleQueue()
        self._ends: SimpleQueue[AttemptEnd] = SimpleQueue()
        self._on_end: Callable[[AttemptEnd], object] = self._ends.put

    def word(self) -> HandlerResult:
        """Wait for the program's word; the worker thread calls this."""
        return self._words.get()

    def end(self, report: AttemptResult) -> None:
        """Tell what came of it: the entry is settled."""
        self._on_end(report.result)

    def wait_end(self) -> AttemptEnd:
        """Wait until the entry is settled; for the thread that gave the word."""
        return self._ends.get()

    def call_at_end(self, call: Callable[[AttemptEnd], object]) -> None:
        """Have `call` called, in the worker thread, instead of `wait_end`; before the word."""
        self._on_end = call

    def put_word(self, word: HandlerResult) -> None:
        """Pass a word to the worker thread; `HandOver.say` calls this, once."""
        self._words.put(word)


class HandOver:
    """Where worker threads and the takers of one queue meet. `limit` as in the module's text."""

    def __init__(self, limit: Callable[[int], None]) -> None:
        self._limit = limit
        self._lock = threading.RLock()  # for the next two; reentrant for a signal handler
        self._takers: deque[Taker] = deque()
        self._in_hand: dict[InHand, None] = {}
        self._of_thread: dict[int, InHand] = {}  # what each worker thread has handed over
        self._ended = False
        self._lingering = 0  # worker threads in `linger`
        self._asks: SimpleQueue[None] = SimpleQueue()  # one for each `ask` meanwhile

    # -- the program's side -------------------------------------------------------------------

    def ask(self, taker: Taker) -> None:
        """Have `taker` given the next entry, or None if none comes any more."""
        with self._lock:
            self._takers.append(taker)
            if self._ended:  # asked last: a signal handler may call `end` at any moment
                self.give_none()
            else:
                self._set_limit()
                if self._lingering:
                    self._asks.put(None)

    def leave(self, taker: Taker) -> bool:
        """Let `taker` wait no longer; return False if it was given something meanwhile."""
        with self._lock:
            try:
                self._takers.remove(taker)
            except ValueError:
                return False
            self._set_limit()
            return True

    def say(self, in_hand: InHand, word: HandlerResult) -> bool:
        """Give the program's word for an entry; return False if it has one already."""
        with self._lock:
            if in_hand.has_word:
                return False
            in_hand.has_word = True
        in_hand.put_word(word)
        return True

    def waits_for(self, owner: Hashable) -> InHand | None:
        """Return an entry that this thread or task took and gave no word for; None: none."""
        with self._lock:
            return next(
                (one for one in self._in_hand if one.owner == owner and not one.has_word), None
            )

    def without_word(self) -> list[InHand]:
        """Return the entries that the program has in hand and gave no word for."""
        with self._lock:
            return [one for one in self._in_hand if not one.has_word]

    @property
    def in_hand(self) -> list[InHand]:
        """Return the entries that the program has in hand, and those that are being settled."""
        return list(self._in_hand)

    def end(self) -> None:
        """Hand nothing over any more: every taker gets None. A signal handler may call this."""
        self._ended = True
        self.give_none()

    @property
    def ended(self) -> bool:
        """Whether nothing is handed over any more."""
        return self._ended

    # -- the side of the queue ----------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether a taker waits."""
        return bool(self._takers)

    def linger(self) -> None:
        """Wait a moment for the next `ask`; a worker calls this while entries are ready.

        A program that takes one entry after the other asks at once. To wake a worker that waits for
        events already costs more.
        """
        with self._lock:
            if self._takers or self._ended:
                return
            self._lingering += 1
        with contextlib.suppress(Empty):
            self._asks.get(timeout=LINGER)
        with self._lock:
            self._lingering -= 1

    def give_none(self) -> None:
        """Give None to every taker that waits."""
        while self._takers:
            try:
                taker = self._takers.popleft()
            except IndexError:  # another thread was faster
                return
            taker.give(None)

    def set_limit(self) -> None:
        """Call `limit` again: `end` and `give_none` do not."""
        with self._lock:
            self._set_limit()

    def _set_limit(self) -> None:
        waiting = 0 if self._ended else len(self._takers)
        self._limit(waiting + len(self._in_hand))

    def run(self, entry: Entry) -> HandlerResult:
        """Hand an entry over, and return the program's word for it."""
        with self._lock:
            taker = self._takers.popleft() if self._takers and not self._ended else None
            if taker is None:
                self._set_limit()
                return RELEASED
            in_hand = InHand(entry, taker.owner)
            self._in_hand[in_hand] = None
        self._of_thread[threading.get_ident()] = in_hand
        if not taker.give(in_hand):
            self.say(in_hand, RELEASED)
        return in_hand.word()

    def settled(self, report: AttemptResult) -> None:
        """Take note that this worker thread's attempt is over; it calls this after each."""
        in_hand = self._of_thread.pop(threading.get_ident(), None)
        if in_hand is not None:
            with self._lock:
                del self._in_hand[in_hand]
                self._set_limit()
            in_hand.end(report)

    def give_back(self, in_hand: InHand) -> None:
        """Give an entry back unless it has a word: its taker has gone."""
        self.say(in_hand, RELEASED)

    def terminate(self) -> None:
        """Give back what has no word: the process, or the use of the queue, is about to end."""
        for in_hand in self.without_word():
            self.give_back(in_hand)
