"""Is a queue healthy? The rules as a table, from what is known to what is wrong. PURE.

A queue is healthy if its work succeeds, not if its daemon runs. Each rule looks at the facts and
returns a finding or None: how severe, about what, one sentence, and the command to type next.

Guarantees: the findings come in the order of severity, then of `RULES`. A fact that is not known
(None) leads to no finding.
Fails: never.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from watcher.durations import show
from watcher.errors import counted
from watcher.rules.space import ENOUGH, VERY_LITTLE

HANGS = 600.0  # seconds in hand that are too long where no timeout is set
_AFTER_TIMEOUT = 10.0  # seconds: TERM, and KILL 5 s later, are over then
_FEW = 3  # attempts that say nothing about a handler
_LATELY = 3600.0  # seconds for which an entry that another program took is reported
_LITTLE = 0.05  # of a file system ...
_MUCH = 10 << 30  # ... that still are so many bytes are no trouble
_LEAST = 10 << 20  # bytes; a file system of a few megabytes may be half empty with less
_HALF = 0.5
# Subjects of troubles that a daemon reports (observe.health) and that keep every entry waiting.
_SEVERE = frozenset(
    {"directory", "mode", "disk", "handler", "breaker", "workers", "archive", "modules"}
)
_ABOUT_FAILURES = frozenset({"handler", "breaker"})  # a trouble that says what `_failing` would say


# Troubles that a daemon reports of what a rule here finds, too: subject -> the rule's.
_SAME = {"hanging": "hanging", "taken entries": "taken", "space": "disk", "second daemon": "daemon"}


class Severity(enum.IntEnum):
    """How bad; the numbers are the exit codes that monitoring systems expect."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Finding(NamedTuple):
    """One thing that is wrong: the sentence says what, and `next_command` what to type."""

    severity: Severity
    about: str
    what: str
    next_command: str


class Limit(NamedTuple):
    """From which value on something is a warning, and from which it is critical."""

    warning: float
    critical: float

    def severity(self, value: float) -> Severity:
        """Return how bad a value is."""
        if value >= self.critical:
            return Severity.CRITICAL
        return Severity.WARNING if value >= self.warning else Severity.OK


class Limits(NamedTuple):
    """What the operator may set: `--warn-age`, `--crit-age`, and so on."""

    age: Limit = Limit(600.0, 3600.0)  # seconds that the oldest entry waits
    dead: Limit = Limit(1, 100)  # dead entries
    failing: Limit = Limit(50.0, 100.0)  # per cent of the attempts of the last minutes


class Held(NamedTuple):
    """One entry in hand: for how many seconds, by which child process of the handler."""

    entry: str
    seconds: float
    process: int | None


class DaemonFacts(NamedTuple):
    """What one running daemon says of the queue."""

    process: int
    silent: float | None = None  # seconds since it should have given a sign of life; None: it did
    troubles: Mapping[str, str] = {}
    in_hand: Sequence[Held] = ()
    concurrency: int = 1
    timeout: float | None = None
    attempts: int = 0  # that ended in the last `span` seconds
    failed: int = 0  # of these, failed or rejected
    span: float = 300.0
    reason: str = ""  # of the most failures
    taken: int = 0  # entries that another program took
    last_taken: str = ""
    taken_ago: float | None = None


class QueueFacts(NamedTuple):
    """What is known of one queue. `queue` is how a command names it.

    `stream` is the one whose messages have their copies there; "": it is no directory of copies.
    """

    queue: str
    daemons: Sequence[DaemonFacts] = ()
    others: int = 0  # processes at work that say nothing of themselves, and sweeps by hand
    died: int | None = None  # the last daemon, if it ended without a word
    paused: str = ""  # since when, by which user
    ready: int = 0
    due: int = 0  # deferred entries that are due
    oldest: float | None = None  # seconds that the oldest ready entry waits
    dead: int = 0
    dead_lately: int = 0  # of these, those that came in the last hour
    unwritable: str = ""  # why no entry can be removed
    free_bytes: int | None = None
    free_share: float | None = None
    free_inodes: float | None = None  # share
    stream: str = ""


Rule = Callable[[QueueFacts, Limits], Finding | None]


