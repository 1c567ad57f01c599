"""Scenarios of a drop folder with an archive: what is done is in it, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

from explorer.actors import RenameOver, Runner, WriteInPlace
from explorer.given import a_report_and_an_archive
from explorer.players import Role
from explorer.run import Scenario

RUNNER = Runner(raw=True, archives=True)
RECOVERY = Role("recovery", RUNNER.recover)
REPORT = "report.csv"


def scenarios() -> Iterator[Scenario]:
    """Yield them."""
    sweep = Role("sweep", RUNNER.sweep)
    over = Role("writer b", RenameOver(REPORT, "b"), writes=True)
    appends = Role("writer b", WriteInPlace(REPORT, "b", pieces=1), writes=True)
    for what, roles, switches, quick in (
        ("a file that is handled", (sweep,), None, True),
        ("a file over the one in hand", (over, sweep), 2, False),
        ("a file that is appended to while it is in hand", (appends, sweep), 2, False),
        ("a file that two sweeps find", (sweep, Role("other sweep", RUNNER.sweep)), 1, False),
    ):
        yield Scenario(
            f"archive: {what}",
            roles,
            RECOVERY,
            prepare=a_report_and_an_archive,
            switches=switches,
            archives=True,
            there="" if "over" in what else "a",  # a writer may replace it before it is handled
            quick=quick,
            long=not quick,
        )
