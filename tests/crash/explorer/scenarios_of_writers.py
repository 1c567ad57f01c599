"""Scenarios in which a writer is at work while the program is, and the old rules' losses."""

from __future__ import annotations

from collections.abc import Iterator

from explorer.actors import (
    PROTOCOLS,
    RULES,
    Letters,
    RenameOver,
    Runner,
    old_rule,
)
from explorer.given import DRAWN, PLAIN, Entry, a_report, drawn_by, whole
from explorer.players import Role
from explorer.run import Scenario

from watcher.evidence import How

LEGACY = Runner()
MODERN = Runner(legacy=False)
RAW = Runner(raw=True)
RECOVERY = Role("recovery", LEGACY.recover)
RAW_RECOVERY = Role("recovery", RAW.recover)


def scenarios() -> Iterator[Scenario]:
    """Yield them."""
    yield from _writer_and_sweep()
    yield from _writer_and_daemon()
    yield from _writer_daemon_and_sweep()
    yield from _names_again()
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
        return Role("daemon", MODERN.attempt(How.RENAMED, file, (f"moved {file}",)))
    both = {
        "2.0.13": (f"{name}.msg", f"closed {name}.db", f"moved {name}.msg"),
        "2.1.4": (f"{name}.pck", f"closed {name}.pck", f"moved {name}.db"),
        "2.1.4, plain text": (f"{name}.msg", f"closed {name}.msg", f"moved {name}.db"),
    }
    in_place = (f"{name}.msg", f"closed {name}.db", f"closed {name}.msg")
    file, *events = both.get(protocol, in_place)
    return Role("daemon", LEGACY.attempt(How.CLOSED, file, tuple(events)))


def _writer_daemon_and_sweep() -> Iterator[Scenario]:
    """All three at once: one that could go on makes way for another once, at any step."""
    for what, name in (("a drawn name", DRAWN), ("a plain name", PLAIN)):
        file = f"{name}.pck"
        writer = Role("writer a", RenameOver(file, "a", whole("a")), writes=True)
        daemon = Role("daemon", LEGACY.attempt(How.RENAMED, file, (f"moved {file}",)))
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
