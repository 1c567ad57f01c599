"""The account of a torture: what was accepted, and what became of each entry. PURE.

    accepted = done + in dead/ + in orphans/ + left over + lost

A second handling is right if the process of the first was killed before the second began: no
process can know how far the first had come. It is wrong if that process went on. Two handlings that
overlap in time are always wrong: a claim ends with the last process that holds it.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from watcher.torture.event_log import Line

IN_PLACE = "2.0.8/"  # with this protocol, a killed writer leaves a message cut short
ANSWERS = ("done", "retry", "reject")
POISON = "poison"  # the note of an entry begins so if processes died with it in hand
AGAIN, TWICE, AT_ONCE = "again", "twice", "at once"  # `again` is right: after a kill


class Observed(NamedTuple):
    """What the torture observed."""

    writers: list[Line]
    handled: list[Line]
    killed: Mapping[int, int]  # by number of the process: monotonic nanoseconds
    on_disk: Mapping[str, list[str]]  # by number of the entry: its directories
    whys: Mapping[str, str]  # by number of the entry: the reason in its note


class Handling(NamedTuple):
    """One handling of an entry."""

    process: int
    pid: int
    began: int  # monotonic nanoseconds
    ended: int | None  # None: its process was killed before it logged an answer
    answer: str
    name: str


class Account(NamedTuple):
    """What became of the entries; the lists hold names of entries."""

    begun: int
    accepted: int
    done: int
    dead: int
    orphaned: list[str]
    left: list[str]
    lost: list[str]
    torn: list[str]
    damaged: list[str]
    doubled: list[str]
    overlapped: list[str]
    cut_short: int = 0  # messages cut short by a killed writer, which look whole
    repeated: int = 0  # entries handled more than once because the handling process was killed

    @property
    def wrong(self) -> list[str]:
        """The names of all entries with an error."""
        early = {*self.torn, *self.damaged}
        return sorted(
            early.union(self.lost, self.left, self.orphaned, self.doubled, self.overlapped)
        )


def balance(observed: Observed) -> Account:
    """Return the account of what was observed."""
    names = {line.number: line.rest for line in observed.writers}
    accepted = [line.number for line in observed.writers if line.what == "accepted"]
    by_number = handlings(observed.handled)
    done = {
        number for number, each in by_number.items() if any(one.answer == "done" for one in each)
    }
    where = {number: observed.on_disk.get(number, []) for number in accepted}
    left = [n for n in accepted if any(_unsettled(place) for place in where[n])]
    orphans = [n for n in accepted if ".watcher/orphans" in where[n] and n not in left]
    aside = {*left, *orphans}
    # An entry may be done and in dead/: three processes died with it in hand after that.
    dead = [n for n in accepted if ".watcher/dead" in where[n] and n not in aside]
    torn, cut_short = _torn(observed)
    twice = {number: _wrongly(each, observed.killed) for number, each in by_number.items()}
    return Account(
        begun=sum(1 for line in observed.writers if line.what == "begun"),
        accepted=len(accepted),
        done=len(done.intersection(accepted) - {*aside, *dead}),
        dead=len(dead),
        orphaned=_called(orphans, names),
        left=_called(left, names),
        lost=_called([n for n in accepted if not where[n] and n not in done], names),
        torn=torn,
        damaged=_called([n for n in dead if not _rightly_dead(n, by_number, observed.whys)], names),
        doubled=_called([n for n, found in twice.items() if TWICE in found], names),
        overlapped=_called([n for n, found in twice.items() if AT_ONCE in found], names),
        cut_short=cut_short,
        repeated=sum(1 for found in twice.values() if found == {AGAIN}),
    )


def _rightly_dead(
    number: str, by_number: Mapping[str, list[Handling]], whys: Mapping[str, str]
) -> bool:
    """Whether a handler rejected it, or enough processes died with it in hand.

    If not, the daemon called it damaged: it read the entry too early, for an accepted entry is
    whole.
    """
    rejected = any(one.answer == "reject" for one in by_number.get(number, []))
    return rejected or whys.get(number, "").startswith(POISON)


def _unsettled(place: str) -> bool:
    return place not in (".watcher/dead", ".watcher/orphans")


def _called(numbers: Iterable[str], names: Mapping[str, str]) -> list[str]:
    return [f"{number} ({names.get(number, 'of an unknown writer')})" for number in numbers]


def handlings(
    lines: Iterable[Line], answers: Container[str] = ANSWERS
) -> dict[str, list[Handling]]:
    """Return each entry's handlings, by its number, in the order in which they began."""
    found: dict[str, list[Handling]] = {}
    for line in sorted(lines, key=lambda line: line.ns):
        each = found.setdefault(line.number, [])
        if line.what == "begin":
            each.append(Handling(line.process, line.pid, line.ns, None, "", line.rest))
        elif line.what in answers:
            for index in reversed(range(len(each))):
                begun = each[index]
                if (begun.process, begun.pid, begun.ended) == (line.process, line.pid, None):
                    each[index] = begun._replace(ended=line.ns, answer=line.what)
                    break
    return {number: each for number, each in found.items() if each}


def _wrongly(each: list[Handling], killed: Mapping[int, int]) -> set[str]:
    """Classify the handlings after the first one: `again` (right), `twice`, `at once` (wrong)."""
    found = set()
    for first, second in pairwise(each):
        end = first.ended if first.ended is not None else killed.get(first.process, first.began)
        if second.began < end:
            found.add(AT_ONCE)
        if first.answer in ("done", "reject"):
            # A command may begin after its daemon's death: the kill must be before this handling.
            kill = killed.get(first.process)
            found.add(AGAIN if kill is not None and kill < second.began else TWICE)
        elif not first.answer:
            found.add(AGAIN)
    return found


def _torn(observed: Observed) -> tuple[list[str], int]:
    """Return the entries that were handled though not whole, and how many look whole.

    If a writer that writes in place is killed, the kernel closes its file as if it were complete:
    that is a known limit of its protocol.
    """
    accepted = {line.number for line in observed.writers if line.what == "accepted"}
    begun = {
        line.rest.removeprefix(IN_PLACE): line
        for line in observed.writers
        if line.what == "begun" and line.rest.startswith(IN_PLACE) and line.number not in accepted
    }
    torn, cut_short = [], 0
    for line in observed.handled:
        if line.what != "torn":
            continue
        writer = begun.get(line.rest)
        if writer is not None and observed.killed.get(writer.process, line.ns) < line.ns:
            cut_short += 1
        else:
            torn.append(line.rest)
    return torn, cut_short
