"""The transitions that are tried with power failures; each is made by the program's own code."""

from __future__ import annotations

import marshal
import os
from collections.abc import Callable, Iterator

from power_loss.recording import Recorder
from power_loss.trial import ACKNOWLEDGED, DONE, Scenario
from watcher import commit_many, mailman
from watcher.attempt import Attempt
from watcher.commit_one import enqueue
from watcher.handle.entry import Entry
from watcher.handle.function import Function
from watcher.handle.handler import Reject, Retry
from watcher.operate.operator import Operator
from watcher.operate.operator_moves import Moves
from watcher.operate.select_entries import Filter, select, states_for
from watcher.rules.age import Ages, SystemClock
from watcher.rules.archived_names import ArchiveOptions
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout
from watcher.rules.retry import Policy
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool.claimed import ClaimOptions
from watcher.spool.spool import Spool

MESSAGE = b"From: ann@example.com\nSubject: one\n\nposting, and its last word is END\n"
SECOND = MESSAGE.replace(b"one", b"two")
METADATA = {"listname": "test"}
HALF = marshal.dumps(METADATA, 0)
DRAWN = "1795000000.000001+" + "a" * 40
PLAIN = "X"
OURS = ("deferred", "held", "dead", "orphans", "inflight")
MAILMAN, RAW, LEGACY = Layout(), Layout(b".csv", raw=True), Layout(legacy=True)
Make = Callable[[str, Recorder], None]


def _put(name: str, data: bytes) -> Callable[[str], None]:
    def prepare(root: str) -> None:
        with open(f"{root}/{name}", "wb") as file:
            file.write(data)

    return prepare


def _pck(name: str) -> Callable[[str], None]:
    return _put(f"{name}.pck", mailman.write_pck(MESSAGE, dict(METADATA)))


def _pair(root: str) -> None:
    _put(f"{DRAWN}.db", HALF)(root)
    _put(f"{DRAWN}.msg", MESSAGE)(root)


def _half(root: str) -> None:
    _put(f"{DRAWN}.msg", MESSAGE)(root)


def settlement(initial: float = 0.0) -> Finisher:
    """Return how attempts end: a retry is due at once."""
    clock = SystemClock()
    patience = DiskRetry(lambda _seconds: False, lambda _text: None)
    policy = Policy(initial=initial, jitter=0.0)
    return Finisher(
        "q", ClaimOptions(0.0, Ages(clock)), policy, clock, lambda _told: None, patience
    )


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

            report = Attempt(Function(handle), settlement())(spool, file, Proof.NONE)
            file = report.name or file

    return make


ARCHIVE = ArchiveOptions(b"archive")


def _archive(layout: Layout, name: str) -> Make:
    """Move a done entry to the archive. No word is said: it must not be lost there either."""

    def make(root: str, _recorder: Recorder) -> None:
        spool = Spool(os.fsencode(root), layout)
        spool.use_archive(ARCHIVE)
        handler = Function(lambda _entry: None)
        Attempt(handler, settlement())(spool, os.fsencode(name), Proof.NONE)

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
        few, commit_many.FEW = commit_many.FEW, 1 if together else commit_many.FEW
        try:
            commit_many.enqueue_many(root, [(MESSAGE, METADATA), (SECOND, METADATA)])
        finally:
            commit_many.FEW = few
        recorder.say(ACKNOWLEDGED)

    return make


def _bring_back(layout: Layout) -> Make:
    """Requeue what is in the archive."""

    def make(root: str, _recorder: Recorder) -> None:
        spool = Spool(os.fsencode(root), layout)
        spool.use_archive(ARCHIVE)
        where = (State.DONE,)
        entries, _ = select(spool, None, Move.REQUEUE, where, Filter(), mailman.MAX_SIZE)
        moves = Moves(spool, ClaimOptions(0.0, Ages(SystemClock())), Operator("me", 0))
        told = list(moves.make(Move.REQUEUE, entries))
        assert [moved.state for moved in told] == [State.READY], told

    return make


def _operate(layout: Layout, *moves: Move) -> Make:
    """Have an operator make moves, one after the other, with all that is there."""

    def make(root: str, recorder: Recorder) -> None:
        for move in moves:
            if move is Move.DELETE:
                recorder.say(DONE)  # the operator's own word
            spool = Spool(os.fsencode(root), layout)
            entries, _ = select(spool, None, move, states_for(move), Filter(), mailman.MAX_SIZE)
            told = list(
                Moves(spool, ClaimOptions(0.0, Ages(SystemClock())), Operator("me", 0)).make(
                    move, entries
                )
            )
            assert all(moved.state is not None for moved in told), told

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
        recover(spool, settlement())

    return make


def _died_in_hand(root: str) -> None:
    """Have a process die with the entry in hand, and in its ledger."""
    _pck(PLAIN)(root)
    child = os.fork()
    if child == 0:
        spool = Spool(os.fsencode(root), MAILMAN)
        Attempt(Function(lambda _entry: os._exit(1)), settlement())(
            spool, f"{PLAIN}.pck".encode(), Proof.NONE
        )
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def _orphaned(root: str) -> None:
    """Put half of a pair into orphans/, and the other half into the queue."""
    _half(root)
    _attempt(LEGACY, f"{DRAWN}.msg", "")(root, Recorder(root))
    _put(f"{DRAWN}.db", HALF)(root)


def _directories_unsynced(make: Make) -> Make:
    """Make a transition after another process made our directories, and was killed at once."""

    def made(root: str, recorder: Recorder) -> None:
        for name in (".watcher", *(f".watcher/{each}" for each in OURS)):
            os.mkdir(f"{root}/{name}", 0o700)
        make(root, recorder)

    return made


