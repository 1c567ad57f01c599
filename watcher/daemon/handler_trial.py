"""Try one entry at a time while a queue's handler is in doubt, or while its attempts fail alike.

`rules.doubt` says whether the handler can be run at all, `rules.breaker` whether what it does fails
for every entry. Meanwhile the other entries of the queue wait, and each trial is another entry:

    doubt    a few entries at once, then one at the retry policy's first delay; no attempt counts
    breaker  one entry at that delay, then ever less often (`breaker.pace`); each attempt counts

Guarantees: the queue is unhealthy for as long as one of them holds it, and no longer; the trouble
says when the next entry is tried. If nothing holds the queue any more, the entries that waited are
given out in their order, and before them those that a doubt put aside.
Fails: never.
"""

from __future__ import annotations

import math
import threading
import time

from watcher.daemon.ready import Item, Ready
from watcher.observe.health import Health
from watcher.rules.age import SECOND, Clock
from watcher.rules.breaker import Breaker, pace
from watcher.rules.doubt import Doubt
from watcher.rules.results import AttemptEnd
from watcher.rules.retry import Policy

HANDLER, BREAKER = "handler", "breaker"  # what the queue's health calls the two
# How an attempt ends that came to the handler's run.
_OF_THE_HANDLER = frozenset(
    {
        AttemptEnd.DONE,
        AttemptEnd.RETRY,
        AttemptEnd.DEFERRED,
        AttemptEnd.REJECTED,
        AttemptEnd.KEPT,
    }
)


class HandlerTrial:
    """Which entries of one queue are given out while something holds it."""

    def __init__(
        self,
        doubt: Doubt,
        breaker: Breaker,
        ready: Ready,
        health: Health,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._doubt = doubt
        self._breaker = breaker
        self._ready = ready
        self._health = health
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()  # for the next lines, and for `Ready.allow`
        self._next = math.inf  # when the next entry is tried; infinite: nothing holds the queue
        self._why: dict[str, str] = {}  # by subject of the health

    def begin(self, item: Item, why: str) -> None:
        """Put aside an entry for which the handler did not run, and hold the others back."""
        with self._lock:
            if not self._doubt.held:  # the handler ran for another entry meanwhile
                self._ready.put_back(item)
                return
            if HANDLER not in self._why:
                self._next = self._now() + self._policy.initial
                self._ready.allow(0)
            # An attempt that began earlier says nothing against a trial that is due or allowed: an
            # operator may have asked for it since (`try_now`).
            self._hold(HANDLER, why)
            if self._doubt.eager:
                self._ready.allow_one()
            self._ready.put_aside(item)
        self.look()  # it may have run for another entry just now

    def tick(self) -> float:
        """Give out one more entry if it is time; return when it is next."""
        with self._lock:
            if self._next <= self._now():
                # Whether or not the last trial has ended: it may take long, and others wait.
                self._next = self._now() + self._interval()
                self._ready.allow(1, again=True)
                self._tell_next()
            return self._next

    def try_now(self) -> bool:
        """Have the next tick give out an entry, if something holds the queue; return whether so.

        The daemon's thread calls this: an operator says that what was wrong is mended.
        """
        with self._lock:
            holds = self._next < math.inf
            if holds:
                self._next = 0.0
            return holds

    def look(self, end: AttemptEnd | None = None) -> bool:
        """Begin or end the trial after an attempt; return whether `tick` is due at another moment.

        If the queue is still held and the attempt, which ended so, says nothing of the handler (its
        entry is gone, for instance), another entry is given out.
        """
        with self._lock:
            doubtful, tripped = self._doubt.held, self._breaker.tripped
            begins = tripped and BREAKER not in self._why
            if begins:
                self._next = min(self._next, self._now() + self._interval())
                self._hold(BREAKER, self._breaker.why)
                if not doubtful:
                    self._ready.allow(0)
            elif end is not None and (
                (doubtful and HANDLER in self._why) or (tripped and end not in _OF_THE_HANDLER)
            ):
                self._ready.allow_another()
            for about, holds in ((HANDLER, doubtful), (BREAKER, tripped)):
                if not holds and self._why.pop(about, None) is not None:
                    self._health.trouble(about, None)
            if not self._why and self._next < math.inf:
                self._next = math.inf
                self._ready.allow(None)
            return begins

    def _hold(self, about: str, why: str) -> None:
        """Report that an entry is tried at a time; log it if it begins."""
        begins = about not in self._why
        self._why[about] = why
        if begins:
            self._health.trouble(about, self._words(why))
        self._tell_next()

    def _tell_next(self) -> None:
        for about, why in self._why.items():
            self._health.show(about, self._words(why))

    def _words(self, why: str) -> str:
        at = self._clock.real() / SECOND + max(0.0, self._next - self._now())
        shown = time.strftime("%H:%M:%S", time.localtime(at))
        return f"{why}; trying one entry at a time, next at {shown}"

    def _interval(self) -> float:
        """Return the seconds until one more entry is tried."""
        first, longest = self._policy.initial, self._policy.max
        return pace(self._breaker.trials, first, longest) if self._breaker.tripped else first

    def _now(self) -> float:
        return self._clock.mono() / SECOND
