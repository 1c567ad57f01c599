"""Every metric: its name, its labels, its help, and its values by a queue's status. PURE.

The names and units follow the conventions of Prometheus: base units, `_total` for what only grows.
docs/monitoring.md shows this table (`make docs`). What a daemon counts is the sum of the daemons
that serve the queue now, and begins at 0 with a daemon's start.
Guarantees: the labels of a queue's series are its name, and words from short lists (a state, a
result, the subject of a trouble, of which there are at most `MOST_TROUBLES`): never the name of an
entry, never what a handler printed. No two series have the same labels.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import watcher
from watcher.errors import one_line
from watcher.inspect.queue_status import QueueStatus
from watcher.rules.lifecycle import State
from watcher.spool.daemon_status import MOST_TROUBLES, DaemonStatus, Histogram
from watcher.web.series import (
    LONGEST_NAME,
    Family,
    Metric,
    Sample,
    Type,
    family,
    one,
    queue_labels,
)

_UNWATCHED = {"watch", "directory", "blind watch"}  # while one of these lasts, no event comes
STAGES = {
    "wait": "The time from an entry's commit, or from when it was due, to its claim",
    "handler": "The time that the handler took",
    "settle": "The time that the last step took, which removes the entry or moves it",
}


def serving(status: QueueStatus) -> list[DaemonStatus]:
    """Return what the daemons say that serve a queue now."""
    return [said for said in status.daemons if said.command == "run"]


def in_time(status: QueueStatus) -> list[DaemonStatus]:
    """Return what those daemons say that gave their sign of life when they had to."""
    return [said for said in serving(status) if status.at <= said.next_by]


def _daemons(
    value: Callable[[DaemonStatus], float | None],
    together: Callable[[Iterable[float]], float] = sum,
) -> Callable[[QueueStatus], Iterable[Sample]]:
    """Return a metric's samples: the value of the daemons together; none without a daemon."""

    def samples(status: QueueStatus) -> Iterator[Sample]:
        known = [found for said in serving(status) if (found := value(said)) is not None]
        if known:
            yield Sample(together(known))

    return samples


def _entries(status: QueueStatus) -> Iterator[Sample]:
    for state, count in status.states.items():
        yield Sample(count.count, (state.value,))


def _oldest(status: QueueStatus) -> Iterator[Sample]:
    """Yield the age of the oldest entry of each state; 0 if there is none."""
    for state, count in status.states.items():
        age = count.oldest
        if state is State.CLAIMED:
            since = [each.since for each in status.in_hand if each.since is not None]
            age = max(0.0, status.at - min(since)) if since else None
        if not count.count:
            age = 0.0
        if age is not None:
            yield Sample(age, (state.value,))


def _attempts(status: QueueStatus) -> Iterator[Sample]:
    totals = [said.totals for said in serving(status)]
    if totals:
        for result in ("handled", "failed", "rejected"):
            yield Sample(sum(getattr(each, result) for each in totals), (result,))


def _histogram(stage: str) -> Callable[[QueueStatus], Iterable[Sample]]:
    def samples(status: QueueStatus) -> Iterator[Sample]:
        found = [said.histograms[stage] for said in serving(status) if stage in said.histograms]
        # A daemon of another release may have other bounds: these cannot be added up.
        alike = [each for each in found if each.bounds == found[0].bounds]
        if alike:
            counts = [sum(column) for column in zip(*(each.counts for each in alike), strict=True)]
            seconds = sum(each.seconds for each in alike)
            yield Sample(Histogram(alike[0].bounds, counts, seconds))

    return samples


def _troubles(status: QueueStatus) -> Iterator[Sample]:
    about = {one_line(each): None for said in serving(status) for each in said.troubles}
    for each in list(about)[:MOST_TROUBLES]:
        yield Sample(1, (each[:LONGEST_NAME],))


def _breaker(said: DaemonStatus) -> float:
    return "breaker" in said.troubles


def _watched(said: DaemonStatus) -> float:
    return bool(said.watch) and not _UNWATCHED & said.troubles.keys()


def _last_sweep(said: DaemonStatus) -> float | None:
    return None if said.last_sweep is None else said.last_sweep.at


def _sweep_seconds(said: DaemonStatus) -> float | None:
    return None if said.last_sweep is None else said.last_sweep.seconds


