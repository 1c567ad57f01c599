"""The common part of hold, release, requeue and delete: select, ask, move, print.

Guarantees: no entry is moved before the whole selection is known. One line on standard output for
each entry; one on standard error for each name without an entry.
Exit status: 0; 66 if a name has no entry; 75 if an entry was left for now (the others are done);
130 after ctrl-C, which lets the entry in hand be finished.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from watcher.cli import chosen, parameters
from watcher.cli.interruptible import interruptible
from watcher.errors import Usage, counted, one_line
from watcher.rules.lifecycle import TABLE, state_word

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue
    from watcher.operate.operator_moves import MoveResult
    from watcher.operate.select_entries import Filter
    from watcher.rules.lifecycle import Move, State
    from watcher.spool.spool import Spool

F = TypeVar("F", bound=Callable[..., Any])
_INTERRUPTED = 128 + signal.SIGINT
ALL = "ALL"  # in capitals only: `all` is an entry's name

_FILTERS = (
    click.option(
        "--older-than", metavar="AGE", help="Only entries longer than this in their state, e.g. 2h."
    ),
    click.option(
        "--newer-than", metavar="AGE", help="Only entries no longer than this in their state."
    ),
    click.option("--error", metavar="TEXT", help="Only entries with TEXT in their last error."),
    click.option(
        "--where",
        multiple=True,
        metavar="KEY=VALUE",
        help="Only entries with this metadata; may be repeated.",
    ),
)
FILTERS = ("older_than", "newer_than", "error", "where")


def filter_options(command: F) -> F:
    """Add the options that select entries by age, error and metadata."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def command_options(move: Move) -> Callable[[F], F]:
    """Return what adds the arguments and options of a command that moves entries."""
    return lambda command: _with_options(command, move)


def _with_options(command: F, move: Move) -> F:
    states = "|".join(state_word(state) for state, possible in TABLE if possible is move)
    command = click.option("--json", "as_json", is_flag=True, help="One object a line.")(command)
    command = click.option(
        "--dry-run", is_flag=True, help="Print what it would do; change nothing."
    )(command)
    command = click.option(
        "--limit", type=click.IntRange(min=0), metavar="N", help="Only the N oldest of these."
    )(command)
    command = filter_options(command)
    command = click.option("--state", metavar=f"[{states}]", help="Only entries of this state.")(
        command
    )
    command = parameters.queue_options(command)
    command = click.argument("entries", nargs=-1, metavar="ENTRY...|ALL")(command)
    return click.argument("queue_dir", required=False, metavar="QUEUE_DIR")(command)


def filter_from(flags: Mapping[str, Any]) -> Filter:
    """Return the filter of the options; raise Usage."""
    from watcher.operate.select_entries import Filter

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


class _Selection(NamedTuple):
    """Which entries of a queue a command is for."""

    move: Move
    names: list[bytes] | None  # None: all
    states: tuple[State, ...]
    wanted: Filter


def operate(
    move: Move, queue_dir: str | None, entries: Sequence[str], flags: Mapping[str, Any]
) -> int:
    """Run one command; return its exit status."""
    place, entries = chosen.for_moving(queue_dir, entries)
    given, states, wanted = names_of(entries), _states(move, flags["state"]), filter_from(flags)
    names = None if given is None else [os.fsencode(name) for name in given]
    queues = chosen.choose(place, flags["config"], flags)
    if names is not None and not queues.alone:
        raise Usage(f"{place}: in each of its directories a name is another entry: say which one")
    selection = _Selection(move, names, states, wanted)
    return queues.each(
        lambda settings: _in_one(settings, queues.name(settings), selection, flags),
        heading=not flags["as_json"],
    )


def _in_one(settings: Queue, queue: str, selection: _Selection, flags: Mapping[str, Any]) -> int:
    """Select and move the entries of one queue."""
    from watcher.operate.operator import current_operator, work_as_owner, work_as_self
    from watcher.operate.operator_moves import Moves
    from watcher.operate.pace import groups
    from watcher.operate.select_entries import select
    from watcher.rules.lifecycle import Move, State
    from watcher.rules.names import display
    from watcher.spool.lease import ignore_sigio

    move, names, states, wanted = selection
    ignore_sigio()
    work_as_self()
    if State.DONE in states and not _has_archive(settings, queue, names, flags["config"]):
        return os.EX_OK
    by, spool = current_operator(), parameters.open_spool(settings)
    work_as_owner(spool)
    selected, missing = select(spool, names, move, states, wanted, settings.max_size)
    found, selected = len(selected), selected[: flags["limit"]]
    if names is None and not selected and not flags["as_json"]:
        say_none(spool)
    moves = Moves(spool, parameters.terms_for(settings), by)
    much = counted(len(selected), "entry", "entries")
    if flags["dry_run"]:
        done = _show(moves.preview(move, selected), move, queue, flags)
        ended = True
    elif move is Move.DELETE and selected and not sure(much, display(spool.path), flags):
        click.echo("nothing was deleted", err=True)
        return os.EX_OK
    else:
        with interruptible() as stop:
            each = (moves.make(move, some) for some in groups(selected, flags.get("rate"), stop))
            done = _show(itertools.chain.from_iterable(each), move, queue, flags)
            ended = not stop.is_set() or done.all == len(selected)
    for error in missing:
        click.echo(f"watcher: {error}", err=True)
    if (names is None or not ended) and found and not flags["dry_run"]:
        _sum_up(done.moved, found - done.moved, move, queue, flags)
    if not ended:
        raise click.exceptions.Exit(_INTERRUPTED)
    if done.moved < done.all:
        return os.EX_TEMPFAIL
    return max((error.exit_code for error in missing), default=os.EX_OK)


