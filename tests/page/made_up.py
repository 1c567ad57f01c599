"""What the page's server answers, made up: each state, each severity, and hostile names."""

from __future__ import annotations

import math
from typing import Any

NOW = 1_795_826_400.0  # seconds since the epoch
HOSTILE = "<img src=x onerror=alert(1)>"
TURNED = "invoice\u202efdp.exe"  # RIGHT-TO-LEFT OVERRIDE
CONTROL = "bell\x07tab\there\u2028line"
WORDS = ("arriving", "ready", "claimed", "deferred", "held", "dead", "orphan")

Record = dict[str, Any]


def state(number: int = 0, oldest: float | None = None, **more: Any) -> Record:
    """Return one state of a queue."""
    return {"count": number, "counted_all": True, "oldest": oldest, **more}


def daemon(**changed: Any) -> Record:
    """Return what a daemon says of a queue."""
    return {
        "process": 4711,
        "user": "list",
        "host": "mail",
        "command": "run",
        "started": NOW - 90_000,
        "written": NOW - 1,
        "stopped": None,
        "troubles": {},
        "watch": "inotify",
        "concurrency": 4,
        "timeout": 300.0,
        "windows": {
            "1m": {"handled": 61, "failed": 1, "rejected": 0},
            "5m": {"handled": 290, "failed": 4, "rejected": 1},
            "60m": {"handled": 3512, "failed": 40, "rejected": 3},
        },
        "times": {
            "wait": {"count": 3555, "p50": 0.0021, "p99": 0.41},
            "handler": {"count": 3555, "p50": 0.81, "p99": 4.2},
            "settle": {"count": 3555, "p50": 0.0003, "p99": 0.0011},
        },
        "last_success": NOW - 2,
        "in_a_row": 0,
        "taken": 0,
        "last_taken": "",
        "overflows": 0,
        "last_sweep": {"at": NOW - 31, "seconds": 0.004, "found": 0},
        **changed,
    }


def queue(name: str, counts: dict[str, Record] | None = None, **changed: Any) -> Record:
    """Return one queue, healthy and empty unless something else is said."""
    return {
        "queue": name,
        "path": f"/var/spool/{name}",
        "at": NOW,
        "sampled": NOW,
        "error": None,
        "condition": "ok",
        "findings": [],
        "daemons": [daemon()],
        "silent_processes": [],
        "last_daemon": None,
        "paused": None,
        "states": {word: state() for word in WORDS} | (counts or {}),
        "in_hand": [],
        "backlog": {"leaving": None, "arriving": None, "done_in": None},
        "failures": {
            "read": 0,
            "read_all": True,
            "ages": ["<1m", "<10m", "<1h", "<6h", "<1d", "<7d", "older"],
            "kinds": [],
        },
        "disk": {"free_bytes": 83 << 30, "free_share": 0.31},
        **changed,
    }


def busy() -> Record:
    """Return a queue in trouble, with hostile names."""
    return queue(
        "mail",
        {
            "ready": state(1_284, 912.0, first=[{"entry": HOSTILE, "age": 912.0}]),
            "claimed": state(2),
            "deferred": state(
                37, 5_400.0, due=3, next_due=12.0, first=[{"entry": TURNED, "age": 5400.0}]
            ),
            "held": state(1, 86_400.0),
            "dead": state(5, 3_000.0),
        },
        condition="critical",
        findings=[
            {
                "severity": "warning",
                "about": "dead",
                "what": "5 entries are dead, 2 of these in the last hour",
                "next": "watcher list /var/spool/mail --state dead",
            },
            {
                "severity": "critical",
                "about": "hanging",
                "what": f"{HOSTILE} is in hand for 22m by process 5123 (its timeout is 5m)",
                "next": "watcher abort /var/spool/mail 1795826+0af3",
            },
        ],
        in_hand=[
            {
                "entry": "1795826399.5+77c1",
                "daemon": 4711,
                "attempt": 1,
                "since": NOW - 4,
                "process": 5124,
            },
            {"entry": HOSTILE, "daemon": 4711, "attempt": 3, "since": NOW - 1_320, "process": 5123},
            {"entry": CONTROL, "daemon": 4711, "attempt": None, "since": None, "process": None},
        ],
        backlog={"leaving": 0.9, "arriving": 1.4, "done_in": None},
        failures={
            "read": 42,
            "read_all": True,
            "ages": ["<1m", "<10m", "<1h", "<6h", "<1d", "<7d", "older"],
            "kinds": [
                {
                    "state": "deferred",
                    "reason": "the handler ended with status 75: connection to …:25 refused",
                    "total": 37,
                    "ages": [1, 9, 20, 7, 0, 0, 0],
                },
                {"state": "dead", "reason": HOSTILE, "total": 5, "ages": [0, 0, 2, 3, 0, 0, 0]},
            ],
        },
    )


