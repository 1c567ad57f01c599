"""What the actors of a scenario do: the program's own code, and the writers it is to serve.

Each is a function of the stepper and the queue's path that runs in a process of its own and returns
a word on how it ended.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from explorer.rules import walk_2_0_13
from explorer.stand_ins import Buffered
from explorer.stepping import Stepper
from explorer.steps import ENDED, REAL

import writers
from reported_rule import walk as walk_2_0_8
from watcher import mailman
from watcher.attempt import Attempt
from watcher.commit_one import enqueue
from watcher.handle.entry import Entry
from watcher.handle.function import Function
from watcher.handle.handler import Reject, Retry
from watcher.operate.operator import Operator
from watcher.operate.operator_moves import Moves
from watcher.operate.select_entries import Filter, select, states_for
from watcher.rules.age import Ages, Clock, SystemClock
from watcher.rules.archived_names import ArchiveOptions
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import Move
from watcher.rules.names import Layout
from watcher.rules.results import AttemptEnd
from watcher.rules.retry import Policy
from watcher.settle import moves
from watcher.settle.finish import Finisher
from watcher.settle.moves import prepare
from watcher.settle.refused import DiskRetry
from watcher.settle.unremovable import Unremovable
from watcher.spool.claimed import ClaimOptions
from watcher.spool.part import Part
from watcher.spool.spool import Spool
from watcher.sweep import Limits, Sweep, SweepOptions

Work = Callable[[Stepper, str], str]
ENTRIES = (".pck", ".msg", ".csv")
MARKER = ".done"
DAY = 86_400  # seconds
ROUNDS = 12  # sweeps of a recovery, a day apart, before it counts as one that never ends
TOKEN = re.compile(rb"<<([a-z0-9]+)>>")

prepare()


def message(token: str) -> bytes:
    """Return a message that tells whether it is whole: its token is its last word."""
    return f"From: ann@example.com\nSubject: {token}\n\nposting\n<<m{token}>>\n".encode()


def metadata(token: str) -> dict[str, object]:
    """Return metadata that tells whether it is whole and whose it is."""
    return {"listname": f"<<d{token}>>"}


class Letters(NamedTuple):
    """How a writer commits."""

    protocol: str
    token: str = "a"
    pieces: int = 2  # in which a file is written

    def __call__(self, stepper: Stepper, root: str) -> str:
        stepper.pieces = self.pieces
        if self.protocol == "enqueue":
            return enqueue(root, message(self.token), metadata(self.token))
        if self.protocol == "raw":
            return enqueue(root, message(self.token), raw=True, suffix=".csv")
        writers.open = stepper.open_buffered  # type: ignore[attr-defined]
        commit = PROTOCOLS[self.protocol]
        letter = writers.TestMessage(message(self.token), metadata(self.token))
        return commit(root, letter, writers.no_pause)


PROTOCOLS: dict[str, Callable[[str, writers.TestMessage, writers.Between], str]] = {
    **writers.PROTOCOLS,
    "2.0.8, .db closed last": partial(writers.commit_2_0_8, db_closed_last=True),
    "2.1.4, plain text": partial(writers.commit_2_1_4, plaintext=True),
}


class RenameOver(NamedTuple):
    """A writer of a drop folder: a new file is renamed over the name of the one before."""

    name: str
    token: str
    data: bytes = b""  # "": the message and nothing else

    def __call__(self, stepper: Stepper, root: str) -> str:
        path = os.path.join(root, self.name)
        with stepper.open_buffered(path + ".tmp", "wb") as file:
            file.write(self.data or message(self.token))
        os.rename(path + ".tmp", path)
        return self.name


class RenameOpen(NamedTuple):
    """A writer of a drop folder that renames its file in while it still has it open."""

    name: str
    token: str

    def __call__(self, stepper: Stepper, root: str) -> str:
        path, data = os.path.join(root, self.name), message(self.token)
        stepper.pieces = 1
        with stepper.open_buffered(path + ".tmp", "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            os.rename(path + ".tmp", path)
            file.write(data[len(data) // 2 :])
        return self.name


class LinkIn(NamedTuple):
    """A writer of a drop folder that commits by link(2), or by linkat(2) of an unnamed file.

    With `opened` it links its file in while it still has it open, and writes the rest then.
    """

    name: str
    token: str
    below: str = ""  # "tmp/": Maildir's; "": beside it, under a temporary name
    unnamed: bool = False
    opened: bool = False

    def __call__(self, stepper: Stepper, root: str) -> str:
        path, data = os.path.join(root, self.name), message(self.token)
        temporary = os.path.join(root, f"{self.below}.{self.name}.tmp")
        stepper.pieces = 1
        file = (
            Buffered(stepper.open_unnamed(root))
            if self.unnamed
            else stepper.open_buffered(temporary, "wb")
        )
        file.write(data[: len(data) // 2])
        file.flush()
        if not self.opened:
            file.write(data[len(data) // 2 :])
            file.flush()
            if not self.unnamed:
                file.close()
        if self.unnamed:
            stepper.name_it(file.fileno(), path)
        else:
            os.link(temporary, path, src_dir_fd=None, dst_dir_fd=None)  # type: ignore[arg-type]
        if self.opened:
            file.write(data[len(data) // 2 :])
        file.close()
        if not self.unnamed:
            os.unlink(temporary)
        return self.name


class WriteAndReopen(NamedTuple):
    """A writer that writes in place, and closes the file and opens it anew on the way."""

    name: str
    token: str
    where: str = "middle"  # or "begin": nothing is written before; or "end": nothing is after

    def __call__(self, stepper: Stepper, root: str) -> str:
        path, data = os.path.join(root, self.name), message(self.token)
        stepper.pieces = 1
        first = {"begin": 0, "middle": len(data) // 2, "end": len(data)}[self.where]
        for mode, part in (("wb", data[:first]), ("ab", data[first:])):
            with stepper.open_buffered(path, mode) as file:
                if part:
                    file.write(part)
        return self.name


class WriteInPlace(NamedTuple):
    """A writer that opens a file by its name, also one that is in hand, and writes to it.

    With "ab" it appends (and makes the file if it is not there), with "wb" it writes it anew.
    """

    name: str
    token: str
    mode: str = "ab"
    pieces: int = 2
    after: str = ""  # the event that it waits for

    def __call__(self, stepper: Stepper, root: str) -> str:
        stepper.pieces = self.pieces
        if self.after:
            stepper.wait_for(self.after)
        with stepper.open_buffered(os.path.join(root, self.name), self.mode) as file:
            file.write(message(self.token))
        return self.name


class Marked(NamedTuple):
    """A writer of a drop folder with markers: the file in place, then its marker.

    The marker is the writer's last step.
    """

    name: str
    token: str
    how: str = "in place"  # how the marker comes; or "renamed"
    entry: str = "in place"  # how the entry comes; "reopened": closed between two halves; "renamed"
    waits: str = ""  # for this event, before it begins

    def __call__(self, stepper: Stepper, root: str) -> str:
        stepper.pieces = 1
        if self.waits:
            stepper.wait_for(self.waits)
        path, data = os.path.join(root, self.name), message(self.token)
        half = len(data) // 2 if self.entry == "reopened" else len(data)
        there = path + ".tmp" if self.entry == "renamed" else path
        for mode, part in (("wb", data[:half]), ("ab", data[half:])):
            if part:
                with stepper.open_buffered(there, mode) as file:
                    file.write(part)
        if self.entry == "renamed":
            os.rename(there, path)
        how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        if self.how == "renamed":
            scratch = os.path.join(root, ".scratch" + MARKER)
            os.close(os.open(scratch, how, 0o666))
            os.rename(scratch, path + MARKER)
        else:
            os.open(path + MARKER, how, 0o666)  # open until the writer ends
        return self.name


class Says:
    """A handler that tells what it was given and says what it was told to say."""

    def __init__(self, stepper: Stepper, *words: str) -> None:
        self._stepper = stepper
        self._words = list(words)

    def __call__(self, entry: Entry) -> None:
        inodes = tuple(part.ino for part in entry.parts)
        body, facts = entry.message, repr(entry.metadata)
        word = self._words.pop(0) if len(self._words) > 1 else self._words[0]
        self._stepper.handle(f"begins {entry.name}", body, facts, inodes)
        self._stepper.handle(word, body, facts, inodes)
        if word == "retry":
            raise Retry("asked to", after=1.0)
        if word == "reject":
            raise Reject("asked to")


class Runner(NamedTuple):
    """A process that runs the program's own code on the queue."""

    words: tuple[str, ...] = ("done",)
    legacy: bool = True
    raw: bool = False
    policy: Policy = Policy()
    pinned: frozenset[str] = frozenset()  # another user's files, in a sticky directory
    grace: float = 0.0  # seconds; every file is years old
    believes: bool = False  # IN_CREATE alone, or one close, whatever comes after
    settle: float = 0.0  # seconds; see `Stepper.read_clock`
    marked: bool = False  # raw: an entry is complete when its marker is there
    archives: bool = False  # a done file is moved to archive/
    broken: bool = False  # it unlinks the marker by its name, after the entry

    def spool(self, root: str) -> Spool:
        suffix = b".csv" if self.raw else b".pck"
        layout = Layout(suffix, self.raw, self.legacy and not self.raw)
        if self.marked:
            layout = layout._replace(marker=b"{name}" + MARKER.encode())
        if self.broken:
            moves.remove_marked = marker_last  # type: ignore[attr-defined]
        spool = Spool(os.fsencode(root), layout)
        spool.use_archive(ArchiveOptions(b"archive") if self.archives else None)
        return spool

    def terms(self, clock: Clock | None = None) -> ClaimOptions:
        return ClaimOptions(self.grace, Ages(clock or SystemClock()), settle=self.settle)

    def sweep(self, stepper: Stepper, root: str) -> str:
        """One sweep by hand."""
        stepper.pinned = self.pinned
        orders = SweepOptions("q", self.terms(), self.policy)
        spool = self.spool(root)
        sweep = Sweep(spool, orders, Function(Says(stepper, *self.words)), Limits())
        told = [line.report.result.value for line in sweep.lines(lambda _told: None)]
        del sweep, spool
        gc.collect()
        return ", ".join(told)

    def attempt(self, proof: Proof, name: str, events: tuple[str, ...]) -> Work:
        """What a daemon's worker does with one hint; it comes when the events were there."""
        return lambda stepper, root: self._attempt(stepper, root, proof, name, events)

    def _attempt(
        self, stepper: Stepper, root: str, proof: Proof, name: str, events: tuple[str, ...]
    ) -> str:
        spool = self.spool(root)
        attempt = self._attempts(stepper)
        if events:
            stepper.wait_for(*events)
        report = attempt(spool, os.fsencode(name), proof)
        if proof is Proof.LINKED and report.proof is proof:  # it looks again; here once
            report = attempt(spool, os.fsencode(name), proof)
        del attempt, spool
        gc.collect()
        return name if self.believes else report.result.value

    def settled(self, name: str, writer: str) -> Work:
        """What a daemon does with a file that was closed: at some moment, and when time is over."""

        def work(stepper: Stepper, root: str) -> str:
            spool = self.spool(root)
            attempt = self._attempts(
                stepper, None if self.believes else WriterClock(stepper, writer)
            )
            stepper.wait_for(f"closed {name}")
            report = attempt(spool, os.fsencode(name), Proof.CLOSED)
            if report.result in (AttemptEnd.YOUNG, AttemptEnd.WRITER):
                stepper.wait_for(ENDED + writer)
                report = attempt(spool, os.fsencode(name), Proof.CLOSED)
            del attempt, spool
            gc.collect()
            return report.result.value

        return work

    def _attempts(self, stepper: Stepper, clock: Clock | None = None) -> Attempt:
        patience = DiskRetry(lambda _seconds: False, lambda _text: None)
        closed = (lambda _name: False) if self.believes else stepper.was_closed
        terms = self.terms(clock)._replace(closed=closed)
        settlement = Finisher("q", terms, self.policy, SystemClock(), lambda _told: None, patience)
        settlement.unremovable = Unremovable(lambda: float(stepper.now))
        return Attempt(Function(Says(stepper, *self.words)), settlement)

    def keep(self, *names: str) -> Work:
        """What a daemon does with entries of which it may not remove all, until it may."""

        def work(stepper: Stepper, root: str) -> str:
            stepper.pinned = self.pinned
            spool = self.spool(root)
            attempt = self._attempts(stepper)
            kept = attempt.settlement.unremovable
            assert kept is not None
            told = [attempt(spool, os.fsencode(name), Proof.RENAMED).result for name in names]
            for pinned in (self.pinned, frozenset()):
                stepper.now += DAY
                stepper.pinned = pinned
                told += [report.result for _name, report in kept.retry()]
            kept.let_go()
            del attempt, spool, kept
            gc.collect()
            return ", ".join(result.value for result in told)

        return work

    def operate(self, move: Move) -> Work:
        """An operator's command for all that it can be given for."""

        def work(_stepper: Stepper, root: str) -> str:
            spool = self.spool(root)
            entries, _ = select(spool, None, move, states_for(move), Filter(), mailman.MAX_SIZE)
            moves = Moves(spool, self.terms(), Operator("operator", 0))
            told = [str(moved.state and moved.state.value) for moved in moves.make(move, entries)]
            del moves, spool
            gc.collect()
            return ", ".join(told)

        return work

    def recover(self, stepper: Stepper, root: str) -> str:
        """Sweep as a fresh process would, day after day, until nothing changes."""
        for _ in range(ROUNDS):
            stepper.now += DAY
            before = sorted(names(root))
            self.sweep(stepper, root)
            # A .db, a note or its scratch alone explain what did not come to be.
            waiting = any("/deferred/" in n and n.endswith(ENTRIES) for n in before)
            if sorted(names(root)) == before and not waiting:
                return "quiet"
        return "never quiet"


