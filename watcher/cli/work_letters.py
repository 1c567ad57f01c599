"""`watcher work list|requeue|delete`: the dead letters of a stream.

Guarantees: as `cli.moving`: of a stream the whole selection is known before anything is done; one
line on the standard output for each letter, one on standard error for each name that no letter has.
Exit status: 0; 66 if a name has no letter; 75 if a letter was left; 130 after ctrl-C.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from watcher.cli import moving
from watcher.cli.interruptible import interruptible
from watcher.cli.requeue import rate_option
from watcher.cli.server_options import StreamTarget, server_options, streams_for
from watcher.errors import Usage, WatcherError, counted, one_line

if TYPE_CHECKING:
    from watcher.jetstream.connection import Connection
    from watcher.jetstream.dead_letters import Letter
    from watcher.operate.select_entries import Filter

F = TypeVar("F", bound=Callable[..., Any])
Work = Callable[[StreamTarget, bool], int]
_INTERRUPTED = 128 + signal.SIGINT
_PAST = {"requeue": "requeued", "delete": "deleted"}


def _selecting(command: F) -> F:
    """Add the arguments and options of a command for some letters."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One object a line."),
        click.option("--dry-run", is_flag=True, help="Print what it would do; change nothing."),
        click.option(
            "--limit", type=click.IntRange(min=0), metavar="N", help="Only the N oldest of these."
        ),
        moving.filter_options,
        server_options,
        click.argument("entries", nargs=-1, metavar="ENTRY...|ALL"),
    ):
        command = option(command)
    return command


@click.command("list")
@server_options
@moving.filter_options
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the N oldest.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def list_letters(config: str | None, **flags: Any) -> int:
    """List the dead letters of a stream, the oldest first: number, age, size, name, and why.

    With a configuration: those of each of its streams, or of the one that --stream names.
    """
    wanted = moving.filter_from(flags)

    def one(target: StreamTarget, alone: bool) -> int:
        from watcher.jetstream.calls import calling

        shown = 0
        with calling(target.server, target.place) as connection:
            for letter in _matching(connection, target.stream, wanted):
                if shown == flags["limit"]:
                    break
                shown += 1
                if flags["as_json"]:
                    line = json.dumps(_facts(letter, "" if alone else target.stream))
                else:
                    line = _line(letter)
                sys.stdout.write(line + "\n")
        if not shown and alone and not flags["as_json"]:
            _say_none(target.stream)
        return os.EX_OK

    return _each(streams_for(config, flags), flags, one)


@click.command("requeue")
@_selecting
@rate_option
def requeue_letters(config: str | None, entries: tuple[str, ...], **flags: Any) -> int:
    """Have dead letters handled again, with the same key, as if for the first time.

    ENTRY is the whole name of an entry, or the number of a letter, as in #17; `list` shows both. A
    name is every letter of that name. Attempts and crashes count from 0. After ctrl-C the same
    command goes on with the rest.
    """
    return _operate("requeue", config, entries, flags)


@click.command("delete")
@_selecting
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_letters(config: str | None, entries: tuple[str, ...], **flags: Any) -> int:
    """Delete dead letters for good. It asks first.

    ENTRY is the whole name of an entry, or the number of a letter, as in #17.
    """
    return _operate("delete", config, entries, flags)


COMMANDS = {"list": list_letters, "requeue": requeue_letters, "delete": delete_letters}


def _each(targets: Sequence[StreamTarget], flags: Mapping[str, Any], work: Work) -> int:
    """Do the work for each stream; return the highest exit status."""
    code = os.EX_OK
    alone = len(targets) == 1
    for target in targets:
        if not alone and not flags["as_json"]:
            click.echo(f"{target.stream}:")
        try:
            target.server.check_package(target.place)
            code = max(code, work(target, alone))
        except WatcherError as error:
            if alone:
                raise
            click.echo(f"watcher: {error}", err=True)
            code = max(code, error.exit_code)
        finally:
            sys.stdout.flush()
    return code


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


class _Order(NamedTuple):
    """What is done to which letters."""

    what: str
    names: list[str] | None  # None: all
    wanted: Filter
    flags: Mapping[str, Any]


def _operate(
    what: str, config: str | None, entries: Sequence[str], flags: Mapping[str, Any]
) -> int:
    """Select letters of each stream and act on them; return the exit status."""
    order = _Order(what, moving.names_of(entries), moving.filter_from(flags), flags)

    def one(target: StreamTarget, alone: bool) -> int:
        from watcher.jetstream.calls import calling

        with calling(target.server, target.place) as connection:
            return _in_one(connection, target.stream, order, alone=alone)

    targets = streams_for(config, flags)
    if order.names is not None and len(targets) > 1:
        raise Usage("a name is another letter in each stream: say which, with --stream")
    return _each(targets, flags, one)


