"""`status --json`: one object for a queue; `status --check`: the line for a monitoring system.

The line has the form of the Nagios plugin API: a word, a text, and performance data as
`'LABEL'=VALUE[UNIT];WARNING;CRITICAL;MINIMUM`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from watcher.errors import counted
from watcher.inspect.queue_status import QueueStatus
from watcher.inspect.summary import AGES
from watcher.rules.condition import Limit, Limits, Severity
from watcher.rules.lifecycle import State


def record(status: QueueStatus) -> dict[str, object]:
    """Return everything about one queue as JSON knows it; times in seconds, moments since 1970."""
    return {
        "queue": status.name,
        "path": status.path,
        "at": round(status.at, 3),
        "condition": status.severity.name.lower(),
        "findings": [
            {
                "severity": each.severity.name.lower(),
                "about": each.about,
                "what": each.what,
                "next": each.next_command,
            }
            for each in status.findings
        ],
        "daemons": [msgspec.to_builtins(said) for said in status.daemons],
        "silent_processes": list(status.silent),
        "last_daemon": msgspec.to_builtins(status.last),
        "paused": status.paused or None,
        "states": {
            state.value: {
                "count": count.count,
                "counted_all": count.whole,
                "oldest": _rounded(count.oldest),
                "looked_at_all_ages": count.all_ages,
                "younger": {f"{span:.0f}": number for span, number in count.younger.items()},
                **(
                    {"due": count.due, "next_due": _rounded(count.next_due)}
                    if state is State.DEFERRED
                    else {}
                ),
            }
            for state, count in status.states.items()
        },
        "in_hand": [each._asdict() for each in status.in_hand],
        "backlog": {
            "leaving": None if status.rates is None else _rounded(status.rates.leaving),
            "arriving": None if status.rates is None else _rounded(status.rates.arriving),
            "done_in": _rounded(status.done_in),
        },
        "failures": {
            "read": status.failures.read,
            "read_all": status.failures.whole,
            "ages": list(AGES),
            "kinds": [
                {
                    "state": state.value,
                    "reason": row.reason,
                    "total": row.total,
                    "ages": list(row.ages),
                }
                for state, row in status.failures.kinds
            ],
        },
        "disk": {"free_bytes": status.free_bytes, "free_share": round(status.free_share, 4)},
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


# -- for monitoring systems -----------------------------------------------------------------------


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
