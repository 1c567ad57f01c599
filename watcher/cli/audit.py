"""`watcher audit`: balance the books."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.cli import options

if TYPE_CHECKING:
    from watcher.inspect.audit import Balance

SHOWN = 1_000  # names of a kind


@click.command("audit")
@click.argument("queue_dir")
@options.queue_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(queue_dir: str, config: str | None, as_json: bool, **flags: object) -> int:
    """Prove that every entry ever seen is done, deleted by an operator, or still here.

    Names each that is not, also one that another program took away. Safe beside a running daemon.
    Exit status: 0 if the books balance, 65 if an entry is missing.
    """
    from watcher.errors import NoSuch
    from watcher.inspect.audit import balance
    from watcher.spool.layout import display

    settings = options.settings_for(queue_dir, config, flags)
    spool = options.open_spool(settings)
    try:
        found = balance(spool)
    except FileNotFoundError:
        raise NoSuch(f"{display(spool.path)}: no .watcher/ in it: nobody has worked here") from None
    (_json if as_json else _text)(found)
    return os.EX_OK if found.balanced else os.EX_DATAERR


def _text(found: Balance) -> None:
    from watcher.spool.layout import display

    books = found.books
    begins = "" if books.begins is None else f" since {_when(books.begins)}"
    click.echo(f"{found.seen:10d} seen{begins}")
    for how, count in sorted(books.ended.items()):
        click.echo(f"{count:10d} {how}")
    for place, count in sorted(found.here.items()):
        click.echo(f"{count:10d} {place}")
    click.echo(f"{len(found.missing):10d} missing")
    for missing in found.missing[:SHOWN]:
        click.echo(f"  missing: {display(missing.name)}: last seen {missing.last}")
    if found.waiting:
        click.echo(f"{found.waiting} more wait in the queue and have not been seen yet")
    for place, name in found.unknown[:SHOWN]:
        click.echo(f"  not in the books: {place}/{display(name)}: put there by hand, or older")
    if books.lost:
        click.echo(f"{books.lost} lines could not be written, so the books may be short of them")
    if books.unreadable:
        click.echo(f"{books.unreadable} lines make no sense, and were passed over")
    click.echo("the books balance" if found.balanced else "the books do NOT balance")


def _when(moment: float) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(moment, dt.UTC).isoformat(" ", "seconds")


def _json(found: Balance) -> None:
    import json

    from watcher.spool.layout import display

    for missing in found.missing:
        line = missing.last
        record = {
            "missing": display(missing.name),
            "time": line.time,
            "pid": line.pid,
            "move": line.move.decode("ascii", "replace"),
            "detail": line.detail.decode("ascii", "replace"),
        }
        click.echo(json.dumps(record))
    for place, name in found.unknown:
        click.echo(json.dumps({"unknown": display(name), "place": place}))
    books = found.books
    record = {
        "balanced": found.balanced,
        "seen": found.seen,
        **{how.partition(" ")[0]: count for how, count in books.ended.items()},
        "here": dict(found.here),
        "missing": len(found.missing),
        "waiting": found.waiting,
        "begins": books.begins,
        "lost_lines": books.lost,
        "unreadable_lines": books.unreadable,
    }
    click.echo(json.dumps(record))
