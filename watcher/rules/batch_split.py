"""Which entries of a batch are called together, and how a call that failed is split. PURE.

One call of the handler has several entries. If it fails as a whole, the entry at fault is not
known, so the entries are called again in halves, until the failing entry is alone:

    a call                                       then
    -------------------------------------------  -------------------------------------------------
    succeeds                                     its entries are done; the other half of the same
                                                 call must have the fault: it is halved, uncalled
    fails, one entry                             the failure is that entry's
    fails, more entries                          both halves are called, after all that wait
    the `MOST_FAILURES`th in a row that fails    the failure is that of every entry that is left:
                                                 what the handler needs is down, as far as is known

If one of 100 entries is bad, there are 8 to 15 calls, and each entry is in 8 of them at most.
An entry whose attempt failed before is called with few others (`TOGETHER_AGAIN`): so few that the
split always comes to its end. So an entry that is good fails at most once because of others,
however many of them are bad. An entry that was in hand when a process died is called alone.
Fails: never.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

MOST_FAILURES = 7  # calls: a whole, its halves, its quarters
TOGETHER_AGAIN = 4  # entries: to split so many takes `MOST_FAILURES` calls at most

Members = tuple[int, ...]


def groups(entries: Sequence[tuple[int, int]]) -> list[Members]:
    """Return which entries are called together, by number; each is (attempt, crashes)."""
    found: list[Members] = []
    fresh: list[int] = []
    again: list[int] = []
    alone: list[Members] = []
    for number, (attempt, crashes) in enumerate(entries):
        if crashes:
            alone.append((number,))
        elif attempt > 1:
            again.append(number)
        else:
            fresh.append(number)
    if fresh:
        found.append(tuple(fresh))
    starts = range(0, len(again), TOGETHER_AGAIN)
    found += (tuple(again[start : start + TOGETHER_AGAIN]) for start in starts)
    return found + alone


class Split:
    """One group of entries on its way through the table above."""

    def __init__(self, members: Iterable[int]) -> None:
        # With each part: whether it is the second half of a call that failed.
        self._waiting: deque[tuple[Members, bool]] = deque([(tuple(members), False)])
        self._called: Members = ()
        self._failures = 0  # calls in a row

    def next(self) -> Members:
        """Return the entries of the next call; () if nothing is left."""
        self._called = self._waiting.popleft()[0] if self._waiting else ()
        return self._called

    def rest(self) -> Members:
        """Return the entries that wait for a call, and forget them."""
        left = tuple(member for part, _ in self._waiting for member in part)
        self._waiting.clear()
        return left

    def succeeded(self) -> None:
        """Take note that the last call succeeded."""
        self._failures = 0
        if self._waiting and self._waiting[0][1] and len(self._waiting[0][0]) > 1:
            part, _ = self._waiting.popleft()
            self._waiting.extendleft(reversed(_halves(part)))

    def interrupted(self, left: Members) -> None:
        """Take note that the last call ended for a known reason: `left` of it is called again."""
        if left:
            self._waiting.appendleft((left, False))

    def failed(self, left: Members) -> Members:
        """Take note that the last call failed, which told nothing of the entries `left`.

        Return the entries whose result this failure is.
        """
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            return left + self.rest()
        if len(self._called) == 1 or not left:
            return left
        self._waiting.extend(_halves(left))
        return ()


def _halves(part: Members) -> list[tuple[Members, bool]]:
    middle = (len(part) + 1) // 2
    halves = [(part[:middle], False), (part[middle:], True)]
    return halves if len(part) > 1 else halves[:1]