def _in_one(connection: Connection, stream: str, order: _Order, *, alone: bool) -> int:
    """Select and act on the letters of one stream."""
    from watcher.jetstream.dead_letters import delete, requeue
    from watcher.operate.pace import groups

    what, names, wanted, flags = order
    act = requeue if what == "requeue" else delete
    shown = "" if alone else stream
    found, missing = _named(_matching(connection, stream, wanted), names)
    chosen = found[: flags["limit"]]
    if names is None and not chosen and not flags["as_json"]:
        _say_none(stream)
    if flags["dry_run"]:
        _show(((letter, "") for letter in chosen), order, shown)
        return _code(missing, left=0)
    much = counted(len(chosen), "dead letter", "dead letters")
    if what == "delete" and chosen and not moving.sure(much, stream, flags):
        click.echo("nothing was deleted", err=True)
        return os.EX_OK
    with interruptible() as stop:
        each = (
            pair
            for some in groups(chosen, flags.get("rate"), stop)
            for pair in zip(some, act(connection, stream, some), strict=True)
        )
        tried, done = _show(each, order, shown)
        ended = tried == len(chosen) or not stop.is_set()
    code = _code(missing, left=tried - done)
    if (names is None or not ended) and found and not flags["as_json"]:
        left = len(found) - done
        more = "; the same command goes on with these" if left else ""
        click.echo(f"{done} {_PAST[what]}, {left} left{more}", err=True)
    if not ended:
        raise click.exceptions.Exit(_INTERRUPTED)
    return code


def _named(found: Iterable[Letter], names: list[str] | None) -> tuple[list[Letter], list[str]]:
    """Return the letters of these names, or all, and the names that none has."""
    if names is None:
        return list(found), []
    wanted, known = set(names), set()
    chosen = []
    for letter in found:
        own = {letter.name, _shown_name(letter), f"#{letter.number}"}
        if own & wanted:
            chosen.append(letter)
            known |= own
    return chosen, [name for name in names if name not in known]


def _code(missing: Sequence[str], left: int) -> int:
    for name in missing:
        click.echo(f"watcher: {one_line(name)}: no dead letter of this name", err=True)
    if left:
        return os.EX_TEMPFAIL
    return os.EX_NOINPUT if missing else os.EX_OK


def _say_none(stream: str) -> None:
    click.echo(f"{stream}: no dead letters", err=True)


def _show(results: Iterable[tuple[Letter, str]], order: _Order, stream: str) -> tuple[int, int]:
    """Print a line for each letter; return how many were tried, and how many are done."""
    what, flags = order.what, order.flags
    tried = done = 0
    try:
        for letter, why in results:
            tried, done = tried + 1, done + (not why)
            if flags["as_json"]:
                to = None if why else {"requeue": "ready", "delete": "removed"}[what]
                record = _identity(letter, stream)
                record |= {"move": what, "from": "dead", "to": to, "why": why}
                line = json.dumps(record | {"dry_run": True} if flags["dry_run"] else record)
            elif why:
                line = f"{_shown_name(letter)}  dead, left: {one_line(why)}"
            else:
                line = f"{_shown_name(letter)}  dead, {'would be ' * flags['dry_run']}{_PAST[what]}"
            sys.stdout.write(line + "\n")
            if flags.get("rate") is not None:
                sys.stdout.flush()
    finally:
        sys.stdout.flush()  # print what was done, also if an error ends the rest
    return tried, done


def _shown_name(letter: Letter) -> str:
    from watcher.rules.names import display

    return display(os.fsencode(letter.name))


def _identity(letter: Letter, stream: str) -> dict[str, object]:
    record: dict[str, object] = {"stream": stream} if stream else {}
    return record | {"number": letter.number, "entry": _shown_name(letter), "key": letter.key}


def _facts(letter: Letter, stream: str) -> dict[str, object]:
    return _identity(letter, stream) | {
        "state": "dead",
        "queue": letter.queue,
        "subject": letter.subject,
        "size": letter.size,
        "age": round(letter.age, 3),
        "why": letter.reason,
        "facts": dict(letter.facts),
        "metadata": dict(letter.metadata),
    }


def _line(letter: Letter) -> str:
    from watcher.cli.entry_lines import short_age

    attempts = letter.facts.get("attempts")
    tries = f"; {attempts} attempts" if isinstance(attempts, int) and attempts > 1 else ""
    start = f"#{letter.number:<7}{short_age(letter.age):>8}{letter.size:>11}  "
    return f"{start}{_shown_name(letter)}  {one_line(letter.reason)}{tries}".rstrip()
