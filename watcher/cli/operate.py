"""What hold, release, requeue and delete share: selecting, asking, moving, telling.

Guarantees: nothing is moved before all that is selected is known; a line on standard output for
each entry, one on standard error for each name that is no entry's.
Exit status: 0; 66 if a name is no entry's; 75 if an entry was left for now (the others are done).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from watcher.cli import options
from watcher.errors import Usage, counted, one_line

if TYPE_CHECKING:
    from watcher.lifecycle import Move, State
    from watcher.operate.moves import Moved
    from watcher.operate.selection import Filter
    from watcher.spool.spool import Spool

F = TypeVar("F", bound=Callable[..., Any])
ALL = "ALL"  # in capitals only: `all` is an entry's name

_FILTERS = (
    click.option("--older-than", metavar="AGE", help="In its state for this long, e.g. 2h."),
    click.option("--newer-than", metavar="AGE", help="In its state for no longer than this."),
    click.option("--error", metavar="TEXT", help="TEXT is a part of its last error."),
    click.option(
        "--where", multiple=True, metavar="KEY=VALUE", help="Its metadata say so; may be repeated."
    ),
)
FILTERS = ("older_than", "newer_than", "error", "where")


def filter_options(command: F) -> F:
    """Add the options that select entries by what they are like."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def command_options(command: F) -> F:
    """Add the arguments and options of a command that moves entries."""
    command = click.option("--json", "as_json", is_flag=True, help="One object a line.")(command)
    command = click.option("--dry-run", is_flag=True, help="Say what it would do; do nothing.")(
        command
    )
    command = click.option(
        "--limit", type=click.IntRange(min=0), metavar="N", help="Only the N oldest of these."
    )(command)
    command = filter_options(command)
    command = click.option("--state", metavar="STATE", help="Only entries of this state.")(command)
    command = options.queue_options(command)
    command = click.argument("entries", nargs=-1, metavar="ENTRY...|ALL")(command)
    return click.argument("queue_dir")(command)


def filter_from(flags: Mapping[str, Any]) -> Filter:
    """Return the filter that the options say; raise Usage."""
    from watcher.operate.selection import Filter

    where = []
    for text in flags.get("where") or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise Usage(f"--where: expected KEY=VALUE; got {text!r}")
        where.append((key, value))
    older, newer = (_seconds(name, flags.get(name)) for name in ("older_than", "newer_than"))
    return Filter(older, newer, flags.get("error") or "", tuple(where))


def _seconds(option: str, text: str | None) -> float | None:
    from watcher import durations

    try:
        return None if text is None else durations.parse(text)
    except ValueError as error:
        raise Usage(f"--{option.replace('_', '-')}: {error}") from None


def operate(move: Move, queue_dir: str, entries: Sequence[str], flags: Mapping[str, Any]) -> int:
    """Do the work of one command; return its exit status."""
    from watcher.claim.lease import ignore_sigio
    from watcher.lifecycle import Move
    from watcher.operate.moves import Moves
    from watcher.operate.selection import select
    from watcher.operate.who import who, work_as_owner

    names, states, wanted = _names(entries), _states(move, flags["state"]), filter_from(flags)
    settings = options.settings_for(queue_dir, flags["config"], flags)
    ignore_sigio()
    by, spool = who(), options.open_spool(settings)
    work_as_owner(spool)
    selected, missing = select(spool, names, move, states, wanted, settings.max_size)
    selected = selected[: flags["limit"]]
    moves = Moves(spool, options.terms_for(settings), by)
    if flags["dry_run"]:
        left = _show(moves.preview(move, selected), move, flags)
    elif move is Move.DELETE and selected and not _sure(len(selected), spool, flags):
        click.echo("nothing was deleted", err=True)
        return os.EX_OK
    else:
        left = _show(moves.make(move, selected), move, flags)
    for error in missing:
        click.echo(f"watcher: {error}", err=True)
    if left:
        return os.EX_TEMPFAIL
    return max((error.exit_code for error in missing), default=os.EX_OK)


def _names(entries: Sequence[str]) -> list[bytes] | None:
    """Return the entries named, None for all."""
    if not entries:
        raise Usage("expected the names of entries, or ALL")
    if ALL not in entries:
        return [os.fsencode(entry) for entry in dict.fromkeys(entries)]
    if len(entries) > 1:
        raise Usage("ALL stands alone; an entry of this name is asked for as STATE/ALL")
    return None


def _states(move: Move, text: str | None) -> tuple[State, ...]:
    from watcher.operate.selection import states_for

    states = states_for(move)
    if text is None:
        return states
    chosen = tuple(state for state in states if state.value == text)
    if not chosen:
        first = " (hold it first)" if (move.value, text) == ("delete", "ready") else ""
        known = ", ".join(state.value for state in states)
        raise Usage(f"--state: {move.value} is for {known}; got {text!r}{first}")
    return chosen


def _sure(count: int, spool: Spool, flags: Mapping[str, Any]) -> bool:
    """Ask, where there is somebody to ask."""
    from watcher.spool.layout import display

    if flags["yes"]:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise Usage("delete asks first, and there is no terminal here: say --yes")
    entries = counted(count, "entry", "entries")
    return click.confirm(f"Delete {entries} of {display(spool.path)} for good?", err=True)


def _show(done: Iterable[Moved], move: Move, flags: Mapping[str, Any]) -> bool:
    """Write a line for each entry; say whether any was left."""
    line = _json if flags["as_json"] else _text
    left = False
    try:
        for moved in done:
            left = left or moved.state is None
            sys.stdout.write(line(moved, move, flags["dry_run"]) + "\n")
    finally:
        sys.stdout.flush()  # what was done is told, whatever keeps us from the rest
    return left


def _text(moved: Moved, move: Move, dry_run: bool) -> str:
    from watcher.spool.layout import display

    if moved.state is None:
        words = "would be left" if dry_run else "left"
    else:
        words = f"would be {_PAST[move.value]}" if dry_run else _PAST[move.value]
    why = f": {one_line(moved.why)}" if moved.why else ""
    return f"{display(moved.entry.name)}  {moved.entry.state.value}, {words}{why}"


def _json(moved: Moved, move: Move, dry_run: bool) -> str:
    import json

    from watcher.spool.layout import display

    record = {
        "entry": display(moved.entry.name),
        "file": display(moved.entry.files[0]),
        "move": move.value,
        "from": moved.entry.state.value,
        "to": None if moved.state is None else moved.state.value,
        "why": moved.why,
    }
    return json.dumps(record | {"dry_run": True} if dry_run else record)


_PAST = {"hold": "held", "release": "released", "requeue": "requeued", "delete": "deleted"}
