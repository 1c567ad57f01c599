"""Scenarios of a drop folder with markers: a writer, its marker, and the same name again."""

from __future__ import annotations

import math
from collections.abc import Iterator

from explorer.actors import Marked, Runner
from explorer.given import a_marked_report
from explorer.players import Role
from explorer.run import Scenario

from watcher.rules.evidence import Proof

FILE, MARKER = "report.csv", "report.csv.done"
RUNNER = Runner(raw=True, marked=True, grace=math.inf)
RECOVERY = Role("recovery", RUNNER.recover)


def scenarios() -> Iterator[Scenario]:
    """Yield them."""
    yield from _first_file()
    yield from _name_again()
    yield from _two_sweeps()
    yield from _broken()


def _first_file() -> Iterator[Scenario]:
    """The entry and its marker, in every way that they may come."""
    for entry, how in (
        ("reopened", "in place"),
        ("reopened", "renamed"),
        ("renamed", "in place"),
    ):
        writer = Role("writer a", Marked(FILE, "a", how, entry), writes=True)
        came = f"moved {MARKER}" if how == "renamed" else f"created {MARKER}"
        daemon = Role("daemon", RUNNER.attempt(Proof.NONE, FILE, (came,)))
        for runner in (Role("sweep", RUNNER.sweep), daemon):
            yield Scenario(
                f"marker {how}, entry {entry} x {runner.name}",
                (writer, runner),
                RECOVERY,
                marked=True,
                quick=(how, entry) == ("in place", "reopened"),
            )


def _name_again() -> Iterator[Scenario]:
    """The writer begins its next file when it sees the first one, or its marker, gone; or at once.

    If it waits for the first file, it closes the next one between two halves. If it waits for the
    marker alone, the first file may be there yet: then it has the file open until it is whole.
    """
    for word in ("done", "retry", "reject"):
        words = (word, "done") if word == "retry" else (word,)
        last = RUNNER._replace(words=("reject",) if word == "reject" else ("done",))
        for event, entry in (
            (f"gone {FILE}", "reopened"),
            (f"gone {MARKER}", "in place"),
            ("", "renamed"),
        ):
            if word != "done" and event == f"gone {MARKER}":
                continue  # as with the entry: it goes before its marker
            writer = Marked(FILE, "b", "in place", entry, event)
            again = Scenario(
                f"marked again, {event or 'at once'} ({word})",
                (
                    Role("sweep", RUNNER._replace(words=words).sweep),
                    Role("writer b", writer, writes=True),
                ),
                Role("recovery", last.recover),
                prepare=a_marked_report,
                there="a" if event else "",
                ends=("dead",) if word == "reject" else ("done",),
                marked=True,
                switches=2,
                long=True,
            )
            if not event and word != "done":
                # A crash may leave the marker of a file that was moved by mistake: it is reported.
                again = again._replace(crashes=0)
            yield again
            if word == "done":
                yield again._replace(name=f"{again.name}, no crash", crashes=0, long=False)


def _two_sweeps() -> Iterator[Scenario]:
    """Two processes meet at one entry, while its writer begins the next."""
    sweeps = tuple(Role(f"sweep {number}", RUNNER.sweep) for number in (1, 2))
    yield Scenario(
        "marked, sweep x sweep",
        sweeps,
        RECOVERY,
        prepare=a_marked_report,
        there="a",
        marked=True,
        switches=1,
        long=True,
    )
    writer = Role(
        "writer b", Marked(FILE, "b", entry="reopened", waits=f"gone {FILE}"), writes=True
    )
    yield Scenario(
        "marked again, sweep x sweep",
        (*sweeps, writer),
        RECOVERY,
        prepare=a_marked_report,
        there="a",
        marked=True,
        switches=1,
        long=True,
    )


def _broken() -> Iterator[Scenario]:
    """The marker is removed last, by its name: it may be that of the writer's next file."""
    yield Scenario(
        "the marker removed last, which is wrong",
        (
            Role("sweep", RUNNER._replace(broken=True).sweep),
            Role("writer b", Marked(FILE, "b", waits=f"gone {FILE}"), writes=True),
        ),
        RECOVERY,
        prepare=a_marked_report,
        there="a",
        crashes=0,
        marked=True,
        broken=True,
        quick=True,
    )
