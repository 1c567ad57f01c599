"""`watcher list`: the entries of a queue, by state."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from watcher.cli import options

if TYPE_CHECKING:
    from watcher.inspect.census import Listed

STATES = ("arriving", "ready", "claimed", "deferred", "held", "dead", "orphan")


@click.command("list")
@click.argument("queue_dir")
@options.queue_options
@click.option("--state", type=click.Choice(STATES), help="Only the entries of this state.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(
    queue_dir: str, config: str | None, state: str | None, as_json: bool, **flags: object
) -> None:
    """List the entries of a queue: state, age, size, number of files, name, and why.

    A line each, in the order of the directory and not that of commit, so that a million can be
    listed without holding them all. Nothing is touched; who has what claimed is from /proc/locks.
    """
    from watcher.claim.lease import ignore_sigio
    from watcher.inspect.census import census
    from watcher.lifecycle import State

    ignore_sigio()
    settings = options.settings_for(queue_dir, config, flags)
    spool = options.open_spool(settings)
    line = _json if as_json else _text
    try:
        for found in census(spool, None if state is None else State(state), settings.max_size):
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
    return json.dumps(record)


def _text(found: Listed) -> str:
    from watcher.durations import show
    from watcher.errors import one_line
    from watcher.spool.layout import display

    files = "1 file " if len(found.files) == 1 else f"{len(found.files)} files"
    known = [" ".join(found.why.split())] if found.why else []
    attempts = found.note.get("attempts")
    if isinstance(attempts, int) and attempts > 1:
        known.append(f"{attempts} attempts")
    why = one_line("; ".join(known))
    line = (
        f"{found.state.value:<9}{show(found.age):>8}{found.size:>11}  {files}  "
        f"{display(found.name)}"
    )
    return f"{line}  {why}" if why else line
