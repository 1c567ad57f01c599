"""`status --check`: the line for a monitoring system.

The line has the form of the Nagios plugin API: a word, a text, and performance data as
`'LABEL'=VALUE[UNIT];WARNING;CRITICAL;MINIMUM`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watcher.errors import counted
from watcher.inspect.queue_status import QueueStatus
from watcher.rules.condition import Limit, Limits, Severity
from watcher.rules.lifecycle import State


def check_line(
    statuses: Sequence[QueueStatus], unknown: Mapping[str, str], limits: Limits
) -> tuple[Severity, str]:
    """Return the exit code and the line; `unknown`: queues that could not be looked at, and why."""
    severity = max((status.severity for status in statuses), default=Severity.OK)
    if unknown:
        severity = max(severity, Severity.UNKNOWN) if severity < Severity.CRITICAL else severity
    alone = len(statuses) + len(unknown) == 1
    texts = [
        (each.severity, each.what if alone else f"{status.name}: {each.what}")
        for status in statuses
        for each in status.findings
    ]
    texts += [(Severity.UNKNOWN, why) for why in unknown.values()]
    texts.sort(key=lambda each: -each[0])
    shown = "; ".join(text for _, text in texts) or _healthy(statuses)
    data = " ".join(
        word
        for status in statuses
        for word in _performance(status, "" if alone else f"{status.name} ", limits)
    )
    return severity, f"WATCHER {severity.name} - {shown.replace('|', '/')} | {data}".strip(" |")


def _healthy(statuses: Sequence[QueueStatus]) -> str:
    if len(statuses) != 1:
        return f"{counted(len(statuses), 'queue', 'queues')} healthy"
    ready = statuses[0].states[State.READY].count
    return f"healthy, {counted(ready, 'entry', 'entries')} ready"


def _performance(status: QueueStatus, queue: str, limits: Limits) -> list[str]:
    states = status.states
    oldest = states[State.READY].oldest or 0.0
    words = [
        _datum(queue + "ready", states[State.READY].count),
        _datum(queue + "oldest", round(oldest), "s", limits.age),
        _datum(queue + "claimed", states[State.CLAIMED].count),
        _datum(queue + "deferred", states[State.DEFERRED].count),
        _datum(queue + "held", states[State.HELD].count),
        _datum(queue + "dead", states[State.DEAD].count, "", limits.dead),
        _datum(queue + "daemons", sum(said.command == "run" for said in status.daemons)),
    ]
    for name in ("handled", "failed", "rejected"):
        if any(said.windows for said in status.daemons):
            windows = [said.windows["5m"] for said in status.daemons if "5m" in said.windows]
            number = sum(getattr(window, name) for window in windows)
            words.append(_datum(f"{queue}{name}_5m", number))
    return words


def _datum(label: str, value: int, unit: str = "", limit: Limit | None = None) -> str:
    """Return one performance datum; a label with a space is quoted, its `=` and `'` replaced."""
    label = label.replace("'", "_").replace("=", "_")
    label = f"'{label}'" if not label.isidentifier() else label
    ends = ";" if limit is None else f"{limit.warning:g};{limit.critical:g}"
    return f"{label}={value}{unit};{ends};0"