def _aside_beside_replacement(root: str) -> None:
    _aside(root)
    _put(f"{PLAIN}.pck", mailman.write_pck(SECOND, dict(METADATA)))(root)


def _aside(root: str) -> None:
    os.makedirs(f"{root}/.watcher/inflight/4711.abcdef01", mode=0o700)
    _pck(f".watcher/inflight/4711.abcdef01/{PLAIN}")(root)


_WAYS: tuple[tuple[str, ...], ...] = (
    *(("done",), ("retry", "done"), ("retry", "retry"), ("reject",), ("retry", "reject")),
)
_DEAD, _HELD, _ORPHANS = ".watcher/dead", ".watcher/held", ".watcher/orphans"


def scenarios() -> list[Scenario]:
    """Return all of them."""
    found = [*_commits(), *_recoveries()]
    is_unique_name = ("drawn name", MAILMAN, _pck(DRAWN), f"{DRAWN}.pck")
    plain = ("plain name", MAILMAN, _pck(PLAIN), f"{PLAIN}.pck")
    raw = ("raw", RAW, _put("report.csv", MESSAGE), "report.csv")
    pair = ("pair", LEGACY, _pair, f"{DRAWN}.msg")
    found += [_of(kind, way) for kind in (is_unique_name, plain, raw, pair) for way in _WAYS]
    found += [move for kind in (is_unique_name, pair) for move in _by_operator(*kind)]
    orphan = _attempt(LEGACY, f"{DRAWN}.msg", "")
    found += [
        Scenario("orphan", LEGACY, _half, orphan, (MESSAGE,), {}, ends=_ORPHANS),
        Scenario(
            *("reunite", LEGACY, _orphaned, _attempt(LEGACY, f"{DRAWN}.db", "")),
            *((MESSAGE,), METADATA, HALF),
            ends=".",
        ),
    ]
    for called, layout, prepare, name in (is_unique_name, plain, raw, pair):
        found.append(
            Scenario(
                *(f"archive: {called}", layout, prepare, _archive(layout, name), (MESSAGE,)),
                *({} if layout.raw else METADATA, HALF if layout.legacy else b""),
                ends="archive",
                archive=ARCHIVE,
            )
        )
        again = found[-1]._replace(name=f"requeue out of the archive: {called}", ends=".")
        archived = _before(prepare, _archive(layout, name))
        found.append(again._replace(prepare=archived, make=_bring_back(layout)))
    for each in (_of(plain, ("reject",)), _of(plain, ("retry",)), _of(pair, ("reject",))):
        other = each._replace(make=_directories_unsynced(each.make))
        found.append(other._replace(name=f"{each.name}, directories not synced"))
    names = {"reject: plain name", "reject: pair", "retry, done: pair", "retry, reject: pair"}
    names |= {
        "retry, retry: pair",
        "hold, release: pair",
        "requeue a dead: pair",
        "orphan",
        "reunite",
        "in hand",
        "recover beside a replacement",
        "archive: raw",
        "archive: pair",
        "requeue out of the archive: raw",
        "requeue out of the archive: pair",
    }
    for each in found[:]:
        if each.name in names:
            old = each._replace(name=f"{each.name}, by link and unlink", noreplace=False)
            found.append(old)
    return found


def _commits() -> list[Scenario]:
    def nothing(_root: str) -> None:
        pass

    both = (MESSAGE, SECOND)
    return [
        Scenario(name, layout, nothing, make, messages, metadata, there=False, ends=".")
        for name, layout, make, messages, metadata in (
            ("enqueue", MAILMAN, _enqueue(False), (MESSAGE,), METADATA),
            ("enqueue, raw", RAW, _enqueue(True), (MESSAGE,), {}),
            ("enqueue_many", MAILMAN, _enqueue_many(False), both, METADATA),
            ("enqueue_many, syncfs", MAILMAN, _enqueue_many(True), both, METADATA),
        )
    ]


def _recoveries() -> list[Scenario]:
    return [
        Scenario(name, MAILMAN, prepare, _sweep_of_what_died(MAILMAN), (MESSAGE,), METADATA)
        for name, prepare in (("recover", _aside), ("in hand", _died_in_hand))
    ] + [
        Scenario(
            *("recover beside a replacement", MAILMAN, _aside_beside_replacement),
            *(_sweep_of_what_died(MAILMAN), (MESSAGE, SECOND), METADATA),
        )
    ]


Kind = tuple[str, Layout, Callable[[str], None], str]


def _of(kind: Kind, way: tuple[str, ...]) -> Scenario:
    """Return the result of a handler's words, for one kind of file."""
    called, layout, prepare, name = kind
    return Scenario(
        *(f"{', '.join(way)}: {called}", layout, prepare, _attempt(layout, name, *way)),
        *((MESSAGE,), {} if layout.raw else METADATA, HALF if layout.legacy else b""),
        ends=_DEAD if way[-1] == "reject" else None,
    )


def _by_operator(
    kind: str, layout: Layout, prepare: Callable[[str], None], name: str
) -> Iterator[Scenario]:
    dead = _before(prepare, _attempt(layout, name, "reject"))
    later = _before(prepare, _attempt(layout, name, "retry"))
    for what, before, moves, ends in (
        ("hold", prepare, (Move.HOLD,), _HELD),
        ("hold, release", prepare, (Move.HOLD, Move.RELEASE), "."),
        ("requeue a dead", dead, (Move.REQUEUE,), "."),
        ("delete a dead", dead, (Move.DELETE,), ""),
        ("hold a deferred", later, (Move.HOLD,), _HELD),
        ("requeue a deferred", later, (Move.REQUEUE,), "."),
    ):
        yield Scenario(
            *(f"{what}: {kind}", layout, before, _operate(layout, *moves)),
            *((MESSAGE,), METADATA, HALF if layout.legacy else b""),
            ends=ends,
        )
