"""Lose the power at every point of a transition, recover, and return the broken promises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from power_loss.found import read, told, write
from power_loss.losses import Disk, everything, states
from power_loss.recording import Op, Recorder, fresh, renaming
from watcher.handle.entry import Entry
from watcher.handle.function import Function
from watcher.rules.age import Ages, SystemClock
from watcher.rules.archived_names import ArchiveOptions
from watcher.rules.names import Layout
from watcher.rules.retry import Policy
from watcher.spool.claimed import ClaimOptions
from watcher.spool.spool import Spool
from watcher.sweep import Limits, Sweep, SweepOptions

ACKNOWLEDGED, DONE = "acknowledged", "done"  # the words of a scenario: `Recorder.say`
ENTRIES = (".pck", ".msg", ".csv", ".db")
STAYS = {".watcher/dead", ".watcher/held", ".watcher/orphans", "archive"}  # else a sweep handles it
_SWEEPS = 6  # more than a recovery needs


class Scenario(NamedTuple):
    """One transition: the files before it, the code that makes it, what must not be lost."""

    name: str
    layout: Layout
    prepare: Callable[[str], None]
    make: Callable[[str, Recorder], None]
    messages: tuple[bytes, ...]  # as a handler is given them
    metadata: Mapping[str, object]
    half: bytes = b""  # the .db of a pair: not lost either
    there: bool = True  # whether the entry is durably there before anything happens
    ends: str | None = None  # where its files are durably, and nowhere else, when all was made
    noreplace: bool = True  # whether the file system has RENAME_NOREPLACE
    archive: ArchiveOptions | None = None


class Result(NamedTuple):
    """The result of one scenario on one kind of disk."""

    name: str
    operations: int
    points: int  # at which the power was lost
    states: int
    broken: list[str]


class Trial:
    """One scenario on one kind of disk."""

    def __init__(self, scenario: Scenario, base: str, *, weak: bool) -> None:
        self._scenario = scenario
        self._base = base
        self._weak = weak
        self._points = 0
        self._places: set[str] = set()  # where it may stay unhandled: it was there, or moved there
        self._tried: set[tuple[bool, Disk]] = set()
        self._broken: list[str] = []

    def once(self, blind: Sequence[str] = ()) -> Result:
        """Lose the power once, at every point. Operations in `blind` are not recorded."""
        start, ops = self._recorded(blind)
        for issued, state, wanted in self._lost(start, ops, 0):
            why = self._recovered(state, wanted=wanted)
            ends = self._scenario.ends
            if not why and issued == len(ops) and ends is not None and not _is_in(state, ends):
                why = f"made, and not durable in {ends or 'nothing'}"
            self._judge(why, f"after {issued} operations", state)
        return self._result(len(ops))

    def killed_before(self) -> Result:
        """Kill the process after each operation, recover, and lose the power at every point of it.

        What the dead process did is in the kernel's memory, and as unsure as what follows.
        """
        start, ops = self._recorded()
        for made in range(1, len(ops) + 1):
            self._while_recovering(start, ops[:made], f"killed after {made} operations")
        return self._result(len(ops))

    def lost_before(self) -> Result:
        """Lose the power twice: at every point, and at every point of recovery from it."""
        start, ops = self._recorded()
        for issued, state, wanted in list(self._lost(start, ops, 0)):
            if wanted:
                self._while_recovering(state, (), f"lost after {issued} operations", there=True)
        return self._result(len(ops))

    # -- the parts ------------------------------------------------------------------------------

    def _recorded(self, blind: Sequence[str] = ()) -> tuple[Disk, list[Op]]:
        """Make the transition; return the state before it, and its operations."""
        root, scenario = f"{self._base}/recorded", self._scenario
        shutil.rmtree(root, ignore_errors=True)
        os.mkdir(root)
        scenario.prepare(root)
        start, recorder = read(root, {}), Recorder(root)
        recorder.blind, recorder.has_noreplace = frozenset(blind), scenario.noreplace
        with recorder.recording():
            scenario.make(root, recorder)
        assert everything(start, recorder.ops) == read(root, recorder.ids), "not all was recorded"
        was = [path for path, _ in start.files] + [op.to for op in recorder.ops]
        self._places = {os.path.dirname(path) for path in was} & STAYS
        return start, recorder.ops

    def _while_recovering(
        self, start: Disk, before: Sequence[Op], when: str, *, there: bool = False
    ) -> None:
        """Recover from what `before` left in the kernel, and lose the power meanwhile."""
        words = {op.path for op in before if op.what == "word"}
        there = there or self._scenario.there or ACKNOWLEDGED in words
        if DONE in words or not there:
            return
        root = f"{self._base}/recovering"
        known = write(everything(start, before), root)
        start, before = _renumbered(start, before, known)
        recorder = Recorder(root)
        recorder.has_noreplace = self._scenario.noreplace
        with recorder.recording():
            self._sweep(root, [], lambda: recorder.say(DONE))
        ops = [*before, *recorder.ops]
        assert everything(start, ops) == read(root, recorder.ids), "not all was recorded"
        end = next((n for n, op in enumerate(ops) if op == Op("word", path=DONE)), len(ops))
        for issued, state, wanted in self._lost(start, ops[:end], len(before), there=True):
            why = self._recovered(state, wanted=wanted)
            self._judge(why, f"{when}, then lost after {issued - len(before)}", state)

    def _lost(
        self, start: Disk, ops: Sequence[Op], first: int, *, there: bool = False
    ) -> Iterator[tuple[int, Disk, bool]]:
        """Yield each state that was not tried, and whether the entry must be there in it."""
        there = there or self._scenario.there
        self._points += len(ops) + 1 - first
        for issued, state in states(start, ops, weak=self._weak, first=first):
            words = {op.path for op in ops[:issued] if op.what == "word"}
            wanted = DONE not in words and (there or ACKNOWLEDGED in words)
            # The place of the entry is always checked in the last states.
            if (wanted, state) not in self._tried or issued == len(ops):
                self._tried.add((wanted, state))
                yield issued, state, wanted

    def _judge(self, why: str, when: str, state: Disk) -> None:
        if why:
            self._broken.append(f"{when}: {why}: {told(state)}")

    def _result(self, operations: int) -> Result:
        name, states_ = self._scenario.name, len(self._tried)
        return Result(name, operations, self._points, states_, self._broken)

    def _recovered(self, state: Disk, *, wanted: bool) -> str:
        """Sweep as the first process after the failure; return what is broken, or nothing."""
        root, scenario = f"{self._base}/found", self._scenario
        write(state, root)
        given: list[tuple[bytes, Mapping[str, object]]] = []
        with renaming(noreplace=scenario.noreplace):
            self._sweep(root, given, lambda: None)
        for message, metadata in given:
            if message not in scenario.messages:
                return f"a handler was given {message[:40]!r}"
            if not scenario.metadata.items() <= metadata.items():
                return f"a handler was given the metadata {metadata}"
        if not wanted:
            return ""
        handled = {message for message, _ in given}
        kept = list(_files(root, self._places))
        for message in set(scenario.messages) - handled:
            if not any(message in data for data in kept):
                return f"LOST {message[-20:]!r}"
        # The note that makes a .db follow its message may be lost: then it is an orphan, and a
        # requeue of the message finds it there.
        kept += _files(root, {".watcher/orphans"})
        if scenario.half and not handled and scenario.half not in kept:
            return "LOST the other half"
        return ""

    def _sweep(
        self,
        root: str,
        given: list[tuple[bytes, Mapping[str, object]]],
        done: Callable[[], None],
    ) -> None:
        """Recover as the program does: sweeps whose grace age is nothing, each a new process's.

        Until one finds nothing to change, which the first may not: what it deferred is due later.
        """

        def handle(entry: Entry) -> None:
            given.append((entry.message, entry.metadata))
            done()

        clock = SystemClock()
        before: list[str] | None = None
        for number in range(_SWEEPS):
            spool = Spool(os.fsencode(root), self._scenario.layout)
            spool.use_archive(self._scenario.archive)
            orders = SweepOptions("q", ClaimOptions(0.0, Ages(clock)), Policy(jitter=0.0))
            list(Sweep(spool, orders, Function(handle), Limits()).lines(lambda _told: None))
            del spool, orders
            after = sorted(f"{at}/{name}" for at, _, names in os.walk(root) for name in names)
            if number and after == before:
                return
            before = after


def _renumbered(
    start: Disk, ops: Sequence[Op], known: Mapping[int, int]
) -> tuple[Disk, tuple[Op, ...]]:
    """Return the same with the files' new numbers."""
    numbers = dict(known)
    for inode in [*dict(start.contents), *(op.inode for op in ops)]:
        if inode:
            numbers.setdefault(inode, fresh())
    numbers[0] = 0
    files = frozenset((path, numbers[inode]) for path, inode in start.files)
    contents = frozenset((numbers[inode], data) for inode, data in start.contents)
    renumbered = tuple(op._replace(inode=numbers.get(op.inode, 0)) for op in ops)
    return Disk(start.directories, files, contents), renumbered


def _is_in(state: Disk, directory: str) -> bool:
    """Whether each entry's file has a name there; "" stands for nowhere at all.

    A second name elsewhere is the unsynced end of an earlier move, by link and unlink.
    """
    entries = [(path, inode) for path, inode in state.files if path.endswith(ENTRIES)]
    there = {inode for path, inode in entries if (os.path.dirname(path) or ".") == directory}
    return {inode for _, inode in entries} == there and bool(there) == bool(directory)


def _files(root: str, places: set[str]) -> Iterator[bytes]:
    """Yield what is in the entries' files where an entry may stay that no handler was given."""
    for place in places:
        names = os.listdir(f"{root}/{place}") if os.path.isdir(f"{root}/{place}") else []
        for name in names:
            if name.endswith(ENTRIES):
                with open(f"{root}/{place}/{name}", "rb") as file:
                    yield file.read()
