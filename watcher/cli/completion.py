"""What a shell offers after TAB: queues, and the entries of the queue that was typed.

`cli.Lazy` attaches these types to the arguments of a command by their names, and only while a shell
asks: a command that runs pays nothing.
Guarantees: nothing is changed or waited for. The names of a queue are read for `LONGEST` seconds at
most, and `MOST` are offered. A name that a shell would need quoted is not offered. Nothing is
printed but the answer, whatever is wrong with the queue.
Fails: never; then nothing is offered.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from watcher.rules.lifecycle import State
    from watcher.spool.spool import Spool

LONGEST = 0.3  # seconds
MOST = 200  # names
_PLAIN = re.compile(r"[\w.,@%+=:~/-]+")
_ENTRY_ARGUMENTS = ("entry", "entries", "name", "names")
_CHECKED = 64  # names between two readings of the clock


if TYPE_CHECKING:
    Text = click.ParamType[str]
else:  # click 8.1 has no type arguments
    Text = click.ParamType


class QueueDirectory(Text):
    """A directory, or a queue of the configuration."""

    name = "queue"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the queues that begin so; else leave it to the shell's own directories."""
        known = [name for name in _configured(ctx) if name.startswith(incomplete)]
        if known and "/" not in incomplete:
            return [CompletionItem(name) for name in known]
        return [CompletionItem(incomplete, type="dir")]


class EntryName(Text):
    """The name of an entry, or STATE/NAME."""

    name = "entry"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the entries that the command is for and that begin so."""
        with (
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.suppress(Exception),  # a shell's prompt is no place for an error
        ):
            given = set(ctx.params.get(param.name or "") or ())
            names = itertools.islice(_names(ctx, incomplete), MOST)
            return [CompletionItem(name) for name in sorted(set(names) - given)]
        return []


def attach(command: click.Command) -> None:
    """Give the arguments of a command the types above, by their names."""
    for param in command.params:
        if param.name == "queue_dir":
            param.type = QueueDirectory()
        elif param.name in _ENTRY_ARGUMENTS and isinstance(param, click.Argument):
            param.type = EntryName()


def _configured(ctx: click.Context) -> list[str]:
    from watcher.cli.known_queues import known_queues

    file = ctx.params.get("config") or os.environ.get("WATCHER_CONFIG")
    with contextlib.suppress(Exception):
        return sorted(known_queues(file, with_work=True)) if file else []
    return []


def _names(ctx: click.Context, incomplete: str) -> Iterator[str]:
    from watcher.cli import parameters

    flags = {key: value for key, value in ctx.params.items() if key != "queue_dir"}
    config = flags.pop("config", None)
    queue_dir = ctx.params.get("queue_dir")
    if queue_dir is None:
        return
    settings = parameters.settings_for(queue_dir, config, flags)
    spool = parameters.open_spool(settings)
    place, slash, begin = incomplete.rpartition("/")
    until = time.monotonic() + LONGEST
    for state in _states(ctx.info_name or ""):
        if not slash or place == state.value:
            for name in _in_state(spool, state, os.fsencode(begin), until):
                yield f"{place}{slash}{name}"


def _states(command: str) -> Sequence[State]:
    """Return the states from which a command moves entries; all of them if it moves none."""
    from watcher.rules.lifecycle import TABLE, Move, State
    from watcher.rules.names import STATE_DIRECTORIES

    every = (State.READY, *STATE_DIRECTORIES)
    with contextlib.suppress(ValueError):
        move = Move(command)
        return [state for state in every if (state, move) in TABLE]
    return every


def _in_state(spool: Spool, state: State, begin: bytes, until: float) -> Iterator[str]:
    from watcher.inspect.notes_view import open_state_dir, stamp_of
    from watcher.rules.kinds import ENTRY_KINDS
    from watcher.rules.names import STATE_DIRECTORIES, display, is_note
    from watcher.spool.dirs import names_in

    inside = state in STATE_DIRECTORIES
    layout = spool.layout.in_state_dir() if inside else spool.layout
    directory = open_state_dir(spool, state) if inside else os.dup(spool.fd)
    if directory is None:
        return
    try:
        for number, file in enumerate(names_in(directory)):
            if number % _CHECKED == 0 and time.monotonic() > until:
                return
            own = stamp_of(file, state)[1]
            if not own.startswith(begin) or (inside and is_note(file, spool.layout)):
                continue
            name = display(layout.stem(own))
            if layout.kind(own) in ENTRY_KINDS and _PLAIN.fullmatch(name) and name[0] not in "-~":
                yield name
    finally:
        os.close(directory)
