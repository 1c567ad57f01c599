"""What makes a daemon not healthy, and what makes it not ready, as a table."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from watcher.config.page_feed import Feed
from watcher.spool.daemon_status import DaemonStatus
from watcher.web.probes import OLDEST, health, readiness
from watcher.web.snapshot import QueueSnapshot

NOW = 1000.0
FEED = Feed(process=7, host="h", user="u", started=1.0, version="0", address="a")
SAID = {
    "process": 7,
    "user": "u",
    "host": "h",
    "queue": "q",
    "started": 1.0,
    "written": 990.0,
    "next_by": 1100.0,
    "watch": "inotify",
}


def seen(sampled=NOW, error="", **said):
    daemons = [DaemonStatus(**{**SAID, **said})]
    status = None if error or sampled is None else SimpleNamespace(daemons=daemons)
    return QueueSnapshot("q", "/q", sampled, status, error)


@pytest.mark.parametrize(
    ("snapshots", "healthy", "reason"),
    [
        ([seen()], True, ""),
        ([], True, "the daemon has no queue"),
        ([seen(sampled=None)], True, "q: not looked at yet"),
        ([seen(error="/q: cannot be read")], True, "q: /q: cannot be read"),
        ([seen(process=8)], True, "q: the daemon does not serve it yet"),
        ([seen(troubles={"disk": "the disk is full"})], True, "q: the disk is full"),
        ([seen(watch="")], True, "q: it is not watched"),
        ([seen(behind=True)], True, "q: it is behind: events were lost"),
        ([seen(sampled=NOW - OLDEST - 10)], True, "q: it was looked at 5m10s ago"),
        ([seen(next_by=940.0)], False, "q: the daemon's sign of life is late by 1m: it hangs"),
        ([seen(), seen(next_by=940.0)], False, "q: the daemon's sign of life is late by 1m"),
    ],
)
def test_a_daemon_is_healthy_unless_it_hangs_and_ready_if_every_queue_is(
    snapshots, healthy, reason
):
    assert (not health(FEED, snapshots, NOW).reasons) == healthy
    reasons = readiness(FEED, snapshots, NOW).reasons
    assert bool(reasons) == bool(reason)
    assert reason in "".join(reasons)
