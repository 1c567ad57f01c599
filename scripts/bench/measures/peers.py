"""The peers, each in the trials that it can do; how many entries it loses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.figures import Spread, spread
from bench.peers import trials
from bench.peers.programs import PROGRAMS, Program
from bench.peers.trials import OURS, Commits
from bench.rows import Row, Target, number
from bench.stand import Stand, tell, warn

MEASURE = 11
KILLED = 200  # entries, half of them handled when the process is killed
STORM = 20_000  # entries, more than the 16,384 events that the kernel keeps


class Found(NamedTuple):
    """The results of one program."""

    name: str
    latency: Spread  # us
    storm: Spread  # entries/s
    drain: Spread | None
    commits: Commits | None
    lost: int | None
    left: int | None
    died: str  # the error that ended it, if one did

    @property
    def loses_nothing(self) -> bool:
        """Whether it lost nothing here, and syncs what it commits."""
        synced = self.commits is not None and self.commits.syncs != 0
        return not (self.lost or self.left or self.died) and synced

    def cells(self) -> Sequence[str]:
        """Return its line of the table."""
        commits = self.commits
        syncs = "?" if commits is None or commits.syncs is None else str(commits.syncs)
        return (
            self.name,
            number(self.latency.median / 1000),
            number(self.storm.median),
            "sees only what comes later" if self.drain is None else number(self.drain.median),
            "any program's rename" if commits is None else f"{number(commits.micro)} ({syncs})",
            "-" if self.lost is None else f"{self.lost:,}",
            "-" if self.left is None else f"{self.left:,}",
            self.died,
        )


HEAD = (
    "",
    "latency p50, ms",
    "a storm, entries/s",
    "a backlog, entries/s",
    "commit, us (syncs)",
    "lost of a storm of {:,} that came while it was stopped",
    "left behind of {} when it was killed",
    "what ended it by itself",
)


def one(stand: Stand, program: Program) -> Found:
    """Try one."""
    size, seconds = stand.pick(4_000, 600), stand.pick(6, 1)
    single, rounds = stand.pick(300, 30), range(stand.pick(2, 1))
    drains = [trials.drain(stand, program, size, seconds) for _ in rounds]
    rates = [each for each in drains if each is not None]
    burst = stand.pick(10_000, 600) if program.files else size
    storms = [trials.storm(stand, program, burst, seconds) for _ in rounds]
    found = Found(
        program.name,
        spread([trials.latency(stand, program, single) for _ in rounds]),
        spread([storm.rate for storm in storms]),
        spread(rates) if rates else None,
        trials.commits(stand, program, stand.pick(300, 30)),
        None if stand.quick else trials.lost_in_storm(stand, program, STORM),
        None if stand.quick else trials.left_after_kill(stand, program, KILLED),
        next((storm.died for storm in storms if storm.died), ""),
    )
    print("11 ", " | ".join(found.cells()), flush=True)
    return found


def measure(stand: Stand) -> list[Row]:
    """Try each installed peer, and watcher in the same trials."""
    head = [HEAD[0], *HEAD[1:5], HEAD[5].format(STORM), HEAD[6].format(KILLED), HEAD[7]]
    print("11 ", " | ".join(head), flush=True)
    ours = one(stand, OURS)
    others: list[Found] = []
    absent = []
    for program in PROGRAMS:
        why = program.missing(stand)
        if not why:
            try:
                others.append(one(stand, program))
            except (RuntimeError, OSError, ValueError, KeyError) as error:
                why = str(error) or type(error).__name__
        if why:
            warn(f"{program.name}: {why}")
            absent.append((program.name, f"not measured: {why}", *[""] * (len(head) - 2)))
    table = [head, *(each.cells() for each in [ours, *others]), *absent]
    rows = [Row(MEASURE, "every peer on what it can do", "", None, table=table)]
    for each in others:
        rows += against(ours, each)
    sure = [each for each in others if each.loses_nothing]
    rows += fastest([(each.name, each.storm) for each in sure], ours.storm, "a storm")
    drained = [(each.name, each.drain) for each in sure if each.drain]
    rows += fastest(drained, ours.drain, "a backlog")
    return [rows[0], *(tell(row) for row in rows[1:])]


def compared(
    what: str, unit: str, mine: Spread, other: Found, theirs: Spread | None, *, plot: str
) -> list[Row]:
    """Return the row of one comparison, if there is anything to compare with."""
    if theirs is None:
        return []
    row = Row(MEASURE, what, unit, mine, theirs, other.name, against_each_other(mine, theirs))
    return [row._replace(plot=plot)]


def against_each_other(mine: Spread, theirs: Spread) -> Spread:
    """Return the ratio of the medians, and its bounds from the lowest and highest of both."""
    return Spread(mine.median / theirs.median, mine.low / theirs.high, mine.high / theirs.low)


def against(ours: Found, other: Found) -> list[Row]:
    """Compare watcher with one peer; Mailman's latency has a target."""
    rows = compared("latency, p50", "us", ours.latency, other, other.latency, plot="latency")
    if other.name == "Mailman 3":
        rows = [row._replace(target=Target(most=0.001)) for row in rows]
    rows += compared("a storm", "entries/s", ours.storm, other, other.storm, plot="storm")
    if ours.drain:
        rows += compared("a backlog", "entries/s", ours.drain, other, other.drain, plot="backlog")
    return rows


def fastest(sure: Sequence[tuple[str, Spread]], mine: Spread | None, what: str) -> list[Row]:
    """Compare a rate with that of the fastest peer that loses nothing."""
    if not sure or mine is None:
        return []
    name, best = max(sure, key=lambda each: each[1].median)
    title = f"{what}, the fastest peer that loses nothing"
    ratio, target = against_each_other(mine, best), Target(least=5.0)
    return [Row(MEASURE, title, "entries/s", mine, best, name, ratio, target)]
