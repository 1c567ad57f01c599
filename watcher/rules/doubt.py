"""Whether a MISCONFIGURED result (126, 127, 78) is the handler's fault or the entry's. PURE.

The result alone does not tell: a command that is not installed fails every entry, and an entry that
names a tool which is not there fails alone. So the queue is held, and other entries are tried:

    held  result of an attempt      then
    ----  ------------------------  -------------------------------------------------------------
    no    misconfigured, a first    held; the entry is a suspect: nothing is counted against it
    no    misconfigured, convicted  it counts as a failed attempt, and the queue goes on
    held  misconfigured             one more suspect; another entry is tried
    held  the handler ran, begun    not held; every suspect is convicted: given out again, and if it
          while it was held         fails so again, it counts
    held  the handler ran, begun    nothing: the handler may have broken since
          before

While it is held, `EAGER` entries are tried one after the other at once, so that one bad entry
hardly delays those behind it; after them one at a time at the retry policy's pace, each time
another; entries that were tried come again only when no other is there. Where the handler breaks
again while convicted entries are tried, at most `MOST_COUNTED` of them lose an attempt: then the
queue is held again.

Guarantees: no attempt is counted for this result but of an entry after whose failure the handler
ran for another. What is known is in memory: after a restart every entry is innocent again.
Fails: never.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from watcher.rules.results import HandlerResult, Verdict

EAGER = 3  # entries that are tried at once before the policy's pace holds
MOST_COUNTED = 10  # entries that may count one after the other without one for which it ran
MOST_KNOWN = 4096  # convicted entries that are remembered


class Doubt:
    """What is known of one queue's handler. Its lock is taken with no other held."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Which doubt holds the queue (0: it is not held). `weigh` has to know what it was when an
        # attempt began.
        self.ticket = 0
        # Whether an attempt for which the handler ran tells anything. If not, no call is needed.
        self.minds = False
        self._doubts = 0
        self._suspects: set[bytes] = set()
        self._convicted: dict[bytes, None] = {}  # the oldest first
        self._counted: set[bytes] = set()  # since it ran for an entry

    @property
    def held(self) -> bool:
        """Whether entries are to be tried one at a time."""
        return self.ticket > 0

    @property
    def eager(self) -> bool:
        """Whether another entry is to be tried at once."""
        return len(self._suspects) < EAGER

    def weigh(self, name: bytes, ticket: int, outcome: HandlerResult) -> HandlerResult:
        """Learn what came of an attempt; return what it is to count as."""
        if outcome.verdict is Verdict.MISCONFIGURED:
            with self._lock:
                self.minds = True
                if self._counts(name):
                    return replace(outcome, verdict=Verdict.RETRY)
                self._suspect(name)
        elif self.minds:
            with self._lock:
                self._ran(name, ticket, outcome)
                self.minds = bool(self.ticket or self._counted or self._convicted)
        return outcome

    def _counts(self, name: bytes) -> bool:
        if self.ticket or name not in self._convicted:
            return False
        if name not in self._counted and len(self._counted) >= MOST_COUNTED:
            return False
        self._counted.add(name)
        return True

    def _suspect(self, name: bytes) -> None:
        if not self.ticket:
            self._doubts += 1
            self.ticket = self._doubts
            self._suspects.clear()
        if len(self._suspects) < MOST_KNOWN:
            self._suspects.add(name)

    def _ran(self, name: bytes, ticket: int, outcome: HandlerResult) -> None:
        if not outcome.ran or (self.ticket and ticket != self.ticket):
            return
        self._counted.clear()
        self._convicted.pop(name, None)
        if self.ticket:
            self.ticket = 0
            self._suspects.discard(name)
            self._convicted.update(dict.fromkeys(self._suspects))
            while len(self._convicted) > MOST_KNOWN:
                del self._convicted[next(iter(self._convicted))]
