"""Scenarios of an entry that is there: runners beside runners and operators, and crash on crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from explorer.actors import Runner
from explorer.given import (
    DRAWN,
    PLAIN,
    Another,
    Deferred,
    Entry,
    Lying,
    Pair,
    a_report,
    deferred_name,
)
from explorer.players import Role
from explorer.run import Scenario

from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import Move

LEGACY = Runner()
RECOVERY = Role("recovery", LEGACY.recover)
KINDS = (
    ("entry", Entry()),
    ("drawn entry", Entry(DRAWN)),
    ("pair", Pair()),
    ("drawn pair", Pair(DRAWN)),
)
WORDS = (("done", "done"), ("reject", "dead"), ("retry", "done"))


def scenarios() -> Iterator[Scenario]:
    """Yield them."""
    yield from _two_sweeps()
    yield from _daemon_and_sweep()
    yield from _alone()
    yield from _operators()
    yield from _another_users_file()


def _runner(word: str) -> Runner:
    return Runner((word, "done") if word == "retry" else (word,))


def _recovery(word: str) -> Role:
    return Role("recovery", Runner((word,) if word == "reject" else ("done",)).recover)


def _two_sweeps() -> Iterator[Scenario]:
    """Two runners on an entry that is there; what one leaves, the other may find at any step.

    So many steps have too many orders for all of them: one of the two makes way for the other
    twice, at any step; once only where a refused or deferred one has a crash as well.
    """
    for what, there in KINDS:
        for word, end in WORDS:
            crash = Scenario(
                f"{what}: sweep ({word}) x sweep ({word})",
                (Role("one", _runner(word).sweep), Role("other", _runner(word).sweep)),
                _recovery(word),
                prepare=there,
                there="a",
                ends=(end,),
                switches=2 if word == "done" else 1,
                long=True,
            )
            yield crash
            if word != "done":
                yield crash._replace(name=f"{crash.name}, no crash", crashes=0, switches=2)


def _daemon_and_sweep() -> Iterator[Scenario]:
    """A daemon's worker and a sweep by hand, on an entry that was renamed in or has fallen due."""
    for what, name in (("entry", PLAIN), ("drawn entry", DRAWN)):
        for word, end in WORDS:
            renamed = _runner(word).attempt(Proof.RENAMED, f"{name}.pck", ())
            yield Scenario(
                f"{what}: daemon ({word}) x sweep ({word})",
                (Role("daemon", renamed), Role("sweep", _runner(word).sweep)),
                _recovery(word),
                prepare=Entry(name),
                there="a",
                ends=(end,),
                switches=2 if word == "done" else 1,
                long=True,
            )
    due = LEGACY.attempt(Proof.NONE, deferred_name(PLAIN), ())
    yield Scenario(
        "deferred entry: daemon (done) x sweep (done)",
        (Role("daemon", due), Role("sweep", LEGACY.sweep)),
        RECOVERY,
        prepare=Deferred(Entry()),
        there="a",
        switches=1,
        long=True,
    )


def _alone() -> Iterator[Scenario]:
    """One runner, killed again and again, the recovery too."""
    for what, there in KINDS:
        for word, end in WORDS:
            twice = Scenario(
                f"{what}: sweep ({word}), killed twice",
                (Role("sweep", _runner(word).sweep),),
                _recovery(word),
                crashes=2,
                prepare=there,
                there="a",
                ends=(end,),
            )
            yield twice
            if not what.startswith("is_unique_name"):
                links = f"{what}: sweep ({word}), link and unlink"
                yield twice._replace(name=links, crashes=1, noreplace=False)
    yield Scenario(
        "entry: sweep (done), nothing of ours there",
        (Role("sweep", LEGACY.sweep),),
        RECOVERY,
        crashes=2,
        prepare=Entry(),
        there="a",
        skeleton=False,
        quick=True,
    )


def _another_users_file() -> Iterator[Scenario]:
    """A file that may be neither removed nor renamed, and another behind it.

    A sweep by hand finishes with it and leaves it; a daemon keeps its claim until it may be removed
    (at its second new try), and no other is given it meanwhile. What a sweep gave up comes again.
    """
    files = (
        ("a file", "report.csv", "behind.csv", a_report),
        ("a drawn entry", DRAWN + ".pck", PLAIN + ".pck", Entry(DRAWN)),
    )
    for what, pinned, behind, there in files:
        raw = what == "a file"
        for word, end in WORDS:
            words = (word, "done") if word == "retry" else (word,)
            runner = Runner(words, raw=raw, pinned=frozenset({pinned}))
            recovery = Runner(words[-1:], raw=raw)
            alone = Scenario(
                f"another user's, {what}: sweep ({word})",
                (Role("sweep", runner.sweep),),
                Role("recovery", recovery.recover),
                prepare=Another(there, behind),
                there="ab",
                ends=(end,) if word != "retry" else ("done",),
                again=1,
                quick=raw and word == "done",
            )
            yield alone
            if word == "done":
                kept = Role("daemon", runner.keep(pinned, behind))
                daemon = alone._replace(name=f"another user's, {what}: daemon", roles=(kept,))
                yield daemon
                yield daemon._replace(
                    name=f"{daemon.name} x sweep, no crash",
                    roles=(kept, Role("sweep", runner.sweep)),
                    crashes=0,
                    switches=1,
                    long=True,
                )


def _operators() -> Iterator[Scenario]:
    """An operator's command beside a sweep that is under way; killed, it may have moved nothing.

    Of two that make many steps one makes way for the other once, else twice, at any step.
    """
    moves: list[tuple[Move, str, Callable[[str], None], tuple[str, ...]]] = [
        (Move.HOLD, "an entry", Entry(), ("done", "held")),
        (Move.HOLD, "a drawn entry", Entry(DRAWN), ("done", "held")),
        (Move.HOLD, "a pair", Pair(), ("done", "held")),
        (Move.RELEASE, "a held entry", Lying("held", Entry()), ("done", "held")),
        (Move.RELEASE, "a held pair", Lying("held", Pair()), ("done", "held")),
        (Move.REQUEUE, "a dead entry", Lying("dead", Entry()), ("done", "dead")),
        (Move.REQUEUE, "a dead pair", Lying("dead", Pair()), ("done", "dead")),
        (Move.REQUEUE, "a deferred entry", Deferred(Entry()), ("done",)),
        (Move.REQUEUE, "a deferred pair", Deferred(Pair()), ("done",)),
        (Move.HOLD, "a deferred pair", Deferred(Pair()), ("done", "held")),
        (Move.DELETE, "a deferred pair", Deferred(Pair()), ("done", "removed")),
    ]
    for move, what, there, ends in moves:
        deletes = "a" * (move is Move.DELETE)
        operator = Role("operator", LEGACY.operate(move), deletes=deletes)
        yield Scenario(
            f"{move.value} {what} x sweep",
            (operator, Role("sweep", LEGACY.sweep)),
            RECOVERY,
            prepare=there,
            ends=ends,
            there="a",
            switches=1 if "pair" in what or "deferred" in what else 2,
            long=True,
        )
