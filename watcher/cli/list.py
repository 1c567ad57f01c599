"""`watcher list`: the entries of a queue, by state."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from watcher.cli import chosen, moving, parameters
from watcher.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from watcher.config.queue_settings import Queue
    from watcher.inspect.list_entries import EntryInfo
    from watcher.operate.select_entries import Filter
    from watcher.rules.lifecycle import State
    from watcher.spool.spool import Spool

STATES = ("arriving", "ready", "claimed", "deferred", "held", "dead", "orphan")


ARCHIVED = "archived"
MOST_SORTED = 10_000  # lines on a terminal that are sorted by state; more come as they are found


@click.command("list")
@click.argument("queue_dir", required=False)
@parameters.queue_options
@click.option(
    "--archive", metavar="DIR", help="With --state archived: where handled entries were moved."
)
@click.option(
    "--state", type=click.Choice((*STATES, ARCHIVED)), help="Only the entries of this state."
)
@moving.filter_options
@click.option("--summary", is_flag=True, help="Count them by state, kind of reason, and age.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(
    queue_dir: str | None, config: str | None, state: str | None, as_json: bool, **flags: Any
) -> int:
    """List the entries of a queue: state, age, size, number of files, name, and why.

    With --config FILE and no QUEUE_DIR: those of every queue. QUEUE_DIR may also be a queue's name.

    One line for each, in the order of the directory and not of commit, so that a million entries
    need little memory; deferred ones in the order of their due times. On a terminal: a table that
    fits, sorted by state, with long names cut in the middle. Nothing is changed; which process has
    claimed an entry is read from /proc/locks. `--state archived` lists what was handled and kept.
    `--summary` counts instead; reasons that differ in numbers, names and addresses are one kind.
    """
    from watcher.spool.lease import ignore_sigio

    wanted = moving.filter_from(flags)
    ignore_sigio()
    queues = chosen.choose(queue_dir, config, flags, with_work=True)
    shown = {"as_json": as_json, "summary": flags["summary"]}
    return queues.each(
        lambda settings: _list(settings, wanted, state, _Output(queues.name(settings), **shown)),
        heading=not as_json,
    )


class _Output(NamedTuple):
    """How the entries of a queue are printed."""

    queue: str  # its name for each line, "" if there is one queue only
    as_json: bool
    summary: bool


def _list(settings: Queue, wanted: Filter, state: str | None, output: _Output) -> int:
    """Print the entries of one queue."""
    from watcher.operate.select_entries import matches

    queue, as_json = output.queue, output.as_json
    spool = parameters.open_spool(settings)
    found = (
        entry
        for entry in _entries(spool, settings, state)
        if matches(spool, entry, wanted, settings.max_size)
    )
    try:
        if output.summary:
            some = _print(_summary(found, output))
        elif as_json:
            some = _print(_json(entry, queue) for entry in found)
        elif sys.stdout.isatty():
            some = _print(_table(found))
        else:
            from watcher.cli.entry_lines import whole_line

            some = _print(map(whole_line, found))
        if not some and not queue and not as_json:
            moving.say_none(spool)
        say_paused(spool)
    finally:
        sys.stdout.flush()  # print what was found, also if an error ends the rest
    return os.EX_OK


def _entries(spool: Spool, settings: Queue, state: str | None) -> Iterator[EntryInfo]:
    from watcher.inspect.list_entries import EVERYTHING, list_entries
    from watcher.rules.lifecycle import State

    if state != ARCHIVED:
        states = EVERYTHING if state is None else (State(state),)
        return list_entries(spool, states, settings.max_size)
    from watcher.inspect.list_archive import list_archive

    if settings.archived is None:
        raise Usage(f"{settings.path}: no archive is configured: say --archive DIR or --config")
    return list_archive(spool, settings.archived)


def _print(lines: Iterable[str]) -> bool:
    """Print the lines; return whether there were any."""
    some = False
    for line in lines:
        some = True
        sys.stdout.write(line + "\n")
    return some


def _summary(entries: Iterator[EntryInfo], output: _Output) -> Iterator[str]:
    """Yield the lines of --summary."""
    import json
    import shutil
    import time

    from watcher.cli.summary_lines import summary_lines, summary_record
    from watcher.inspect.summary import Summary

    summary, now = Summary(), time.time()
    for entry in entries:
        summary.add(entry, now)
    if output.as_json:
        yield json.dumps(
            ({"queue": output.queue} if output.queue else {}) | summary_record(summary)
        )
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    yield from summary_lines(summary, width)


def _table(entries: Iterator[EntryInfo]) -> Iterator[str]:
    """Yield the lines for a terminal: a heading, the entries, how many there are."""
    import itertools
    import shutil
    from collections import Counter

    from watcher.cli.entry_lines import Table, sort_key, summed

    table = Table(shutil.get_terminal_size().columns)
    counts: Counter[State] = Counter()
    first = list(itertools.islice(entries, MOST_SORTED + 1))
    if not first:
        return
    if len(first) <= MOST_SORTED:
        first.sort(key=sort_key)
    yield table.heading()
    for entry in itertools.chain(first, entries):
        counts[entry.state] += 1
        yield table.line(entry)
    yield summed(counts)


def say_paused(spool: Spool) -> None:
    """Print on standard error that the queue is paused, if it is."""
    from watcher.spool.paused import read

    with contextlib.suppress(OSError):  # a directory of another user
        if (found := read(spool)) is not None:
            click.echo(f"{found}; no attempt begins: `watcher resume`", err=True)


def _json(found: EntryInfo, queue: str) -> str:
    import json

    from watcher.rules.lifecycle import state_word
    from watcher.rules.names import display

    record: dict[str, object] = {"queue": queue} if queue else {}
    record |= {
        "state": state_word(found.state),
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
