"""What the actors of a scenario do: the program's own code, and the writers it is to serve.

Each is a function of the stepper and the queue's path that runs in a process of its own and returns
a word on how it ended.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from explorer.rules import walk_2_0_13
from explorer.stepping import Stepper
from explorer.steps import REAL

import writers
from reported_rule import walk as walk_2_0_8
from watcher import contents
from watcher.age import Ages, SystemClock
from watcher.attempt import Attempt
from watcher.claim.take import Terms
from watcher.entry import Entry
from watcher.evidence import How
from watcher.handle.function import Function
from watcher.handle.outcome import Reject, Retry
from watcher.lifecycle import Move
from watcher.operate.moves import Moves
from watcher.operate.selection import Filter, select, states_for
from watcher.operate.who import Who
from watcher.producer import enqueue
from watcher.report import Patience
from watcher.settle.policy import Policy
from watcher.settle.settle import prepare
from watcher.settlement import Settlement
from watcher.spool.layout import Layout
from watcher.spool.spool import Spool
from watcher.sweep import Limits, Orders, Sweep

Work = Callable[[Stepper, str], str]
ENTRIES = (".pck", ".msg", ".csv")
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
        letter = writers.Letter(message(self.token), metadata(self.token))
        return commit(root, letter, writers.no_pause)


PROTOCOLS: dict[str, Callable[[str, writers.Letter, writers.Between], str]] = {
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

    def spool(self, root: str) -> Spool:
        suffix = b".csv" if self.raw else b".pck"
        return Spool(os.fsencode(root), Layout(suffix, self.raw, self.legacy and not self.raw))

    def terms(self) -> Terms:
        return Terms(0.0, Ages(SystemClock()))

    def sweep(self, stepper: Stepper, root: str) -> str:
        """One sweep by hand."""
        orders = Orders("q", self.terms(), self.policy)
        spool = self.spool(root)
        sweep = Sweep(spool, orders, Function(Says(stepper, *self.words)), Limits())
        told = [line.report.result.value for line in sweep.lines(lambda _told: None)]
        del sweep, spool
        gc.collect()
        return ", ".join(told)

    def attempt(self, how: How, name: str, events: tuple[str, ...]) -> Work:
        """What a daemon's worker does with one hint; it comes when the events were there."""
        return lambda stepper, root: self._attempt(stepper, root, how, name, events)

    def _attempt(
        self, stepper: Stepper, root: str, how: How, name: str, events: tuple[str, ...]
    ) -> str:
        spool = self.spool(root)
        patience = Patience(lambda _seconds: False, lambda _text: None)
        settlement = Settlement(
            "q", self.terms(), self.policy, SystemClock(), lambda _told: None, patience
        )
        attempt = Attempt(Function(Says(stepper, *self.words)), settlement)
        if events:
            stepper.wait_for(*events)
        report = attempt(spool, os.fsencode(name), how)
        del attempt, settlement, spool
        gc.collect()
        return report.result.value

    def operate(self, move: Move) -> Work:
        """An operator's command for all that it can be given for."""

        def work(_stepper: Stepper, root: str) -> str:
            spool = self.spool(root)
            entries, _ = select(spool, None, move, states_for(move), Filter(), contents.MAX_SIZE)
            moves = Moves(spool, self.terms(), Who("operator", 0))
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


def names(root: str) -> Iterator[str]:
    """Yield every file below the queue, unseen by the stepper."""
    with REAL["scandir"](root) as items:
        for item in items:
            if item.is_dir(follow_symlinks=False):
                yield from names(item.path)
            elif not item.name.startswith("journal"):
                yield item.path


def old_rule(walk: Callable[[str], list[str]]) -> Work:
    """Return an actor that walks the directory once by an old rule; it returns what was handled."""
    return lambda _stepper, root: " ".join(walk(root))


RULES = {"2002": walk_2_0_8, "2.0.13": walk_2_0_13}
