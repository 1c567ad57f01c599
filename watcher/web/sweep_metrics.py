"""The metrics of sweeps by hand, for the textfile collector of Prometheus' node_exporter. PURE.

Beside what the last sweep did, such a file has what is on the disk after it: `ON_DISK`.
docs/monitoring.md shows this table (`make docs`).
Fails: never.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from watcher.inspect.queue_status import QueueStatus
from watcher.rules.results import AttemptEnd
from watcher.web.metrics import METRICS
from watcher.web.series import Family, Metric, Sample, Type, family, one, queue_labels

ON_DISK = frozenset(
    {
        "watcher_entries",
        "watcher_oldest_entry_age_seconds",
        "watcher_due_entries",
        "watcher_paused",
        "watcher_disk_free_bytes",
        "watcher_disk_free_ratio",
    }
)
_RESULTS = {
    AttemptEnd.DONE: "handled",
    AttemptEnd.RETRY: "failed",
    AttemptEnd.DEFERRED: "failed",
    AttemptEnd.MISCONFIGURED: "failed",
    AttemptEnd.STUCK: "failed",
    AttemptEnd.ERROR: "failed",
    AttemptEnd.REJECTED: "rejected",
    AttemptEnd.ORPHANED: "orphaned",
}
RESULTS = ("handled", "failed", "rejected", "orphaned", "left")


class SweepRun(NamedTuple):
    """The last sweep of one queue; without counts it did not begin."""

    queue: str
    ended: float  # seconds since 1970
    seconds: float
    exit_code: int
    counts: Mapping[AttemptEnd, int] | None = None
    complete: bool = False
    status: QueueStatus | None = None  # after it


def _entries(run: SweepRun) -> Iterator[Sample]:
    if run.counts is not None:
        found = dict.fromkeys(RESULTS, 0)
        for result, count in run.counts.items():
            found[_RESULTS.get(result, "left")] += count
        for word, count in found.items():
            yield Sample(count, (word,))


SWEEP_METRICS: Sequence[Metric[SweepRun]] = (
    Metric(
        "watcher_sweep_last_run_timestamp_seconds",
        Type.GAUGE,
        "When the last sweep by hand ended.",
        one(lambda run: run.ended),
    ),
    Metric(
        "watcher_sweep_duration_seconds",
        Type.GAUGE,
        "How long that sweep took.",
        one(lambda run: run.seconds),
    ),
    Metric(
        "watcher_sweep_exit_code",
        Type.GAUGE,
        "The exit status of that sweep for this queue; 0: nothing was left for a later try.",
        one(lambda run: run.exit_code),
    ),
    Metric(
        "watcher_sweep_complete",
        Type.GAUGE,
        "1 if that sweep looked at every entry; 0: a limit, a signal or an error ended it early.",
        one(lambda run: run.complete),
    ),
    Metric(
        "watcher_sweep_entries",
        Type.GAUGE,
        "The entries that it found, by what became of them; left: not complete, or in hand.",
        _entries,
        ("queue", "result"),
    ),
)


def sweep_families(runs: Sequence[SweepRun]) -> Iterator[Family]:
    """Yield each metric of a textfile with the samples of these queues."""
    names = queue_labels([run.queue for run in runs])
    labelled = list(zip(names, runs, strict=True))
    for metric in SWEEP_METRICS:
        yield family(metric, labelled)
    statuses = [(name, run.status) for name, run in labelled if run.status is not None]
    for known in METRICS:
        if known.name in ON_DISK:
            yield family(known, statuses)
