"""Scenarios in which a writer is at work while the program is, and the old rules' losses."""

from __future__ import annotations

import os
from collections.abc import Iterator

from explorer.actors import (
    PROTOCOLS,
    RULES,
    Letters,
    LinkIn,
    RenameOpen,
    RenameOver,
    Runner,
    Work,
    WriteAndReopen,
    WriteInPlace,
    old_rule,
)
from explorer.given import DRAWN, PLAIN, Entry, a_report, drawn_by, whole
from explorer.players import Role
from explorer.run import Scenario

from watcher.rules.evidence import Proof

LEGACY = Runner()
MODERN = Runner(legacy=False)
RAW = Runner(raw=True)
HEARING = Runner(raw=True, grace=float("inf"))  # a daemon that only events lead to an entry
RECOVERY = Role("recovery", LEGACY.recover)
RAW_RECOVERY = Role("recovery", RAW.recover)


def scenarios() -> Iterator[Scenario]:
    """Yield them."""
    yield from _writer_and_sweep()
    yield from _writer_and_daemon()
    yield from _writer_daemon_and_sweep()
    yield from _names_again()
    yield from _with_it_open()
    yield from _linked_in()
    yield from _settling()
    yield from _old_rules()


def _writer(protocol: str, token: str = "a", pieces: int = 2) -> Role:
    if "closed last" in protocol:
        pieces = 1  # both files are open at once: states enough
    return Role(f"writer {token}", Letters(protocol, token, pieces), writes=True)


def _writer_and_sweep() -> Iterator[Scenario]:
    for protocol in (*PROTOCOLS, "enqueue"):
        name, sweep = f"{protocol} x sweep", Role("sweep", LEGACY.sweep)
        quick = Scenario(
            f"{name}, no crash", (_writer(protocol, pieces=1), sweep), RECOVERY, crashes=0
        )
        yield quick._replace(quick="closed last" not in protocol)
        yield Scenario(name, (_writer(protocol), sweep), RECOVERY)
    yield Scenario(
        "enqueue --raw x sweep",
        (_writer("raw"), Role("sweep", RAW.sweep)),
        RAW_RECOVERY,
        quick=True,
    )


def _writer_and_daemon() -> Iterator[Scenario]:
    """A daemon's worker comes as soon as the kernel told what it waits for."""
    for protocol in (*PROTOCOLS, "enqueue"):
        yield Scenario(f"{protocol} x daemon", (_writer(protocol), _daemon(protocol)), RECOVERY)


def _daemon(protocol: str) -> Role:
    name = drawn_by(protocol)
    if protocol in ("2.1.5", "enqueue"):
        file = f"{name}.pck"
        return Role("daemon", MODERN.attempt(Proof.RENAMED, file, (f"moved {file}",)))
    both = {
        "2.0.13": (f"{name}.msg", f"closed {name}.db", f"moved {name}.msg"),
        "2.1.4": (f"{name}.pck", f"closed {name}.pck", f"moved {name}.db"),
        "2.1.4, plain text": (f"{name}.msg", f"closed {name}.msg", f"moved {name}.db"),
    }
    in_place = (f"{name}.msg", f"closed {name}.db", f"closed {name}.msg")
    file, *events = both.get(protocol, in_place)
    return Role("daemon", LEGACY.attempt(Proof.CLOSED, file, tuple(events)))


def _writer_daemon_and_sweep() -> Iterator[Scenario]:
    """All three at once: one that could go on makes way for another once, at any step."""
    for what, name in (("a drawn name", DRAWN), ("a plain name", PLAIN)):
        file = f"{name}.pck"
        writer = Role("writer a", RenameOver(file, "a", whole("a")), writes=True)
        daemon = Role("daemon", LEGACY.attempt(Proof.RENAMED, file, (f"moved {file}",)))
        three = (writer, daemon, Role("sweep", LEGACY.sweep))
        yield Scenario(f"{what}: 2.1.5 x daemon x sweep", three, RECOVERY, switches=1, long=True)


def _names_again() -> Iterator[Scenario]:
    """Names are used again: a new file comes over the one in hand."""
    for word in ("done", "reject", "retry"):
        words = (word, "done") if word != "done" else ("done",)
        ends = ("done", "dead") if word == "reject" else ("done",)
        report = Role("writer b", RenameOver("report.csv", "b"), writes=True)
        yield Scenario(
            f"a file over the one in hand ({word})",
            (report, Role("sweep", Runner(words, raw=True).sweep)),
            RAW_RECOVERY,
            prepare=a_report,
            ends=ends,
            quick=word == "done",
            long=word == "reject",
        )
        entry = Role("writer b", RenameOver(PLAIN + ".pck", "b", whole("b")), writes=True)
        yield Scenario(
            f"an entry over the one in hand ({word})",
            (entry, Role("sweep", Runner(words).sweep)),
            RECOVERY,
            prepare=Entry(),
            ends=ends,
            long=word == "reject",
        )


