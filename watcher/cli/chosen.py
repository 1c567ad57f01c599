"""The queues that a command works on: one, or each directory of the configuration.

    QUEUE_DIR          a directory; or a queue's name in the configuration, as `list` prints it
    the name of a pattern's queue     every directory that matches
    none, with a configuration        every queue

Guarantees: an error in one of several queues does not stop the others. A directory that goes away
meanwhile is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from watcher.cli import parameters
from watcher.cli.known_queues import known_queues, on_this_machine, refuse_copies
from watcher.errors import NoSuch, Usage, WatcherError

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue


class Chosen(NamedTuple):
    """The queues by name; `alone`: one was asked for, so that no line needs its name."""

    queues: Mapping[str, Queue]
    alone: bool
    trouble: Sequence[str] = ()  # what could not be looked at

    def name(self, settings: Queue) -> str:
        """Return the queue's name for a line of output, "" if there is one queue only."""
        return "" if self.alone else settings.name

    def each(self, work: Callable[[Queue], int | None], *, heading: bool = False) -> int:
        """Do the work for each queue; return the highest exit status."""
        code = os.EX_OK
        for why in self.trouble:
            click.echo(f"watcher: {why}", err=True)
            code = os.EX_NOINPUT
        for name, settings in self.queues.items():
            if heading and not self.alone:
                click.echo(f"{name}:")
            try:
                code = max(code, work(settings) or os.EX_OK)
            except WatcherError as error:
                if self.alone:
                    raise
                if isinstance(error, NoSuch) and settings.template and _is_gone(settings):
                    continue
                click.echo(f"watcher: {error}", err=True)
                code = max(code, error.exit_code)
        return code


def _is_gone(settings: Queue) -> bool:
    return not os.path.isdir(settings.path)


def choose(
    queue_dir: str | None,
    config: str | None,
    flags: Mapping[str, object],
    argv: Sequence[str] = (),
    role: str = "inspect",
    *,
    with_work: bool = False,
) -> Chosen:
    """Return the queues that the arguments of a command name; raises Usage or NoSuch.

    `role` as in `parameters.settings_for`. `with_work`: all queues are also the directories in
    which `watcher work` has copies of messages; a command that moves entries refuses them.
    """
    from watcher.config.options import OPTIONS

    flags = {key: value for key, value in flags.items() if key in OPTIONS}
    file = config or os.environ.get("WATCHER_CONFIG")
    if queue_dir is None:
        from watcher.config.expand import expand

        known = parameters.queues_for(None, config, flags, with_work=with_work)
        there = on_this_machine(known) if role == "inspect" else known
        queues, troubles = expand(there.values())
        if role == "inspect":
            queues = _as_recorded(queues, troubles)
        return Chosen(queues, alone=False, trouble=troubles)
    if file is not None and not os.path.isdir(queue_dir):
        from watcher.config.expand import expand

        known = known_queues(file, with_work=True)
        if queue_dir in known and known[queue_dir].many:
            queues, troubles = expand(known.values())
            those = [one.path for one in queues.values() if one.template == queue_dir]
            each = [parameters.settings_for(path, config, flags, argv, role) for path in those]
            return Chosen({one.name: one for one in each}, alone=False, trouble=troubles)
    settings = parameters.settings_for(queue_dir, config, flags, argv, role)
    if not with_work:
        refuse_copies(settings.path)
    return Chosen({settings.name: settings}, alone=True)


def _as_recorded(queues: Mapping[str, Queue], troubles: list[str]) -> dict[str, Queue]:
    """Return the queues with what each records of itself; add those that cannot be read."""
    found = {}
    for name, settings in queues.items():
        try:
            found[name] = parameters.as_recorded(settings)
        except WatcherError as error:  # a newer program's queue
            troubles.append(str(error))
    return found


def for_moving(queue_dir: str | None, entries: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return directory and entries of a command that moves entries.

    `ALL` alone is every entry of every queue of the configuration. To name an entry, name its
    queue: in another queue the same name is another entry.
    """
    if queue_dir == "ALL" and not entries and not os.path.isdir("ALL"):
        return None, ("ALL",)
    if queue_dir is None:
        raise Usage("expected QUEUE_DIR and the names of entries, or ALL")
    return queue_dir, entries
