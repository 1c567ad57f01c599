"""Attempts at several entries in one call of the handler, which is split if it fails as a whole.

    begin     claim each entry (`Attempt.begin`), as many as one call may have
    call      the groups that `rules.batch_split` makes of them
    settle    each entry by the word that the handler gave for it, else by how the call ended

Guarantees: those of an `Attempt`. Each entry is settled once, as soon as its result is known: the
entries of a half that succeeded do not wait for the other half. An entry that was in
several calls counts one attempt. None is rejected by a call that had others in it, too.
Fails: never because of an entry or a handler.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from watcher.attempt import Attempt, Begun
from watcher.handle.batch_handler import BatchHandler
from watcher.rules.batch_split import Members, Split, groups
from watcher.rules.results import HANDLED, AttemptResult, HandlerResult, Verdict, shortened
from watcher.spool.abort_request import AbortRequest

# Descriptors of an entry: its files, a copy of one, and the message where the file is not that.
OF_BATCHED = 3
OF_THE_REST = 128  # descriptors of the process for all else
MOST_DECODED = (
    64 << 20
)  # bytes of files whose messages have to be in memory; the first may be larger
_ENDED = HandlerResult(Verdict.STOPPED, "the rest of a batch that failed, when it was to end")


def most_in_batch(workers: int) -> int:
    """Return for how many entries each of so many threads has descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (soft - OF_THE_REST) // (OF_BATCHED * workers))


Settled = Callable[[Begun, AttemptResult], None]


class _Result(NamedTuple):
    outcome: HandlerResult
    request: AbortRequest | None = None


def _alike(numbers: Sequence[int], whole: HandlerResult) -> dict[int, _Result]:
    """Return the results of entries that were in calls that failed, by the last of these calls.

    Only an entry that was alone is rejected: of several, one may be bad and all others good.
    """
    if whole.verdict is Verdict.REJECT and len(numbers) > 1:
        why = f"{whole.reason}: which entry is not known; with fewer at the next attempt"
        whole = replace(whole, verdict=Verdict.RETRY, reason=shortened(why))
    return dict.fromkeys(numbers, _Result(whole))


class Batch:
    """The entries that one thread has in hand for one call.

    `ending` says whether no other call is to begin; then what a failed call left stays as it is.
    """

    def __init__(
        self,
        attempt: Attempt,
        handler: BatchHandler,
        settled: Settled,
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._attempt = attempt
        self._handler = handler
        self._settled = settled
        self._ending = ending
        self._begun: dict[int, Begun] = {}  # by number; what is settled is taken out
        self._decoded = 0
        self._suspect = False

    @property
    def number(self) -> int:
        """The number of the next entry that is begun."""
        return len(self._begun)

    def add(self, begun: Begun) -> None:
        """Take an entry that was begun with `number`; it is settled by `run`, or by `let_go`."""
        self._begun[begun.number] = begun
        self._suspect = self._suspect or begun.entry.crashes > 0
        if not begun.entry.plain:
            self._decoded += sum(part.size for part in begun.entry.parts)

    def full(self) -> bool:
        """Whether no other entry is to be added.

        None is added after one that was in hand when a process died. That one is called alone, and
        if it ends another process, the entries that wait beside it would count as suspects again.
        """
        most = self._handler.most
        return self._suspect or len(self._begun) >= most or self._decoded >= MOST_DECODED

    def run(self) -> None:
        """Call the handler for every entry, and settle each; then others may be added."""
        self._decoded, self._suspect = 0, False
        now = time.monotonic()
        for number, begun in list(self._begun.items()):
            self._begun[number] = begun._replace(began=now)
            self._attempt.in_hand[id(begun.entry)] = begun.entry, now  # the same for all
            if begun.too_large is not None:
                self._settle({number: _Result(begun.too_large)})
        numbers = list(self._begun)
        entries = [self._begun[number].entry for number in numbers]
        for group in groups([(entry.attempt, entry.crashes) for entry in entries]):
            self._run(Split(numbers[place] for place in group))

    def let_go(self) -> None:
        """Give up what is not settled: something was raised."""
        while self._begun:
            self._attempt.let_go(self._begun.popitem()[1])

    def _run(self, split: Split) -> None:
        called = split.next()
        while called:
            if self._ending():
                rest = sorted((*called, *split.rest()))
                self._settle(dict.fromkeys(rest, _Result(_ENDED)))
                return
            said = self._handler.run_batch([self._begun[number].entry for number in called])
            self._settle(
                {called[place]: _Result(word) for place, word in sorted(said.words.items())}
            )
            left = tuple(number for number in called if number in self._begun)
            if said.whole.verdict is Verdict.DONE:
                split.succeeded()
                # What the handler printed is logged with one of the entries.
                results = dict.fromkeys(left, _Result(HANDLED))
                self._settle(results | dict.fromkeys(left[:1], _Result(said.whole)))
            elif said.unsplit:
                rest = sorted((*left, *split.rest()))
                self._settle(_alike(rest, said.whole))
            elif aborted := self._aborted(left, said.whole):
                self._settle(aborted)
                split.interrupted(tuple(number for number in left if number in self._begun))
            else:
                failed = sorted(split.failed(left))  # in the order of the entries
                self._settle(_alike(failed, said.whole))
            called = split.next()

    def _aborted(self, left: Members, whole: HandlerResult) -> dict[int, _Result]:
        """Return the results of the entries of which an operator aborted the attempt."""
        if not whole.ran:
            return {}
        requests = {number: self._attempt.abort_request(self._begun[number]) for number in left}
        return {number: _Result(whole, found) for number, found in requests.items() if found}

    def _settle(self, results: Mapping[int, _Result]) -> None:
        if len(results) > 1:
            self._attempt.settlement.settling(
                [(self._begun[number].claim, one.outcome) for number, one in results.items()]
            )
        for number, (outcome, request) in results.items():
            begun = self._begun.pop(number)
            self._settled(begun, self._attempt.settle(begun, outcome, request))
