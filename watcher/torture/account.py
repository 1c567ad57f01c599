"""The books of a torture, balanced: what was accepted, and what became of each entry. PURE.

    accepted = done + in dead/ + in orphans/ + left over + lost

Handled twice is right where the process that handled it first was killed before the second began:
nobody could know how far it had come. It is wrong where that process lived on. Two handlings that
overlap in time are wrong whoever was killed: a claim ends with the last process that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from watcher.torture.books import Line

IN_PLACE = "2.0.8/"  # the protocol that leaves a message cut short when its writer is killed
ENDS = ("done", "retry", "reject")
POISON = "poison"  # how the note begins of an entry that processes died with
AGAIN, TWICE, AT_ONCE = "again", "twice", "at once"  # the first is right, after a kill


class Books(NamedTuple):
    """What is known after a storm."""

    writers: list[Line]
    handled: list[Line]
    killed: Mapping[int, int]  # by number of the process: when, nanoseconds
    on_disk: Mapping[str, list[str]]  # by number of the entry: the directories it lies in
    whys: Mapping[str, str]  # and why, where a note says so


class Handling(NamedTuple):
    """One time that a handler had an entry."""

    who: int
    pid: int
    began: int
    ended: int | None  # None: it was killed before its word
    answer: str


class Account(NamedTuple):
    """What became of the entries; where there are names, they are those of entries."""

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
    cut_short: int = 0  # messages that a killed writer left cut short, as nobody can tell
    repeated: int = 0  # entries handled more than once because the handling process was killed

    @property
    def wrong(self) -> list[str]:
        """All entries with which something is wrong."""
        early = {*self.torn, *self.damaged}
        return sorted(
            early.union(self.lost, self.left, self.orphaned, self.doubled, self.overlapped)
        )


def balance(books: Books) -> Account:
    """Balance the books."""
    names = {line.number: line.rest for line in books.writers}
    accepted = [line.number for line in books.writers if line.what == "accepted"]
    by_number = handlings(books.handled)
    done = {
        number for number, each in by_number.items() if any(one.answer == "done" for one in each)
    }
    where = {number: books.on_disk.get(number, []) for number in accepted}
    left = [n for n in accepted if any(_unsettled(place) for place in where[n])]
    orphans = [n for n in accepted if ".watcher/orphans" in where[n] and n not in left]
    aside = {*left, *orphans}
    # One that was done, and is in dead/ all the same, was in hand at three deaths after that.
    dead = [n for n in accepted if ".watcher/dead" in where[n] and n not in aside]
    torn, cut_short = _torn(books)
    twice = {number: _wrongly(each, books.killed) for number, each in by_number.items()}
    return Account(
        begun=sum(1 for line in books.writers if line.what == "begun"),
        accepted=len(accepted),
        done=len(done.intersection(accepted) - {*aside, *dead}),
        dead=len(dead),
        orphaned=_called(orphans, names),
        left=_called(left, names),
        lost=_called([n for n in accepted if not where[n] and n not in done], names),
        torn=torn,
        damaged=_called([n for n in dead if not _rightly_dead(n, by_number, books.whys)], names),
        doubled=_called([n for n, found in twice.items() if TWICE in found], names),
        overlapped=_called([n for n, found in twice.items() if AT_ONCE in found], names),
        cut_short=cut_short,
        repeated=sum(1 for found in twice.values() if found == {AGAIN}),
    )


def _rightly_dead(
    number: str, by_number: Mapping[str, list[Handling]], whys: Mapping[str, str]
) -> bool:
    """Whether a handler rejected it, or enough processes died with it: all else called it damaged.

    And whole it is, or it would not have been accepted: so it was looked at too early.
    """
    rejected = any(one.answer == "reject" for one in by_number.get(number, []))
    return rejected or whys.get(number, "").startswith(POISON)


def _unsettled(place: str) -> bool:
    return place not in (".watcher/dead", ".watcher/orphans")


def _called(numbers: Iterable[str], names: Mapping[str, str]) -> list[str]:
    return [f"{number} ({names.get(number, 'of no writer of ours')})" for number in numbers]


def handlings(lines: Iterable[Line]) -> dict[str, list[Handling]]:
    """Return each entry's handlings, in the order in which they began."""
    ends: dict[tuple[str, int, int], list[Line]] = {}
    begins: list[Line] = []
    for line in lines:
        if line.what == "begin":
            begins.append(line)
        elif line.what in ENDS:
            ends.setdefault((line.number, line.who, line.pid), []).append(line)
    found: dict[str, list[Handling]] = {}
    for line in sorted(begins, key=lambda line: line.ns):
        mine = ends.get((line.number, line.who, line.pid), [])
        end = min((one for one in mine if one.ns >= line.ns), key=lambda one: one.ns, default=None)
        later = (one for one in begins if one[1:3] == line[1:3] and one.number == line.number)
        following = min((one.ns for one in later if one.ns > line.ns), default=None)
        if end is not None and following is not None and end.ns > following:
            end = None  # that is the word of the next one by the same process
        answer = end.what if end else ""
        handling = Handling(line.who, line.pid, line.ns, end.ns if end else None, answer)
        found.setdefault(line.number, []).append(handling)
    return found


def _wrongly(each: list[Handling], killed: Mapping[int, int]) -> set[str]:
    """Say what came of handling an entry more than once: again (rightly), twice, at once."""
    found = set()
    for first, second in pairwise(each):
        end = first.ended if first.ended is not None else killed.get(first.who, first.began)
        if second.began < end:
            found.add(AT_ONCE)
        if first.answer in ("done", "reject"):
            # A command begins after its daemon's death, too: what counts is that this was before.
            kill = killed.get(first.who)
            found.add(AGAIN if kill is not None and kill < second.began else TWICE)
        elif not first.answer:
            found.add(AGAIN)
    return found


def _torn(books: Books) -> tuple[list[str], int]:
    """Return the entries that were handled though not whole, and how many nobody could have told.

    A writer that writes in place and is killed in the middle has closed its file as if it were
    complete: that is its protocol's fault, and known.
    """
    accepted = {line.number for line in books.writers if line.what == "accepted"}
    begun = {
        line.rest.removeprefix(IN_PLACE): line
        for line in books.writers
        if line.what == "begun" and line.rest.startswith(IN_PLACE) and line.number not in accepted
    }
    torn, cut_short = [], 0
    for line in books.handled:
        if line.what != "torn":
            continue
        writer = begun.get(line.rest)
        if writer is not None and books.killed.get(writer.who, line.ns) < line.ns:
            cut_short += 1
        else:
            torn.append(line.rest)
    return torn, cut_short
