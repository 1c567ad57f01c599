"""`watcher list`: the entries of a queue, by state."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from watcher.cli import chosen, moving, parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.config.queue_settings import Queue
    from watcher.inspect.list_entries import EntryInfo
    from watcher.operate.select_entries import Filter
    from watcher.rules.lifecycle import State

STATES = ("arriving", "ready", "claimed", "deferred", "held", "dead", "orphan")


@click.command("list")
@click.argument("queue_dir", required=False)
@parameters.queue_options
@click.option("--state", type=click.Choice(STATES), help="Only the entries of this state.")
@moving.filter_options
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(
    queue_dir: str | None, config: str | None, state: str | None, as_json: bool, **flags: Any
) -> int:
    """List the entries of a queue: state, age, size, number of files, name, and why.

    With --config FILE and no QUEUE_DIR: those of every queue. QUEUE_DIR may also be a queue's name.

    One line for each, in the order of the directory and not of commit, so that a million entries
    need little memory; deferred ones in the order of their due times. Nothing is changed; which
    process has claimed an entry is read from /proc/locks.
    """
    from watcher.rules.lifecycle import State
    from watcher.spool.lease import ignore_sigio

    wanted = moving.filter_from(flags)
    ignore_sigio()
    queues = chosen.choose(queue_dir, config, flags)
    states = None if state is None else (State(state),)
    return queues.each(
        lambda settings: _list(settings, wanted, states, (queues.name(settings), as_json)),
        heading=not as_json,
    )


def _list(
    settings: Queue, wanted: Filter, states: tuple[State, ...] | None, output: tuple[str, bool]
) -> int:
    """Print the entries of one queue. `output`: the queue's name for each line, and --json."""
    from watcher.inspect.list_entries import EVERYTHING, list_entries
    from watcher.operate.select_entries import matches

    queue, as_json = output
    spool = parameters.open_spool(settings)
    try:
        none = True
        for found in list_entries(spool, states or EVERYTHING, settings.max_size):
            if matches(spool, found, wanted, settings.max_size):
                none = False
                sys.stdout.write((_json(found, queue) if as_json else _text(found)) + "\n")
        if none and not queue and not as_json:
            moving.say_none(spool)
    finally:
        sys.stdout.flush()  # print what was found, also if an error ends the rest
    return os.EX_OK


def _json(found: EntryInfo, queue: str) -> str:
    import json

    from watcher.rules.names import display

    record: dict[str, object] = {"queue": queue} if queue else {}
    record |= {
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


def _text(found: EntryInfo) -> str:
    from watcher.durations import show
    from watcher.errors import one_line
    from watcher.rules.names import display

    files = "1 file " if len(found.files) == 1 else f"{len(found.files)} files"
    why = one_line("; ".join(_known(found)))
    line = (
        f"{found.state.value:<9}{show(found.age):>8}{found.size:>11}  {files}  "
        f"{display(found.name)}"
    )
    return f"{line}  {why}" if why else line


def _known(found: EntryInfo) -> Iterator[str]:
    """Yield an entry's schedule, the reason for its state, and the operator that held it."""
    from watcher.inspect.state_paths import schedule_text

    if found.schedule is not None:
        yield schedule_text(found.schedule, found.state)
    if found.why:
        yield " ".join(found.why.split())
    attempts = found.note.get("attempts")
    if found.schedule is None and isinstance(attempts, int) and attempts > 1:
        yield f"{attempts} attempts"
    by = found.note.get("by")
    if isinstance(by, dict) and found.state.value == "held" and found.schedule is not None:
        yield f"held by {by.get('user')}"