def findings(facts: QueueFacts, limits: Limits) -> list[Finding]:
    """Return what is wrong, the worst first; [] if the queue is healthy."""
    found = [each for rule in RULES if (each := rule(facts, limits)) is not None]
    about = {each.about for each in found}
    for daemon in facts.daemons:
        found += [each for each in _troubles(facts, daemon) if _SAME.get(each.about) not in about]
    return sorted(found, key=lambda each: -each.severity)


def worst(found: Sequence[Finding]) -> Severity:
    """Return the severity of all findings together."""
    return max((each.severity for each in found), default=Severity.OK)


# -- the rules ------------------------------------------------------------------------------------


def _unwritable(facts: QueueFacts, _limits: Limits) -> Finding | None:
    if not facts.unwritable:
        return None
    return Finding(Severity.CRITICAL, "directory", facts.unwritable, f"ls -ld {facts.queue}")


def _space(facts: QueueFacts, _limits: Limits) -> Finding | None:
    free, share = facts.free_bytes, facts.free_share
    if free is None or share is None:
        return None
    if (
        (free < _LEAST and share < _HALF)
        or (share < VERY_LITTLE and free < ENOUGH)
        or facts.free_inodes == 0
    ):
        severity = Severity.CRITICAL
    elif share < _LITTLE and free < _MUCH:
        severity = Severity.WARNING
    else:
        return None
    what = f"the disk is nearly full: {free >> 20} MiB are free ({share:.1%})"
    if facts.free_inodes == 0:
        what = "the disk has no free inodes"
    return Finding(severity, "disk", what, f"df -h -i {facts.queue}")


def _no_daemon(facts: QueueFacts, limits: Limits) -> Finding | None:
    if facts.daemons or facts.others:
        return None
    waiting = facts.ready + facts.due
    start = f"watcher run {facts.queue}"
    if not waiting:
        if facts.died is None:
            return None
        what = f"no daemon runs; the last one, process {facts.died}, died"
        return Finding(Severity.WARNING, "daemon", what, start)
    severity = max(Severity.WARNING, limits.age.severity(facts.oldest or 0))
    if facts.paused:
        severity = Severity.WARNING
    wait = f", the oldest for {show(facts.oldest)}" if facts.oldest is not None else ""
    last = "" if facts.died is None else f"; the last one, process {facts.died}, died"
    verb = "waits" if waiting == 1 else "wait"
    what = f"no daemon runs, and {counted(waiting, 'entry', 'entries')} {verb}{wait}{last}"
    return Finding(severity, "daemon", what, start)


def _silent(facts: QueueFacts, _limits: Limits) -> Finding | None:
    daemon = next((each for each in facts.daemons if each.silent is not None), None)
    if daemon is None or daemon.silent is None:
        return None
    what = (
        f"the daemon, process {daemon.process}, gives no sign of life: its last one is"
        f" {show(daemon.silent)} late"
    )
    return Finding(Severity.CRITICAL, "daemon", what, f"kill {daemon.process}  # and start it anew")


def _second_daemon(facts: QueueFacts, _limits: Limits) -> Finding | None:
    if len(facts.daemons) < 2:  # noqa: PLR2004 - two are one too many
        return None
    processes = ", ".join(str(each.process) for each in facts.daemons)
    what = f"{len(facts.daemons)} daemons serve this queue: processes {processes}"
    return Finding(
        Severity.WARNING, "daemon", what, f"kill {facts.daemons[-1].process}  # to stop the last"
    )


def _paused(facts: QueueFacts, _limits: Limits) -> Finding | None:
    waiting = facts.ready + facts.due
    if not facts.paused or not waiting:
        return None
    verb = "waits" if waiting == 1 else "wait"
    what = f"{facts.paused}, and {counted(waiting, 'entry', 'entries')} {verb}"
    return Finding(Severity.WARNING, "paused", what, f"watcher resume {facts.queue}")


