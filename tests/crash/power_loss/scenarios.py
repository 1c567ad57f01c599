"""The transitions whose power failures are tried: each made by the program's own code."""

from __future__ import annotations

import gc
import marshal
import os
from collections.abc import Callable

from power_loss.recording import Recorder
from power_loss.trial import ACKNOWLEDGED, DONE, Scenario
from watcher import contents, groups
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
from watcher.settlement import Settlement
from watcher.spool.layout import Layout
from watcher.spool.spool import Spool

MESSAGE = b"From: ann@example.com\nSubject: one\n\nposting, and its last word is END\n"
METADATA = {"listname": "test"}
DRAWN = "1795000000.000001+" + "a" * 40
PLAIN = "X"
MAILMAN, RAW, LEGACY = Layout(), Layout(b".csv", raw=True), Layout(legacy=True)
Make = Callable[[str, Recorder], None]


def _put(name: str, data: bytes) -> Callable[[str], None]:
    def prepare(root: str) -> None:
        with open(f"{root}/{name}", "wb") as file:
            file.write(data)

    return prepare


def _pck(name: str) -> Callable[[str], None]:
    return _put(f"{name}.pck", contents.write_pck(MESSAGE, dict(METADATA)))


def _pair(root: str) -> None:
    _put(f"{DRAWN}.db", marshal.dumps(METADATA, 0))(root)
    _put(f"{DRAWN}.msg", MESSAGE)(root)


def _half(root: str) -> None:
    _put(f"{DRAWN}.msg", MESSAGE)(root)


def _settlement(initial: float = 0.0) -> Settlement:
    clock = SystemClock()
    patience = Patience(lambda _seconds: False, lambda _text: None)
    policy = Policy(initial=initial, jitter=0.0)
    return Settlement("q", Terms(0.0, Ages(clock)), policy, clock, lambda _told: None, patience)


def _attempt(layout: Layout, name: str, *words: str) -> Make:
    """Make an attempt for each word; all but the first at the deferred entry."""

    def make(root: str, recorder: Recorder) -> None:
        spool, file = Spool(os.fsencode(root), layout), os.fsencode(name)
        for word in words:

            def handle(entry: Entry, word: str = word) -> None:
                assert entry.message == MESSAGE
                if word == "retry":
                    raise Retry("asked to")
                if word == "reject":
                    raise Reject("asked to")
                recorder.say(DONE)

            report = Attempt(Function(handle), _settlement())(spool, file, How.SWEEP)
            file = report.name or file
        del spool
        gc.collect()

    return make


def _enqueue(raw: bool) -> Make:
    def make(root: str, recorder: Recorder) -> None:
        if raw:
            enqueue(root, MESSAGE, raw=True, suffix=".csv")
        else:
            enqueue(root, MESSAGE, METADATA)
        recorder.say(ACKNOWLEDGED)

    return make


def _enqueue_many(together: bool) -> Make:
    """Commit two in a group, synced one by one or by one sync of the file system."""

    def make(root: str, recorder: Recorder) -> None:
        few, groups.FEW = groups.FEW, 1 if together else groups.FEW
        try:
            groups.enqueue_many(root, [(MESSAGE, METADATA)] * 2)
        finally:
            groups.FEW = few
        recorder.say(ACKNOWLEDGED)

    return make


def _operate(layout: Layout, *moves: Move) -> Make:
    """Have an operator make moves, one after the other, with all that is there."""

    def make(root: str, recorder: Recorder) -> None:
        for move in moves:
            if move is Move.DELETE:
                recorder.say(DONE)  # the operator's own word
            spool = Spool(os.fsencode(root), layout)
            entries, _ = select(spool, None, move, states_for(move), Filter(), contents.MAX_SIZE)
            told = list(
                Moves(spool, Terms(0.0, Ages(SystemClock())), Who("me", 0)).make(move, entries)
            )
            assert all(moved.state is not None for moved in told), told
            del spool
            gc.collect()

    return make


def _before(prepare: Callable[[str], None], make: Make) -> Callable[[str], None]:
    """Return what prepares a queue by a transition that is complete."""

    def prepared(root: str) -> None:
        prepare(root)
        make(root, Recorder(root))

    return prepared


def _sweep_of_what_died(layout: Layout) -> Make:
    """Recover what a process left aside that died between the rename and the unlink."""

    def make(root: str, _recorder: Recorder) -> None:
        from watcher.recovery import recover

        spool = Spool(os.fsencode(root), layout)
        recover(spool, _settlement())
        del spool
        gc.collect()

    return make


def _aside(root: str) -> None:
    os.makedirs(f"{root}/.watcher/inflight/4711.abcdef01", mode=0o700)
    _pck(f".watcher/inflight/4711.abcdef01/{PLAIN}")(root)


def scenarios() -> list[Scenario]:
    """Return all of them."""

    def nothing(_root: str) -> None:
        pass

    found = [
        Scenario("enqueue", MAILMAN, nothing, _enqueue(False), MESSAGE, there=False),
        Scenario("enqueue, raw", RAW, nothing, _enqueue(True), MESSAGE, there=False),
        Scenario("enqueue_many", MAILMAN, nothing, _enqueue_many(False), MESSAGE, there=False),
        Scenario(
            "enqueue_many, syncfs", MAILMAN, nothing, _enqueue_many(True), MESSAGE, there=False
        ),
        Scenario("recover", MAILMAN, _aside, _sweep_of_what_died(MAILMAN), MESSAGE),
    ]
    files = [
        ("drawn name", MAILMAN, _pck(DRAWN), f"{DRAWN}.pck"),
        ("plain name", MAILMAN, _pck(PLAIN), f"{PLAIN}.pck"),
        ("raw", RAW, _put("report.csv", MESSAGE), "report.csv"),
        ("pair", LEGACY, _pair, f"{DRAWN}.msg"),
    ]
    ways = [("done",), ("retry", "done"), ("retry", "retry"), ("reject",), ("retry", "reject")]
    for kind, layout, prepare, name in files:
        found += [
            Scenario(
                f"{', '.join(way)}: {kind}", layout, prepare, _attempt(layout, name, *way), MESSAGE
            )
            for way in ways
        ]
    for kind, layout, prepare, name in (files[0], files[3]):
        dead = _before(prepare, _attempt(layout, name, "reject"))
        later = _before(prepare, _attempt(layout, name, "retry"))
        for what, before, moves in (
            ("hold, release", prepare, (Move.HOLD, Move.RELEASE)),
            ("requeue a dead", dead, (Move.REQUEUE,)),
            ("delete a dead", dead, (Move.DELETE,)),
            ("hold a deferred", later, (Move.HOLD,)),
            ("requeue a deferred", later, (Move.REQUEUE,)),
        ):
            found.append(
                Scenario(f"{what}: {kind}", layout, before, _operate(layout, *moves), MESSAGE)
            )
    found.append(
        Scenario("orphan", LEGACY, _half, _attempt(LEGACY, f"{DRAWN}.msg", "done"), MESSAGE)
    )
    return found
