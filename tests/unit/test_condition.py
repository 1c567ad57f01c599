"""Is a queue healthy? Each rule of `condition` by its facts, as a table."""

from __future__ import annotations

import pytest

from watcher.rules.condition import (
    DaemonFacts,
    Held,
    Limits,
    QueueFacts,
    Severity,
    findings,
    worst,
)

WELL = DaemonFacts(7, attempts=100, failed=1)
OK, WARNING, CRITICAL = Severity.OK, Severity.WARNING, Severity.CRITICAL


def facts(daemon=WELL, **known):
    known.setdefault("daemons", [] if daemon is None else [daemon])
    return QueueFacts("/q", **known)


TABLE = {
    # name: facts, severity, about, words of the sentence, the next command
    "a daemon at work": (facts(ready=3, oldest=5.0), OK, "", "", ""),
    "nothing waits, and no daemon was ever here": (facts(None), OK, "", "", ""),
    "nothing waits, and the last daemon died": (
        facts(None, died=9),
        WARNING,
        "daemon",
        "process 9, died",
        "watcher run /q",
    ),
    "no daemon, and one entry waits": (
        facts(None, ready=1, oldest=5.0),
        WARNING,
        "daemon",
        "no daemon runs, and 1 entry waits, the oldest for 5s",
        "watcher run /q",
    ),
    "no daemon, and entries wait for long": (
        facts(None, ready=2, due=3, oldest=3600.0),
        CRITICAL,
        "daemon",
        "no daemon runs, and 5 entries wait, the oldest for 1h",
        "watcher run /q",
    ),
    "no daemon, but another process is at work": (
        facts(None, ready=2, others=1, oldest=5.0),
        OK,
        "",
        "",
        "",
    ),
    "the daemon gives no sign of life": (
        facts(WELL._replace(silent=90.0)),
        CRITICAL,
        "daemon",
        "process 7, gives no sign of life: its last one is 1m30s late",
        "kill 7",
    ),
    "two daemons": (
        facts(daemons=[WELL, WELL._replace(process=8)]),
        WARNING,
        "daemon",
        "processes 7, 8",
        "kill 8",
    ),
    "all attempts fail": (
        facts(WELL._replace(failed=100, reason="exit status 75: refused")),
        CRITICAL,
        "failing",
        "all of the last 100 attempts failed (in 5m): exit status 75: refused",
        "watcher list /q --state deferred",
    ),
    "all attempts at messages fail": (
        facts(WELL._replace(failed=100), stream="MAIL"),
        CRITICAL,
        "failing",
        "all of the last 100 attempts failed (in 5m)",
        "watcher nats check --stream MAIL",
    ),
    "half of the attempts fail": (
        facts(WELL._replace(failed=50)),
        WARNING,
        "failing",
        "50 of the last 100 attempts failed",
        "watcher list /q --state deferred",
    ),
    "less than half of the attempts fail": (facts(WELL._replace(failed=49)), OK, "", "", ""),
    "too few attempts to tell": (facts(WELL._replace(attempts=2, failed=2)), OK, "", "", ""),
    "a handler hangs, other workers go on": (
        facts(DaemonFacts(7, concurrency=2, in_hand=[Held("a", 601.0, 8136)])),
        WARNING,
        "hanging",
        "a is in hand for 10m1s by process 8136 (no timeout is set)",
        "watcher abort /q a",
    ),
    "a handler hangs, and the queue stands still": (
        facts(DaemonFacts(7, in_hand=[Held("a", 601.0, None)])),
        CRITICAL,
        "hanging",
        "every worker is busy so, and the queue stands still",
        "watcher abort /q a",
    ),
    "a handler works for long within its timeout": (
        facts(DaemonFacts(7, timeout=3600.0, in_hand=[Held("a", 3000.0, 1)])),
        OK,
        "",
        "",
        "",
    ),
    "a handler outlives its timeout": (
        facts(DaemonFacts(7, timeout=5.0, in_hand=[Held("a", 16.0, 1)])),
        CRITICAL,
        "hanging",
        "longer than its timeout of 5s",
        "watcher abort /q a",
    ),
    "another program takes entries": (
        facts(WELL._replace(taken=8, last_taken="b", taken_ago=60.0)),
        CRITICAL,
        "taken",
        "8 entries were taken by another program, which watcher did not handle; the last: b,",
        "watcher audit /q",
    ),
    "another program took an entry long ago": (
        facts(WELL._replace(taken=8, last_taken="b", taken_ago=3601.0)),
        OK,
        "",
        "",
        "",
    ),
    "paused while entries wait": (
        facts(paused="paused since noon by ann", ready=2, oldest=9000.0),
        WARNING,
        "paused",
        "paused since noon by ann, and 2 entries wait",
        "watcher resume /q",
    ),
    "paused, and nothing waits": (facts(paused="paused since noon"), OK, "", "", ""),
    "the oldest waits": (
        facts(ready=1, oldest=600.0),
        WARNING,
        "oldest",
        "the oldest ready entry waits for 10m",
        "watcher list /q --state ready",
    ),
    "the oldest waits for long": (facts(ready=1, oldest=3600.0), CRITICAL, "oldest", "1h", "list"),
    "one is dead": (
        facts(dead=1, dead_lately=1),
        WARNING,
        "dead",
        "1 entry is dead, 1 of these in the last hour",
        "watcher list /q --state dead",
    ),
    "many are dead": (facts(dead=100), CRITICAL, "dead", "100 entries are dead", "watcher list"),
    "the directory cannot be written": (
        facts(unwritable="list may not write to /q (mode 0555)"),
        CRITICAL,
        "directory",
        "list may not write to /q (mode 0555)",
        "ls -ld /q",
    ),
    "little room": (
        facts(free_bytes=5 << 30, free_share=0.04),
        WARNING,
        "disk",
        "5120 MiB are free (4.0%)",
        "df -h -i /q",
    ),
    "little of a large disk is much": (facts(free_bytes=11 << 30, free_share=0.04), OK, "", "", ""),
    "nearly no room": (
        facts(free_bytes=9 << 20, free_share=0.4),
        CRITICAL,
        "disk",
        "9 MiB are free",
        "df",
    ),
    "a small file system that is half empty": (
        facts(free_bytes=9 << 20, free_share=0.6),
        OK,
        "",
        "",
        "",
    ),
    "no inodes": (
        facts(free_bytes=11 << 30, free_share=0.5, free_inodes=0),
        CRITICAL,
        "disk",
        "no free inodes",
        "df",
    ),
    "the daemon says that its disk refuses": (
        facts(WELL._replace(troubles={"disk": "No space left"})),
        CRITICAL,
        "disk",
        "No space left",
        "watcher check /q",
    ),
    "the daemon says that one entry refuses": (
        facts(WELL._replace(troubles={"entry": "cannot remove a"})),
        WARNING,
        "entry",
        "cannot remove a",
        "watcher check /q",
    ),
    "the daemon says itself that everything fails": (
        facts(WELL._replace(failed=100, troubles={"handler": "the last 20 failed alike"})),
        CRITICAL,
        "handler",
        "the last 20 failed alike",
        "watcher list /q --summary",
    ),
    "the daemon itself says that an attempt lasts for long": (
        facts(
            WELL._replace(in_hand=[Held("x", 70.0, 7)], troubles={"hanging": "x: in hand since 1"})
        ),
        WARNING,
        "hanging",
        "x: in hand",
        "watcher abort /q x",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_rule(name):
    known, severity, about, words, command = TABLE[name]
    found = findings(known, Limits())
    assert worst(found) is severity
    assert [each.about for each in found] == ([about] if about else [])
    if found:
        assert words in found[0].what
        assert command in found[0].next_command


def test_the_worst_comes_first():
    found = findings(facts(dead=1, unwritable="no"), Limits())
    assert [each.severity for each in found] == [CRITICAL, WARNING]


@pytest.mark.parametrize(
    ("value", "severity"), [(4, OK), (5, WARNING), (6, WARNING), (7, CRITICAL)]
)
def test_the_operator_sets_limits(value, severity):
    limits = Limits(dead=Limits().dead._replace(warning=5, critical=7))
    assert worst(findings(facts(dead=value), limits)) is severity
