"""Whether the daemon is well: `/healthz` and `/readyz`. PURE.

A service manager restarts a daemon that is not healthy, so that needs a sign that it hangs, and no
trouble of a queue. One that is not ready is healthy, but its queues are not served as they should.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from watcher.config.page_feed import Feed
from watcher.durations import show
from watcher.spool.daemon_status import DaemonStatus
from watcher.web.snapshot import QueueSnapshot

OLDEST = 300.0  # seconds; an older look at a queue proves nothing


class Verdict(NamedTuple):
    """What is wrong, one line a reason; without any, `good` says so."""

    reasons: list[str]
    good: str


def health(feed: Feed, snapshots: Sequence[QueueSnapshot], _now: float) -> Verdict:
    """Say whether the daemon lives: it wrote its `.status` in time, as far as that can be read."""
    reasons = []
    for each in snapshots:
        said = _said(feed, each)
        if said is not None and each.sampled is not None and each.sampled > said.next_by:
            late = show(round(each.sampled - said.next_by))
            reasons.append(f"{each.name}: the daemon's sign of life is late by {late}: it hangs")
    return Verdict(reasons, "healthy")


def readiness(feed: Feed, snapshots: Sequence[QueueSnapshot], now: float) -> Verdict:
    """Say whether every queue is watched, without trouble, and not behind."""
    reasons = health(feed, snapshots, now).reasons
    for each in snapshots:
        reasons += [f"{each.name}: {why}" for why in _not_ready(feed, each, now)]
    if not snapshots:
        reasons.append("the daemon has no queue")
    return Verdict(reasons, "ready")


def _not_ready(feed: Feed, each: QueueSnapshot, now: float) -> list[str]:
    if each.sampled is None:
        return ["not looked at yet"]
    if each.error:
        return [each.error]
    said = _said(feed, each)
    if said is None:
        return ["the daemon does not serve it yet"]
    reasons = list(said.troubles.values())
    if not said.watch:
        reasons.append("it is not watched")
    if said.behind:
        reasons.append("it is behind: events were lost, and the directory is scanned for entries")
    if now - each.sampled > OLDEST:
        reasons.append(f"it was looked at {show(round(now - each.sampled))} ago")
    return reasons


def _said(feed: Feed, each: QueueSnapshot) -> DaemonStatus | None:
    """Return what this daemon says of the queue."""
    daemons = () if each.status is None else each.status.daemons
    return next((said for said in daemons if said.process == feed.process), None)