def _failing(facts: QueueFacts, limits: Limits) -> Finding | None:
    if any(_ABOUT_FAILURES & each.troubles.keys() for each in facts.daemons):
        return None
    attempts = sum(each.attempts for each in facts.daemons)
    failed = sum(each.failed for each in facts.daemons)
    if attempts < _FEW:
        return None
    severity = limits.failing.severity(100.0 * failed / attempts)
    if severity is Severity.OK or not failed:
        return None
    much = "all" if failed == attempts else f"{failed}"
    span = max(each.span for each in facts.daemons)
    reason = next((each.reason for each in facts.daemons if each.reason), "")
    what = f"{much} of the last {attempts} attempts failed (in {show(span)})"
    what += f": {reason}" if reason else ""
    where = f"watcher list {facts.queue} --state deferred"
    if facts.stream:  # what is deferred waits on the server
        where = f"watcher nats check --stream {facts.stream}"
    return Finding(severity, "failing", what, where)


def _hangs(facts: QueueFacts, _limits: Limits) -> Finding | None:
    for daemon in facts.daemons:
        timed = daemon.timeout is not None
        limit = HANGS if daemon.timeout is None else daemon.timeout + _AFTER_TIMEOUT
        late = [each for each in daemon.in_hand if each.seconds > limit]
        if not late:
            continue
        longest = max(late, key=lambda each: each.seconds)
        stands = len(late) >= daemon.concurrency
        by = "" if longest.process is None else f" by process {longest.process}"
        why = (
            f"longer than its timeout of {show(daemon.timeout or 0)}"
            if timed
            else ("no timeout is set")
        )
        what = f"{longest.entry} is in hand for {show(longest.seconds)}{by} ({why})"
        what += "; every worker is busy so, and the queue stands still" if stands else ""
        return Finding(
            Severity.CRITICAL if stands else Severity.WARNING,
            "hanging",
            what,
            f"watcher abort {facts.queue} {longest.entry}",
        )
    return None


def _taken(facts: QueueFacts, _limits: Limits) -> Finding | None:
    for daemon in facts.daemons:
        if daemon.taken_ago is not None and daemon.taken_ago <= _LATELY:
            noun = counted(daemon.taken, "entry was", "entries were")
            what = (
                f"{noun} taken by another program, which watcher did not handle; the last:"
                f" {daemon.last_taken}, {show(daemon.taken_ago)} ago"
            )
            return Finding(Severity.CRITICAL, "taken", what, f"watcher audit {facts.queue}")
    return None


def _oldest(facts: QueueFacts, limits: Limits) -> Finding | None:
    if facts.oldest is None or facts.paused or not facts.daemons:
        return None
    severity = limits.age.severity(facts.oldest)
    if severity is Severity.OK:
        return None
    what = f"the oldest ready entry waits for {show(facts.oldest)}"
    return Finding(severity, "oldest", what, f"watcher list {facts.queue} --state ready")


def _dead(facts: QueueFacts, limits: Limits) -> Finding | None:
    severity = limits.dead.severity(facts.dead)
    if severity is Severity.OK or not facts.dead:
        return None
    verb = "is" if facts.dead == 1 else "are"
    what = f"{counted(facts.dead, 'entry', 'entries')} {verb} dead"
    what += f", {facts.dead_lately} of these in the last hour" if facts.dead_lately else ""
    return Finding(severity, "dead", what, f"watcher list {facts.queue} --state dead")


def _troubles(facts: QueueFacts, daemon: DaemonFacts) -> list[Finding]:
    """Return what the daemon itself says is wrong."""
    longest = max(daemon.in_hand, key=lambda each: each.seconds, default=None)
    commands = {
        "hanging": f"watcher abort {facts.queue} {longest.entry if longest else 'ENTRY'}",
        "handler": f"watcher list {facts.queue} --summary",
        "taken entries": f"watcher audit {facts.queue}",
        "space": f"df -h -i {facts.queue}",
        "blind watch": f"kill {daemon.process}  # and start it anew",
    }
    return [
        Finding(
            Severity.CRITICAL if about in _SEVERE else Severity.WARNING,
            about,
            text,
            commands.get(about, f"watcher check {facts.queue}"),
        )
        for about, text in daemon.troubles.items()
    ]


RULES: tuple[Rule, ...] = (
    _unwritable,
    _space,
    _no_daemon,
    _silent,
    _taken,
    _failing,
    _hangs,
    _paused,
    _second_daemon,
    _oldest,
    _dead,
)