BUILD = Metric[None](
    "watcher_build",
    Type.INFO,
    "The release of the program that shows these metrics.",
    lambda _: [Sample(1)],
    ("version",),
)
METRICS: Sequence[Metric[QueueStatus]] = (
    Metric(
        "watcher_queue_readable",
        Type.GAUGE,
        "1 if the queue could be looked at; if not, 0, and it has no other metric.",
        one(lambda _status: 1),
    ),
    Metric(
        "watcher_sampled_timestamp_seconds",
        Type.GAUGE,
        "When the queue was looked at.",
        one(lambda status: status.at),
    ),
    Metric(
        "watcher_up",
        Type.GAUGE,
        "1 if a daemon serves the queue and gave its last sign of life in time.",
        one(lambda status: bool(in_time(status))),
    ),
    Metric(
        "watcher_daemons",
        Type.GAUGE,
        "The daemons that serve the queue; more than one is a mistake or a takeover.",
        one(lambda status: len(serving(status))),
    ),
    Metric(
        "watcher_daemon_start_time_seconds",
        Type.GAUGE,
        "When the daemon started.",
        _daemons(lambda said: said.started, max),
    ),
    Metric(
        "watcher_daemon_sign_of_life_timestamp_seconds",
        Type.GAUGE,
        "When the daemon wrote its status last: while entries flow, and with each sweep.",
        _daemons(lambda said: said.written, max),
    ),
    Metric(
        "watcher_watched",
        Type.GAUGE,
        "1 if events of the directory reach the daemon; 0: it finds entries by sweeps alone.",
        _daemons(_watched, max),
    ),
    Metric(
        "watcher_trouble",
        Type.GAUGE,
        "1 for each subject of which the daemon reports a trouble; no series without one.",
        _troubles,
        ("queue", "what"),
    ),
    Metric(
        "watcher_breaker_open",
        Type.GAUGE,
        "1 if the last attempts all failed alike, so that one entry at a time is tried.",
        _daemons(_breaker, max),
    ),
    Metric(
        "watcher_paused",
        Type.GAUGE,
        "1 if an operator paused the queue.",
        one(lambda status: bool(status.paused)),
    ),
    Metric(
        "watcher_entries",
        Type.GAUGE,
        "The entries on the disk in each state; of a very large directory, at least so many.",
        _entries,
        ("queue", "state"),
    ),
    Metric(
        "watcher_oldest_entry_age_seconds",
        Type.GAUGE,
        "The age of the oldest entry in each state, 0 if there is none: since the first failure of"
        " a deferred one, the claim of a claimed one, the last change of another one's files.",
        _oldest,
        ("queue", "state"),
    ),
    Metric(
        "watcher_due_entries",
        Type.GAUGE,
        "The deferred entries whose time has come.",
        one(lambda status: status.states[State.DEFERRED].due),
    ),
    Metric(
        "watcher_workers",
        Type.GAUGE,
        "How many entries may be in hand at once.",
        _daemons(lambda said: said.concurrency),
    ),
    Metric(
        "watcher_attempts",
        Type.COUNTER,
        "The attempts that ended: handled, failed (to be tried again, or given up), rejected.",
        _attempts,
        ("queue", "result"),
    ),
    *(
        Metric(
            f"watcher_{stage}_seconds",
            Type.HISTOGRAM,
            f"{words}; in a storm, one attempt in 17 stands for the others.",
            _histogram(stage),
        )
        for stage, words in STAGES.items()
    ),
    Metric(
        "watcher_last_success_timestamp_seconds",
        Type.GAUGE,
        "When an entry was handled last; no series if none was since the daemon's start.",
        _daemons(lambda said: said.last_success, max),
    ),
    Metric(
        "watcher_failures_since_success",
        Type.GAUGE,
        "The attempts that failed since the last success.",
        _daemons(lambda said: said.in_a_row, max),
    ),
    Metric(
        "watcher_entries_missed",
        Type.COUNTER,
        "The entries that a sweep of the daemon found and no event had reported.",
        _daemons(lambda said: said.missed),
    ),
    Metric(
        "watcher_event_overflows",
        Type.COUNTER,
        "How often the kernel's queue of events overflowed; a scan finds what was lost.",
        _daemons(lambda said: said.overflows),
    ),
    Metric(
        "watcher_entries_taken",
        Type.COUNTER,
        "The entries that another program took before their claim.",
        _daemons(lambda said: said.taken),
    ),
    Metric(
        "watcher_last_sweep_timestamp_seconds",
        Type.GAUGE,
        "When the daemon swept the directory last; no series before its first sweep.",
        _daemons(_last_sweep, max),
    ),
    Metric(
        "watcher_last_sweep_duration_seconds",
        Type.GAUGE,
        "How long that sweep took.",
        _daemons(_sweep_seconds, max),
    ),
    Metric(
        "watcher_disk_free_bytes",
        Type.GAUGE,
        "What is free on the queue's disk for the daemon's user.",
        one(lambda status: status.free_bytes),
    ),
    Metric(
        "watcher_disk_free_ratio",
        Type.GAUGE,
        "The part of the queue's disk that is free for the daemon's user.",
        one(lambda status: status.free_share),
    ),
)
_READABLE = METRICS[0]


def families(statuses: Sequence[QueueStatus], unreadable: Sequence[str] = ()) -> Iterator[Family]:
    """Yield each metric with the samples of these queues; `unreadable` are the names of others."""
    names = queue_labels([*(status.name for status in statuses), *unreadable])
    sources = list(zip(names, statuses, strict=False))
    yield family(BUILD, [(watcher.__version__, None)])
    for metric in METRICS:
        found = family(metric, sources)
        if metric is _READABLE:
            found.samples.extend(({"queue": name}, 0.0) for name in names[len(statuses) :])
        yield found
