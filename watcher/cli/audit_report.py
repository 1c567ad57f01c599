"""What `watcher audit` prints: for people, and as JSON.

Guarantees: every sum says since when. Names are shown escaped.
Fails: never.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import click

from watcher.errors import counted
from watcher.inspect.balance import Balance, Missing
from watcher.inspect.files_there import File
from watcher.inspect.periods import WORDS, Row
from watcher.rules.dates import Period
from watcher.rules.names import display
from watcher.spool.journal_line import moment

SHOWN = 1_000  # names of each kind
_WIDTH = 10


def text(found: Balance, by: Period | None) -> None:
    """Print the result for people."""
    if found.asked_window or by is not None:
        _table(found, by)
    else:
        _sums(found)
    for missing in found.asked[:SHOWN]:
        click.echo(f"  missing: {display(missing.name)}: last seen {missing.last}")
    for lost in found.accepted[:SHOWN]:
        click.echo(f"  accepted as lost: {display(lost.name)}: {_accepted(lost)}")
    if found.restored:
        entries = counted(len(found.restored), "entry is", "entries are")
        click.echo(
            f"warning: {entries} here again after their end, from a backup; to keep one from being"
            " handled once more: watcher hold, watcher delete"
        )
    if other := len(found.missing) - len(found.asked):
        entries = counted(other, "entry is", "entries are")
        click.echo(f"{entries} missing since another time than the one that was asked for")
    if found.waiting:
        click.echo(f"{found.waiting} more wait in the queue and have not been seen yet")
    for file, line in found.restored[:SHOWN]:
        click.echo(f"  handled before: {place_of(file)}: {line}")
    for place, name in _unknown(found)[:SHOWN]:
        click.echo(f"  not in the journal: {place}/{display(name)}: put there by hand, or older")
    for remark in _remarks(found):
        click.echo(remark)
    click.echo(_result(found))


def place_of(file: File) -> str:
    """Return the place of a file in the queue, as people see it."""
    return display(os.path.join(file.place, file.name))


def _unknown(found: Balance) -> list[tuple[str, bytes]]:
    """Return the files that have no line, without those of which it is known why."""
    known = {file.name for file, _ in found.restored if file.place}
    return [(place, name) for place, name in found.unknown if name not in known]


def _sums(found: Balance) -> None:
    audit = found.audit
    click.echo(f"{found.seen:10d} seen{_since(audit.begins)}")
    for how, count in sorted(audit.ended.items()):
        click.echo(f"{count:10d} {how}")
    for place, count in sorted(found.here.items()):
        click.echo(f"{count:10d} {place}")
    if found.accepted:
        click.echo(f"{len(found.accepted):10d} accepted as lost")
    click.echo(f"{len(found.missing):10d} missing")


def _table(found: Balance, by: Period | None) -> None:
    """Print a row for each period, and their sum."""
    periods = found.audit.periods
    words = [word for word in WORDS if word != "accepted" or found.accepted]
    click.echo(f"{'':17}" + "".join(f"{word:>{_WIDTH}}" for word in (*words, "here")))
    click.echo(f"{'before':17}" + " " * _WIDTH * len(words) + f"{periods.here_before():{_WIDTH}d}")
    for row in (*(() if by is None else periods.rows(by)), periods.total()):
        counts = "".join(f"{row.counts[word]:{_WIDTH}d}" for word in words)
        click.echo(f"{row.name:17}{counts}{row.here:{_WIDTH}d}")


def _since(seconds: float | None) -> str:
    return "" if seconds is None else f" since {moment(seconds)}"


def _accepted(lost: Missing) -> str:
    line = lost.accepted
    if line is None:
        return ""
    detail = line.detail.decode("ascii", "replace").partition(" by ")[2]
    return f"last seen {moment(lost.last.time)}; accepted {moment(line.time)} by {detail}"


def _result(found: Balance) -> str:
    since, until = found.audit.periods.window
    if since is None:
        since = found.audit.begins
    span = _since(since) + ("" if until is None else f" until {moment(until)}")
    if found.asked or not (found.proved or found.unknown_before):
        return f"NOT every entry is accounted for{span}"
    if (begins := found.unknown_before) is not None:
        return (
            f"every entry is accounted for since {moment(begins)} only: the journal begins then, so"
            f" what happened since {moment(since or 0.0)} and before that is not known"
        )
    return f"every entry is accounted for{span}"


def _remarks(found: Balance) -> Iterator[str]:
    """Yield what limits the meaning of the numbers."""
    audit = found.audit
    for when, why in audit.restarts:
        yield f"the journal begins anew at {moment(when)}: {why}"
    if found.by_name:
        entries = counted(found.by_name, "entry was", "entries were")
        yield f"the queue was copied or moved: {entries} known by place and name only"
    if audit.unnamed:
        times = counted(audit.unnamed, "time", "times")
        yield f"{times} more, an event named a file that was gone: too many to name each"
    if audit.lost:
        yield f"{audit.lost} lines could not be written, so the journal may not have every move"
    if audit.unreadable:
        yield f"{audit.unreadable} lines cannot be read, and were skipped"


def as_json(found: Balance, by: Period | None, queue: dict[str, object]) -> None:
    """Print one object a line; the last one has the sums. `queue` is in each."""
    for missing in found.asked:
        click.echo(json.dumps(queue | {"missing": display(missing.name)} | _last(missing)))
    for lost in found.accepted:
        record: dict[str, object] = {"accepted": display(lost.name)} | _last(lost)
        if lost.accepted is not None:
            record["accepted_at"] = lost.accepted.time
            record["why"] = _accepted(lost).partition(" by ")[2]
        click.echo(json.dumps(queue | record))
    for file, line in found.restored:
        back = {"handled_before": place_of(file), "time": line.time, "pid": line.pid}
        click.echo(json.dumps(queue | back | {"move": line.move.decode("ascii", "replace")}))
    for place, name in _unknown(found):
        click.echo(json.dumps(queue | {"unknown": display(name), "place": place}))
    periods = found.audit.periods
    for row in () if by is None else periods.rows(by):
        click.echo(json.dumps(queue | {"period": row.name} | _counts(row)))
    audit = found.audit
    record = {
        "balanced": found.proved,
        "seen": found.seen,
        **{how.partition(" ")[0]: count for how, count in audit.ended.items()},
        "here": dict(found.here),
        "missing": len(found.asked),
        "accepted": len(found.accepted),
        "waiting": found.waiting,
        "handled_before": len(found.restored),
        "begins": audit.begins,
        "from_first_start": audit.from_first_start,
        "anew": [{"time": when, "why": why} for when, why in audit.restarts],
        "by_name": found.by_name,
        "unnamed": audit.unnamed,
        "lost_lines": audit.lost,
        "unreadable_lines": audit.unreadable,
    }
    if found.asked_window:
        since, until = periods.window
        record |= {"since": since, "until": until, "before": periods.here_before()}
        record |= {"window": _counts(periods.total())}
    click.echo(json.dumps(queue | record))


def _counts(row: Row) -> dict[str, object]:
    return {**{word: row.counts[word] for word in WORDS}, "here": row.here}


def _last(missing: Missing) -> dict[str, object]:
    line = missing.last
    return {
        "time": line.time,
        "state": line.state.decode("ascii", "replace"),
        "pid": line.pid,
        "move": line.move.decode("ascii", "replace"),
        "detail": line.detail.decode("ascii", "replace"),
    }
