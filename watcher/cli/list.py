"""`watcher list`: the entries of a queue, by state."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from watcher.cli import operate, options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.inspect.census import Listed

STATES = ("arriving", "ready", "claimed", "deferred", "held", "dead", "orphan")


@click.command("list")
@click.argument("queue_dir")
@options.queue_options
@click.option("--state", type=click.Choice(STATES), help="Only the entries of this state.")
@operate.filter_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(
    queue_dir: str, config: str | None, state: str | None, as_json: bool, **flags: Any
) -> None:
    """List the entries of a queue: state, age, size, number of files, name, and why.

    A line each, in the order of the directory and not that of commit, so that a million can be
    listed without holding them all; deferred ones as they fall due. Nothing is touched; who has
    what claimed is from /proc/locks.
    """
    from watcher.claim.lease import ignore_sigio
    from watcher.inspect.census import EVERYTHING, census
    from watcher.lifecycle import State
    from watcher.operate.selection import matches

    wanted = operate.filter_from(flags)
    ignore_sigio()
    settings = options.settings_for(queue_dir, config, flags)
    spool = options.open_spool(settings)
    line = _json if as_json else _text
    try:
        states = EVERYTHING if state is None else (State(state),)
        for found in census(spool, states, settings.max_size):
            if matches(spool, found, wanted, settings.max_size):
                sys.stdout.write(line(found) + "\n")
    finally:
        sys.stdout.flush()  # what was found is told, whatever keeps us from the rest


def _json(found: Listed) -> str:
    import json

    from watcher.spool.layout import display

    record = {
        "state": found.state.value,
        "entry": display(found.name),
        "files": [display(name) for name in found.files],
        "size": found.size,
        "age": round(found.age, 3),
        "why": found.why,
        "note": dict(found.note),
    }
    if found.schedule is not None:
        import datetime as dt

        due = dt.datetime.fromtimestamp(found.schedule.due_ms / 1000, dt.UTC)
        record["due"] = due.isoformat(timespec="milliseconds")
        record["attempts"], record["crashes"] = found.schedule.attempts, found.schedule.crashes
    return json.dumps(record)


def _text(found: Listed) -> str:
    from watcher.durations import show
    from watcher.errors import one_line
    from watcher.spool.layout import display

    files = "1 file " if len(found.files) == 1 else f"{len(found.files)} files"
    why = one_line("; ".join(_known(found)))
    line = (
        f"{found.state.value:<9}{show(found.age):>8}{found.size:>11}  {files}  "
        f"{display(found.name)}"
    )
    return f"{line}  {why}" if why else line


def _known(found: Listed) -> Iterator[str]:
    """Yield what is known of an entry: its schedule, why it is there, and who put it there."""
    from watcher.inspect.ours import told

    if found.schedule is not None:
        yield told(found.schedule, found.state)
    if found.why:
        yield " ".join(found.why.split())
    attempts = found.note.get("attempts")
    if found.schedule is None and isinstance(attempts, int) and attempts > 1:
        yield f"{attempts} attempts"
    by = found.note.get("by")
    if isinstance(by, dict) and found.state.value == "held" and found.schedule is not None:
        yield f"held by {by.get('user')}"
