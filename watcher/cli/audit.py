"""`watcher audit`: prove that every entry ever seen is accounted for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from watcher.cli import chosen, parameters

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue
    from watcher.inspect.balance import Balance

SHOWN = 1_000  # names of each kind


@click.command("audit")
@click.argument("queue_dir", required=False)
@parameters.queue_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(queue_dir: str | None, config: str | None, as_json: bool, **flags: object) -> int:
    """Prove that every entry ever seen is done, deleted by an operator, or still here.

    Names each missing entry, also one that another program took away. Safe beside a running daemon.
    With --config FILE and no QUEUE_DIR: of every queue. QUEUE_DIR may also be a queue's name. Exit
    status: 0 if every entry is accounted for, 65 if not; of several queues the highest.
    """
    queues = chosen.choose(queue_dir, config, flags)
    return queues.each(
        lambda settings: _audit(settings, queues.name(settings), as_json), heading=not as_json
    )


def _audit(settings: Queue, queue: str, as_json: bool) -> int:
    """Audit one queue; return its exit status."""
    from watcher.errors import NoSuch
    from watcher.inspect.balance import balance
    from watcher.rules.names import display

    spool = parameters.open_spool(settings)
    try:
        found = balance(spool)
    except FileNotFoundError:
        raise NoSuch(
            f"{display(spool.path)}: no .watcher/ in it: watcher has not run here, or its state"
            " lies elsewhere (--state-dir)"
        ) from None
    if not found.has_journal:
        raise NoSuch(
            f"{display(spool.path)}: no journal in .watcher/: nothing was recorded here, or not"
            " kept (--no-journal), so nothing can be proved"
        )
    if as_json:
        _json(found, {"queue": queue} if queue else {})
    else:
        _text(found)
    return os.EX_OK if found.balanced else os.EX_DATAERR


def _text(found: Balance) -> None:
    from watcher.rules.names import display
    from watcher.spool.journal_line import moment

    audit = found.audit
    begins = "" if audit.begins is None else f" since {moment(audit.begins)}"
    click.echo(f"{found.seen:10d} seen{begins}")
    for how, count in sorted(audit.ended.items()):
        click.echo(f"{count:10d} {how}")
    for place, count in sorted(found.here.items()):
        click.echo(f"{count:10d} {place}")
    click.echo(f"{len(found.missing):10d} missing")
    for missing in found.missing[:SHOWN]:
        click.echo(f"  missing: {display(missing.name)}: last seen {missing.last}")
    if found.waiting:
        click.echo(f"{found.waiting} more wait in the queue and have not been seen yet")
    for place, name in found.unknown[:SHOWN]:
        click.echo(f"  not in the journal: {place}/{display(name)}: put there by hand, or older")
    for remark in _remarks(found):
        click.echo(remark)
    click.echo(
        "every entry is accounted for" if found.balanced else "NOT every entry is accounted for"
    )


def _remarks(found: Balance) -> Iterator[str]:
    """Yield what limits the meaning of the numbers."""
    from watcher.errors import counted
    from watcher.spool.journal_line import moment

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


def _json(found: Balance, queue: dict[str, object]) -> None:
    import json

    from watcher.rules.names import display

    for missing in found.missing:
        line = missing.last
        record: dict[str, object] = {
            "missing": display(missing.name),
            "time": line.time,
            "state": line.state.decode("ascii", "replace"),
            "pid": line.pid,
            "move": line.move.decode("ascii", "replace"),
            "detail": line.detail.decode("ascii", "replace"),
        }
        click.echo(json.dumps(queue | record))
    for place, name in found.unknown:
        click.echo(json.dumps(queue | {"unknown": display(name), "place": place}))
    audit = found.audit
    record = {
        "balanced": found.balanced,
        "seen": found.seen,
        **{how.partition(" ")[0]: count for how, count in audit.ended.items()},
        "here": dict(found.here),
        "missing": len(found.missing),
        "waiting": found.waiting,
        "begins": audit.begins,
        "anew": [{"time": when, "why": why} for when, why in audit.restarts],
        "by_name": found.by_name,
        "unnamed": audit.unnamed,
        "lost_lines": audit.lost,
        "unreadable_lines": audit.unreadable,
    }
    click.echo(json.dumps(queue | record))
