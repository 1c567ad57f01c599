"""The scenarios: who meets whom on one queue, and what befalls them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from explorer.actors import (
    PROTOCOLS,
    RULES,
    Letters,
    RenameOver,
    Runner,
    message,
    metadata,
    old_rule,
)
from explorer.players import Role
from explorer.run import Scenario

import writers
from watcher import contents
from watcher.evidence import How
from watcher.lifecycle import Move
from watcher.spool.schedule import Schedule, stamped

LEGACY = Runner()
RAW = Runner(raw=True)
RECOVERY = Role("recovery", LEGACY.recover)
RAW_RECOVERY = Role("recovery", RAW.recover)
DUE = Schedule(1_500_000_000_000, attempts=1, delay=30.0)
NAME = "1000000000.0+aaaa"
WHOLE = contents.write_pck(message("a"), metadata("a"))


def all_scenarios() -> list[Scenario]:
    """Return every scenario."""
    return [
        *_writer_and_sweep(),
        *_two_runners(),
        *_alone(),
        *_names_again(),
        *_operators(),
        *_old_rules(),
    ]


def _writer(protocol: str, token: str = "a", pieces: int = 2) -> Role:
    if "closed last" in protocol:
        pieces = 1  # both files are open at once: states enough
    return Role(f"writer {token}", Letters(protocol, token, pieces), writes=True)


def _writer_and_sweep() -> list[Scenario]:
    scenarios = []
    for protocol in (*PROTOCOLS, "enqueue"):
        name, sweep = f"{protocol} x sweep", Role("sweep", LEGACY.sweep)
        quick = Scenario(
            f"{name}, no crash", (_writer(protocol, pieces=1), sweep), RECOVERY, crashes=0
        )
        scenarios.append(quick._replace(quick="closed last" not in protocol))
        scenarios.append(Scenario(name, (_writer(protocol), sweep), RECOVERY))
    return scenarios


def _two_runners() -> list[Scenario]:
    """Two runners on an entry that is there; what one leaves, the other may find at any step.

    So many steps have too many orders for all of them: one of the two makes way for the other
    twice, at any step; once only where a refused or deferred one has a crash as well.
    """
    scenarios = []
    for what, there in (("entry", a_pck), ("pair", a_pair)):
        for word, ends in (("done", "done"), ("reject", "dead"), ("retry", "done")):
            runner = Runner((word, "done") if word == "retry" else (word,))
            scenarios.append(
                Scenario(
                    f"{what}: sweep ({word}) x sweep ({word})",
                    (Role("one", runner.sweep), Role("other", runner.sweep)),
                    Role("recovery", Runner((word,) if word == "reject" else ("done",)).recover),
                    prepare=there,
                    there="a",
                    ends=(ends,),
                    switches=2 if word == "done" else 1,
                )
            )
            if word != "done":
                calm = f"{scenarios[-1].name}, no crash"
                scenarios.append(scenarios[-1]._replace(name=calm, crashes=0, switches=2))
    renamed = LEGACY.attempt(How.RENAMED, NAME + ".pck", (f"moved {NAME}.pck",))
    scenarios.append(
        Scenario(
            "2.1.5 x daemon's attempt x sweep",
            (
                Role("writer a", RenameOver(NAME + ".pck", "a", WHOLE), writes=True),
                Role("daemon", renamed),
                Role("sweep", LEGACY.sweep),
            ),
            RECOVERY,
        )
    )
    return scenarios


def _alone() -> list[Scenario]:
    """One runner, killed again and again, the recovery too."""
    scenarios = []
    for what, there in (("entry", a_pck), ("pair", a_pair)):
        for word, ends in (("done", "done"), ("reject", "dead"), ("retry", "done")):
            runner = Runner((word, "done") if word == "retry" else (word,))
            after = Runner((word,) if word == "reject" else ("done",))
            scenarios.append(
                Scenario(
                    f"{what}: sweep ({word}), killed twice",
                    (Role("sweep", runner.sweep),),
                    Role("recovery", after.recover),
                    crashes=2,
                    prepare=there,
                    there="a",
                    ends=(ends,),
                )
            )
            scenarios.append(
                scenarios[-1]._replace(
                    name=f"{what}: sweep ({word}), link and unlink",
                    crashes=1,
                    noreplace=False,
                )
            )
    scenarios.append(
        Scenario(
            "entry: sweep (done), nothing of ours there",
            (Role("sweep", LEGACY.sweep),),
            RECOVERY,
            crashes=2,
            prepare=a_pck,
            there="a",
            skeleton=False,
            quick=True,
        )
    )
    return scenarios


def _names_again() -> list[Scenario]:
    """Drop folders use names again: a new file comes over the one in hand."""
    scenarios = []
    for word in ("done", "reject", "retry"):
        runner = Runner((word, "done") if word != "done" else ("done",), raw=True)
        scenarios.append(
            Scenario(
                f"a file over the one in hand ({word})",
                (
                    Role("writer b", RenameOver("report.csv", "b"), writes=True),
                    Role("sweep", runner.sweep),
                ),
                RAW_RECOVERY,
                prepare=a_report,
                ends=("done", "dead") if word == "reject" else ("done",),
                quick=word == "done",
            )
        )
    return scenarios


def _operators() -> list[Scenario]:
    """An operator's command beside a sweep that is under way; killed, it may have moved nothing.

    Of two that make many steps one makes way for the other once, else twice, at any step.
    """
    moves: list[tuple[Move, str, Callable[[str], None], tuple[str, ...]]] = [
        (Move.HOLD, "an entry", a_pck, ("done", "held")),
        (Move.HOLD, "a pair", a_pair, ("done", "held")),
        (Move.RELEASE, "a held entry", partial(_lying, "held", a_pck), ("done", "held")),
        (Move.RELEASE, "a held pair", partial(_lying, "held", a_pair), ("done", "held")),
        (Move.REQUEUE, "a dead entry", partial(_lying, "dead", a_pck), ("done", "dead")),
        (Move.REQUEUE, "a dead pair", partial(_lying, "dead", a_pair), ("done", "dead")),
        (Move.REQUEUE, "a deferred entry", partial(_deferred, a_pck), ("done",)),
        (Move.REQUEUE, "a deferred pair", partial(_deferred, a_pair), ("done",)),
        (Move.HOLD, "a deferred pair", partial(_deferred, a_pair), ("done", "held")),
        (Move.DELETE, "a deferred pair", partial(_deferred, a_pair), ("done", "removed")),
    ]
    return [
        Scenario(
            f"{move.value} {what} x sweep",
            (
                Role("operator", LEGACY.operate(move), deletes="a" * (move is Move.DELETE)),
                Role("sweep", LEGACY.sweep),
            ),
            RECOVERY,
            prepare=there,
            ends=ends,
            there="a",
            switches=1 if "pair" in what or "deferred" in what else 2,
        )
        for move, what, there, ends in moves
    ]


def _lying(state: str, entry: Callable[[str], None], root: str) -> None:
    """Put an entry into a directory of ours."""
    entry(f"{root}/.watcher/{state}")


def _deferred(entry: Callable[[str], None], root: str) -> None:
    """Put a deferred entry there that is due."""
    place = f"{root}/.watcher/deferred"
    entry(place)
    for name in os.listdir(place):
        stem, suffix = os.path.splitext(os.fsencode(name))
        os.rename(f"{place}/{name}", os.path.join(os.fsencode(place), stamped(DUE, stem, suffix)))


def _old_rules() -> list[Scenario]:
    return [
        Scenario(
            f"{protocol} x the rule of {rule}",
            (_writer(protocol), Role("qrunner", old_rule(RULES[rule]), dies=False)),
            Role("next walk", old_rule(RULES[rule])),
            old_rule=True,
            crashes=0,
            quick=True,
        )
        for rule, protocol in (
            ("2002", "2.0.8"),
            ("2002", "2.0.8, .db closed last"),
            ("2.0.13", "2.1.4, plain text"),
        )
    ]


def a_pck(root: str) -> None:
    """Put a committed entry there."""
    _put(root, NAME + ".pck", WHOLE)


def a_pair(root: str) -> None:
    """Put a committed pair there."""
    _put(root, NAME + ".msg", message("a"))
    _put(root, NAME + ".db", writers._marshalled(writers.Letter(message("a"), metadata("a"))))


def a_report(root: str) -> None:
    """Put a file into a drop folder."""
    _put(root, "report.csv", message("a"))


def _put(root: str, name: str, data: bytes) -> None:
    with open(os.path.join(root, name), "xb") as file:
        file.write(data)
