"""Whether a queue's attempts all fail alike, so that one entry at a time is to be tried. PURE.

A service that is down fails every entry, and a faulty release of a handler rejects every entry. The
queue then gains nothing from further attempts, and each one costs its entry: a longer delay, or its
place in the queue. So after `limit` entries in a row the breaker trips, and one entry at a time is
tried, at the pace of the retry policy:

    breaker  an attempt ends, and                       then
    -------  -----------------------------------------  ------------------------------------------
    at rest  done                                       the count begins at 0 again
    at rest  failed or rejected, not as the one before  the count begins at 1 again
    at rest  failed or rejected, as the one before      the entry counts, once for all its attempts
    at rest  that was the entry number `limit`          tripped
    tripped  done, begun while it was tripped           at rest
    tripped  not done, begun while it was tripped       the next trial comes later (`pace`)
    tripped  begun before                               nothing: it says nothing of now
    any      the handler did not run, or is stopped     nothing

Two failures are alike if their verdicts are the same, and their reasons but for numbers, names and
addresses (`reasons.kind_of`). Entries are counted, and not attempts: one bad entry in a queue
without others fails as often as its policy lets it, and is no sign that the next one will fail.

Guarantees: each attempt is settled as its handler said, whatever is counted here. Memory for
`limit` names, and for `MOST` while it is tripped. What is known is in memory: after a restart, and
after a reload that changed the queue's settings, the count begins at 0.
Fails: never.
"""

from __future__ import annotations

import threading

from watcher.rules.backoff import delay
from watcher.rules.reasons import kind_of
from watcher.rules.results import HandlerResult, Verdict

MOST = 10_000  # entries in a row
SLOWEST = 10.0  # times the policy's first delay: the longest time between two trials

_WORDS = {
    Verdict.RETRY: "failed",
    Verdict.CRASHED: "crashed",
    Verdict.REJECT: "were rejected",
}


class Breaker:
    """How the last attempts of one queue ended. Its lock is taken with no other held."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit  # 0: it never trips
        # Which trip holds the queue (0: none). `learn` needs its value of when an attempt began.
        self.ticket = 0
        self.in_a_row = 0  # attempts that failed alike since the last that did not
        self.trials = 0  # attempts that failed while it was tripped
        self.why = ""  # it tripped, in words; stored before the ticket
        self._lock = threading.Lock()
        self._trips = 0
        self._like: tuple[Verdict, str] | None = None
        self._names: set[bytes] = set()

    @property
    def tripped(self) -> bool:
        """Whether entries are to be tried one at a time."""
        return self.ticket > 0

    def learn(self, name: bytes, ticket: int, outcome: HandlerResult) -> None:
        """Take note of how an attempt at an entry ended that began when `ticket` was this."""
        verdict = outcome.verdict
        if not self.limit or not outcome.ran or not outcome.attempted:
            return
        if verdict is not Verdict.DONE and verdict not in _WORDS:
            return
        with self._lock:
            if self.ticket and ticket != self.ticket:
                return
            if verdict is Verdict.DONE:
                self._like, self.in_a_row, self.ticket = None, 0, 0
                self._names.clear()
            elif self.ticket:
                self.trials += 1
                if len(self._names) < MOST:
                    self._names.add(name)
            else:
                self._count(name, (verdict, kind_of(outcome.reason)), outcome.reason)

    def failed(self, name: bytes) -> bool:
        """Whether the last attempts, all of which failed alike, have one at this entry."""
        return name in self._names

    def _count(self, name: bytes, like: tuple[Verdict, str], reason: str) -> None:
        if like != self._like:
            self._like, self.in_a_row = like, 0
            self._names.clear()
        self.in_a_row += 1
        self._names.add(name)
        if len(self._names) >= self.limit:
            said = f": {reason}" if reason else ""
            self.why = f"the last {self.in_a_row} attempts {_WORDS[like[0]]} alike{said}"
            self._trips += 1
            self.trials = 0
            self.ticket = self._trips


def pace(trials: int, first: float, longest: float) -> float:
    """Return the seconds from one trial to the next after so many trials that failed.

    `first` and `longest` are the delays of the retry policy. A trial may cost an entry its place in
    the queue, so the trials become rarer; and a cure has to be found soon, so they stay frequent.
    """
    return delay(trials + 1, first, min(longest, first * SLOWEST))
