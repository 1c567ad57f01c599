"""What `status --json` and the page say of one queue, as JSON knows it. PURE."""

from __future__ import annotations

import msgspec

from watcher.inspect.queue_status import QueueStatus
from watcher.inspect.summary import AGES
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
                "first": [{"entry": each.entry, "age": round(each.age, 3)} for each in count.first],
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