def _has_archive(
    settings: Queue, queue: str, names: list[bytes] | None, config: str | None
) -> bool:
    """Whether there may be an archive: of several queues those without one are passed over.

    Raises Usage if all of an archive is asked for that another queue has, too.
    """
    from watcher.config.shared_archive import refuse_shared

    if names is None:
        refuse_shared(settings, config, os.environ)
    return not queue or settings.archived is not None


class _Done(NamedTuple):
    """How many entries were tried, and how many of them were moved."""

    all: int
    moved: int


def _sum_up(moved: int, left: int, move: Move, queue: str, flags: Mapping[str, Any]) -> None:
    """Say on standard error how many entries were moved, and how to go on with the rest."""
    if flags["as_json"]:
        return
    start = f"{queue}: " if queue else ""
    more = "; the same command goes on with these" if left else ""
    click.echo(f"{start}{moved} {_PAST[move.value]}, {left} left{more}", err=True)


def say_none(spool: Spool) -> None:
    """Print on standard error that no entry was found, and by which rules names were read."""
    from watcher.rules.names import display

    click.echo(f"no entries (for {spool.layout.describe()})", err=True)
    if spool.home.stat() is None:
        missing = display(spool.home.path)
        click.echo(
            f"no {missing}: watcher has not run here, or its state lies elsewhere (--state-dir)",
            err=True,
        )


def names_of(entries: Sequence[str]) -> list[str] | None:
    """Return the given names, each once; None for ALL. Raises Usage."""
    if not entries:
        raise Usage("expected the names of entries, or ALL")
    if ALL not in entries:
        return list(dict.fromkeys(entries))
    if len(entries) > 1:
        raise Usage("ALL stands alone; an entry of this name is asked for as STATE/ALL")
    return None


def _states(move: Move, text: str | None) -> tuple[State, ...]:
    from watcher.operate.select_entries import states_for
    from watcher.rules.lifecycle import State

    states = states_for(move)
    if text is None:
        return states
    possible = [*states, *(state for state in (State.DONE,) if (state, move) in TABLE)]
    chosen = tuple(state for state in possible if state_word(state) == text)
    if not chosen:
        first = " (hold it first)" if (move.value, text) == ("delete", "ready") else ""
        known = ", ".join(map(state_word, possible))
        raise Usage(f"--state: {move.value} is for {known}; got {text!r}{first}")
    return chosen


def sure(what: str, place: str, flags: Mapping[str, Any]) -> bool:
    """Ask on the terminal whether to delete so much of a place; return the answer.

    With --yes nothing is asked; raises Usage without a terminal.
    """
    if flags["yes"]:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        raise Usage("delete asks first, and there is no terminal here: say --yes")
    return click.confirm(f"Delete {what} of {place} for good?", err=True)


def _show(results: Iterable[MoveResult], move: Move, queue: str, flags: Mapping[str, Any]) -> _Done:
    """Print a line for each entry; return how many there were."""
    tried = moved = 0
    slow = flags.get("rate") is not None
    try:
        for each in results:
            tried, moved = tried + 1, moved + (each.state is not None)
            if flags["as_json"]:
                line = _json(each, move, queue, flags["dry_run"])
            else:
                line = _text(each, move, flags["dry_run"])
            sys.stdout.write(line + "\n")
            if slow:
                sys.stdout.flush()
    finally:
        sys.stdout.flush()  # print what was done, also if an error ends the rest
    return _Done(tried, moved)


def _text(moved: MoveResult, move: Move, dry_run: bool) -> str:
    from watcher.rules.names import display

    if moved.state is None:
        words = "would be left" if dry_run else "left"
    else:
        words = f"would be {_PAST[move.value]}" if dry_run else _PAST[move.value]
    why = f": {one_line(moved.why)}" if moved.why else ""
    return f"{display(moved.entry.name)}  {state_word(moved.entry.state)}, {words}{why}"


def _json(moved: MoveResult, move: Move, queue: str, dry_run: bool) -> str:
    import json

    from watcher.rules.names import display

    record: dict[str, object] = {"queue": queue} if queue else {}
    record |= {
        "entry": display(moved.entry.name),
        "file": display(moved.entry.files[0]),
        "move": move.value,
        "from": state_word(moved.entry.state),
        "to": None if moved.state is None else moved.state.value,
        "why": moved.why,
    }
    return json.dumps(record | {"dry_run": True} if dry_run else record)


_PAST = {"hold": "held", "release": "released", "requeue": "requeued", "delete": "deleted"}