class WriterClock:
    """The clocks of a daemon beside a writer that pauses for less than `settle`."""

    def __init__(self, stepper: Stepper, writer: str) -> None:
        self._stepper, self._writer = stepper, writer
        self._moment = 0

    def real(self) -> int:
        self._moment = self._stepper.read_clock(self._writer)
        return self._moment

    def mono(self) -> int:
        return self._moment  # asked for after `real`; it is not stepped


def names(root: str) -> Iterator[str]:
    """Yield every file below the queue, unseen by the stepper."""
    with REAL["scandir"](root) as items:
        for item in items:
            if item.is_dir(follow_symlinks=False):
                yield from names(item.path)
            elif not item.name.startswith("journal"):
                yield item.path


def marker_last(spool: Spool, part: Part, remove: Callable[[], bool]) -> bool:
    """Remove a done entry, and then its marker: the wrong way round."""
    removed = remove()
    if removed:
        with contextlib.suppress(FileNotFoundError):
            spool.disk.unlink(spool.layout.marker_of(part.name), spool.fd)
    return removed


def old_rule(walk: Callable[[str], list[str]]) -> Work:
    """Return an actor that walks the directory once by an old rule; it returns what was handled."""
    return lambda _stepper, root: " ".join(walk(root))


RULES = {"2002": walk_2_0_8, "2.0.13": walk_2_0_13}