def status(*queues: Record) -> Record:
    """Return the answer to /status.json."""
    about = {
        "process": 4711,
        "host": "mail",
        "user": "list",
        "started": NOW - 90_000,
        "version": "0.1",
    }
    return {"version": 1, "time": NOW, "daemon": about, "queues": list(queues)}


def history(name: str, points: int = 240) -> Record:
    """Return the answer to /history.json: an hour with a hump, and a gap in the ages."""
    times = [NOW - 15.0 * (points - 1 - index) for index in range(points)]
    hump = [
        max(0, round(1_300 * math.sin((index - 90) / 95))) if index > 90 else 3
        for index in range(points)
    ]
    return {
        "queue": name,
        "time": times,
        "depth": {
            "ready": hump,
            "claimed": [4] * points,
            "deferred": [min(37, index // 5) for index in range(points)],
            "held": [0] * 100 + [1] * (points - 100),
            "dead": [0] * 200 + [5] * (points - 200),
            "orphan": [0] * points,
        },
        "oldest": [None if depth == 3 else depth * 0.8 for depth in hump],
    }


def life(entry: str) -> Record:
    """Return the answer to /entry.json: committed, failed twice, requeued, handled."""
    common = {"process": 4711, "host": "mail", "local_time": "", "text": "", "file": f"{entry}.pck"}
    failed = {
        "move": "defer",
        "state": "claimed",
        "exit_status": 75,
        "why": "the handler ended with status 75: connection refused",
    }
    return {
        "entry": entry,
        "lives": [
            {
                "committed": NOW - 700,
                "attempts": 3,
                "steps": [
                    {
                        **common,
                        **failed,
                        "time": NOW - 697,
                        "attempt": 1,
                        "took": 2.5,
                        "waited": 0.5,
                        "next_in": 60.0,
                    },
                    {
                        **common,
                        **failed,
                        "time": NOW - 600,
                        "attempt": 2,
                        "took": 30.0,
                        "waited": 0.1,
                        "next_in": 300.0,
                    },
                    {
                        **common,
                        "move": "requeue",
                        "state": "deferred",
                        "time": NOW - 290,
                        "attempt": None,
                        "took": None,
                        "waited": None,
                        "exit_status": None,
                        "next_in": None,
                        "why": "by ann (uid 1000)",
                        "text": "requeued, out of deferred/ by ann (uid 1000)",
                    },
                    {
                        **common,
                        "move": "finish",
                        "state": "claimed",
                        "time": NOW - 280,
                        "attempt": 3,
                        "took": 4.0,
                        "waited": 0.2,
                        "exit_status": 0,
                        "next_in": None,
                        "why": "",
                    },
                ],
                "state": None,
                "ended": "finish",
                "result": "handled on 2026-11-28 00:35:20 UTC at the 3rd attempt, 7m later",
            }
        ],
        "taken": [],
        "journal_since": NOW - 1e6,
        "remarks": ["the journal begins on 2026-11-16 10:53:20 UTC; what was before is gone"],
    }