def _with_it_open() -> Iterator[Scenario]:
    """Writers of a drop folder that write to a file while it lies there, or is in hand."""
    file = "report.csv"
    writer = Role("writer a", RenameOpen(file, "a"), writes=True)
    daemon = Role("daemon", RAW.attempt(Proof.RENAMED, file, (f"moved {file}",)))
    for runner in (daemon, Role("sweep", RAW.sweep)):
        yield Scenario(
            f"renamed in while it is open x {runner.name}",
            (writer, runner),
            RAW_RECOVERY,
            quick=runner is daemon,
        )
    for word in ("done", "reject", "retry"):
        words = (word, "done") if word == "retry" else (word,)
        yield Scenario(
            f"appended to while it is in hand ({word})",
            (
                Role("sweep", Runner(words, raw=True).sweep),  # goes first, at no switch
                Role("writer b", WriteInPlace(file, "b"), writes=True),
            ),
            Role("recovery", Runner((word,) if word == "reject" else ("done",), raw=True).recover),
            prepare=a_report,
            there="a",
            ends=("dead",) if word == "reject" else ("done",),
            switches=2 if word == "done" else 1,
            long=True,
        )
    yield Scenario(
        "written anew while it is in hand",
        (
            Role("sweep", RAW.sweep),
            Role("writer b", WriteInPlace(file, "b", "wb"), writes=True),
        ),
        RAW_RECOVERY,
        prepare=a_report,
        switches=2,
        long=True,
    )


REPORT = "report.csv"
MADE = (f"created {REPORT}",)


def _a_folder(root: str) -> None:
    os.mkdir(os.path.join(root, "tmp"))


def _linked_in() -> Iterator[Scenario]:
    """Writers that commit by link(2), and writers in place, which cause the same first event."""
    daemon = Role("daemon", HEARING.attempt(Proof.LINKED, REPORT, MADE))
    believer = Role("daemon", HEARING._replace(believes=True).attempt(Proof.LINKED, REPORT, MADE))
    in_place = {
        "written in place": WriteInPlace(REPORT, "a"),
        "written in place, opened anew": WriteAndReopen(REPORT, "a"),
    }
    writers: dict[str, Work] = {
        "linked in": LinkIn(REPORT, "a"),
        "linked in from tmp/": LinkIn(REPORT, "a", "tmp/"),
        "linked in while it is open": LinkIn(REPORT, "a", opened=True),
        "linked in from nowhere": LinkIn(REPORT, "a", unnamed=True),
        "linked in from nowhere while it is open": LinkIn(REPORT, "a", unnamed=True, opened=True),
        **in_place,
    }
    for what, writer in writers.items():
        role = Role("writer a", writer, writes=True)
        both = Scenario(f"{what} x daemon", (role, daemon), RAW_RECOVERY, prepare=_a_folder)
        yield both
        quick = "anew" not in what
        yield both._replace(name=f"{what} x daemon, no crash", crashes=0, quick=quick)
        if what not in ("linked in", "linked in from nowhere"):
            continue
        appends = WriteInPlace(REPORT, "b", pieces=1, after=MADE[0])
        yield Scenario(
            f"{what}, appended to x daemon",
            (role, daemon, Role("writer b", appends, writes=True)),
            RAW_RECOVERY,
            prepare=_a_folder,
            switches=1,
            long=True,
        )
    yield Scenario(
        "written in place, opened anew x a daemon that believes IN_CREATE",
        (Role("writer a", in_place["written in place, opened anew"], writes=True), believer),
        RAW_RECOVERY,
        old_rule=True,
        crashes=0,
    )


def _settling() -> Iterator[Scenario]:
    """Writers in place beside a daemon with `settle`; they pause for less than that."""
    settles = Runner(raw=True, grace=float("inf"), settle=3600.0)
    believes = settles._replace(believes=True)
    writers: dict[str, Work] = {
        "written in place": WriteInPlace(REPORT, "a"),
        **{
            f"written in place, opened anew at its {where}": WriteAndReopen(REPORT, "a", where)
            for where in ("begin", "middle", "end")
        },
    }
    for what, writer in writers.items():
        roles = (
            Role("writer a", writer, writes=True),
            Role("daemon", settles.settled(REPORT, "writer a")),
        )
        both = Scenario(f"{what} x settle", roles, RAW_RECOVERY)
        yield both
        yield both._replace(name=f"{what} x settle, no crash", crashes=0, quick=True)
    yield Scenario(
        "written in place, opened anew at its middle x a daemon that believes one close",
        (
            Role("writer a", writers["written in place, opened anew at its middle"], writes=True),
            Role("daemon", believes.settled(REPORT, "writer a")),
        ),
        RAW_RECOVERY,
        broken=True,
        crashes=0,
    )


def _old_rules() -> Iterator[Scenario]:
    for rule, protocol in (
        ("2002", "2.0.8"),
        ("2002", "2.0.8, .db closed last"),
        ("2.0.13", "2.1.4, plain text"),
    ):
        yield Scenario(
            f"{protocol} x the rule of {rule}",
            (_writer(protocol), Role("qrunner", old_rule(RULES[rule]), dies=False)),
            Role("next walk", old_rule(RULES[rule])),
            old_rule=True,
            crashes=0,
            quick=True,
        )
