"""`watcher work list|requeue|delete`: the dead letters of a stream.

Guarantees: as `cli.moving`: the whole selection is known before anything is done; one line on the
standard output for each letter, one on standard error for each name that no letter has.
Exit status: 0; 66 if a name has no letter; 75 if a letter was left; 130 after ctrl-C.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from watcher.cli import moving
from watcher.cli.interruptible import interruptible
from watcher.cli.requeue import rate_option
from watcher.cli.server_options import server_options, streams_for
from watcher.errors import Usage, counted, one_line

if TYPE_CHECKING:
    from watcher.jetstream.connection import Connection
    from watcher.jetstream.dead_letters import Letter
    from watcher.operate.select_entries import Filter

_INTERRUPTED = 128 + signal.SIGINT
Act = Callable[["Connection", str, Sequence["Letter"]], list[str]]


@click.command("list")
@server_options
@moving.filter_options
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the N oldest.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def list_letters(config: str | None, **flags: Any) -> int:
    """List the dead letters of a stream, the oldest first: age, size, name, and why."""
    from watcher.jetstream.calls import calling

    wanted = moving.filter_from(flags)
    for target in streams_for(config, flags):
        with calling(target.server, target.place) as connection:
            shown = 0
            for letter in _matching(connection, target.stream, wanted):
                if flags["limit"] is not None and shown >= flags["limit"]:
                    break
                shown += 1
                line = _record(letter) if flags["as_json"] else _line(letter)
                sys.stdout.write(line + "\n")
            if not shown and not flags["as_json"]:
                click.echo(f"{target.stream}: no dead letters", err=True)
    sys.stdout.flush()
    return os.EX_OK


@click.command("requeue")
@click.argument("entries", nargs=-1, metavar="ENTRY...|ALL")
@server_options
@moving.filter_options
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Only the N oldest of these."
)
@rate_option
@click.option("--dry-run", is_flag=True, help="Print what it would do; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def requeue_letters(config: str | None, entries: tuple[str, ...], **flags: Any) -> int:
    """Have dead letters handled again, with the same key, as if for the first time."""
    from watcher.jetstream.dead_letters import requeue

    return _operate("requeue", requeue, config, entries, flags)


@click.command("delete")
@click.argument("entries", nargs=-1, metavar="ENTRY...|ALL")
@server_options
@moving.filter_options
@click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="Only the N oldest of these."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print what it would do; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def delete_letters(config: str | None, entries: tuple[str, ...], **flags: Any) -> int:
    """Delete dead letters for good. It asks first."""
    from watcher.jetstream.dead_letters import delete

    return _operate("delete", delete, config, entries, flags)


COMMANDS = {"list": list_letters, "requeue": requeue_letters, "delete": delete_letters}


def _matching(connection: Connection, stream: str, wanted: Filter) -> Iterator[Letter]:
    from watcher.jetstream.dead_letters import letters

    return (letter for letter in letters(connection, stream) if _meets(letter, wanted))


def _meets(letter: Letter, wanted: Filter) -> bool:
    from watcher.operate.select_entries import texts_of

    if wanted.older is not None and letter.age < wanted.older:
        return False
    if wanted.newer is not None and letter.age > wanted.newer:
        return False
    if wanted.error:
        known = (letter.reason, letter.facts.get("stderr", ""))
        if not any(wanted.error in str(text) for text in known):
            return False
    metadata = letter.metadata
    return all(key in metadata and value in texts_of(metadata[key]) for key, value in wanted.where)


def _operate(
    what: str, act: Act, config: str | None, entries: Sequence[str], flags: Mapping[str, Any]
) -> int:
    """Select letters and act on each; return the exit status."""
    from watcher.jetstream.calls import calling
    from watcher.operate.pace import groups

    targets = list(streams_for(config, flags))
    if len(targets) != 1:
        raise Usage("several streams are configured: name one with --server and --stream")
    target, wanted = targets[0], moving.filter_from(flags)
    names = moving.names_of(entries)
    with calling(target.server, target.place) as connection:
        found = list(_matching(connection, target.stream, wanted))
        chosen, missing = _named(found, names)
        chosen = chosen[: flags["limit"]]
        if flags["dry_run"]:
            _show(((letter, "") for letter in chosen), what, flags)
            return _code(missing, left=0)
        if what == "delete" and chosen and not _sure(len(chosen), target.stream, flags):
            click.echo("nothing was deleted", err=True)
            return os.EX_OK
        with interruptible() as stop:
            done = (
                pair
                for some in groups(chosen, flags.get("rate"), stop)
                for pair in zip(some, act(connection, target.stream, some), strict=True)
            )
            tried, left = _show(done, what, flags)
            if stop.is_set() and tried < len(chosen):
                raise click.exceptions.Exit(_INTERRUPTED)
    if not chosen and names is None:
        click.echo(f"{target.stream}: no dead letters", err=True)
    return _code(missing, left)


def _named(found: Sequence[Letter], names: list[str] | None) -> tuple[list[Letter], list[str]]:
    """Return the letters of these names, or all, and the names that none has.

    A name may also be the number of a letter, as `list` shows it: #17.
    """
    if names is None:
        return list(found), []
    wanted = set(names)
    chosen = [one for one in found if one.name in wanted or f"#{one.number}" in wanted]
    known = {name for one in chosen for name in (one.name, f"#{one.number}")}
    return chosen, [name for name in names if name not in known]


def _code(missing: Sequence[str], left: int) -> int:
    for name in missing:
        click.echo(f"watcher: {one_line(name)}: no dead letter of this name", err=True)
    if left:
        return os.EX_TEMPFAIL
    return os.EX_NOINPUT if missing else os.EX_OK


def _sure(count: int, stream: str, flags: Mapping[str, Any]) -> bool:
    if flags["yes"]:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise Usage("delete asks first, and there is no terminal here: say --yes")
    letters = counted(count, "dead letter", "dead letters")
    return click.confirm(f"Delete {letters} of {stream} for good?", err=True)


def _show(
    results: Iterable[tuple[Letter, str]], what: str, flags: Mapping[str, Any]
) -> tuple[int, int]:
    """Print a line for each letter; return how many there were, and how many were left."""
    past = {"requeue": "requeued", "delete": "deleted"}[what]
    tried = left = 0
    try:
        for letter, why in results:
            tried, left = tried + 1, left + bool(why)
            if flags["as_json"]:
                about = {"move": what, "why": why, "done": not (why or flags["dry_run"])}
                line = json.dumps(_facts(letter) | about)
            elif why:
                line = f"{one_line(letter.name)}  dead, left: {one_line(why)}"
            else:
                line = f"{one_line(letter.name)}  dead, {'would be ' * flags['dry_run']}{past}"
            sys.stdout.write(line + "\n")
    finally:
        sys.stdout.flush()
    return tried, left


def _facts(letter: Letter) -> dict[str, object]:
    return {
        "entry": letter.name,
        "number": letter.number,
        "key": letter.key,
        "queue": letter.queue,
        "subject": letter.subject,
        "size": letter.size,
        "age": round(letter.age, 3),
        "why": letter.reason,
        "facts": dict(letter.facts),
        "metadata": dict(letter.metadata),
    }


def _record(letter: Letter) -> str:
    return json.dumps(_facts(letter))


def _line(letter: Letter) -> str:
    from watcher.cli.entry_lines import short_age

    attempts = letter.facts.get("attempts")
    tries = f"; {attempts} attempts" if isinstance(attempts, int) and attempts > 1 else ""
    start = f"#{letter.number:<7}{short_age(letter.age):>8}{letter.size:>11}  "
    return f"{start}{one_line(letter.name)}  {one_line(letter.reason)}{tries}"
