"""What several commands share: which queue is meant, and by which rules its names are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from watcher.errors import NoSuch, Usage

if TYPE_CHECKING:
    from watcher.claim.take import Terms
    from watcher.config import Queue
    from watcher.handle.outcome import Handler
    from watcher.spool.spool import Spool

F = TypeVar("F", bound=Callable[..., Any])

_QUEUE = (
    click.option("--config", metavar="FILE", help="Configuration (or WATCHER_CONFIG)."),
    click.option("--legacy", is_flag=True, default=None, help="Also serve .db/.msg pairs."),
    click.option(
        "--format", type=click.Choice(["mailman", "raw"]), help="What entries are [mailman]."
    ),
    click.option("--suffix", help="With --format raw: the files that are entries, e.g. .csv."),
    click.option("--grace-age", metavar="AGE", help="How old a file must be for a sweep [5m]."),
    click.option("--max-size", metavar="SIZE", help="Larger entries are set aside [256M]."),
    click.option("--journal/--no-journal", default=None, help="Keep the books for `audit` [yes]."),
)
FLAGS = ("legacy", "format", "suffix", "grace_age", "max_size", "journal")


def queue_options(command: F) -> F:
    """Add the options that say how a queue directory is read."""
    for option in reversed(_QUEUE):
        command = option(command)
    return command


def settings_for(
    queue_dir: str,
    config: str | None,
    flags: Mapping[str, object],
    argv: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Queue:
    """Return the settings of one directory: flags, environment, configuration, defaults.

    `argv` is the command after `--`; `extra` names flags of this command beside the shared ones.
    """
    from watcher import config as configuration

    given = {
        key: value for key, value in flags.items() if value is not None and key in (*FLAGS, *extra)
    }
    file = config or os.environ.get("WATCHER_CONFIG")
    known = configuration.load(file, os.environ) if file else {}
    return configuration.queue(
        queue_dir, given, os.environ, list(argv) or None, configuration.find(known, queue_dir)
    )


def queues_for(
    queue_dir: str | None,
    config: str | None,
    flags: Mapping[str, object],
    argv: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Mapping[str, Queue]:
    """Return the settings of one directory, or with none those of the configuration, by name."""
    if queue_dir is not None:
        settings = settings_for(queue_dir, config, flags, argv, extra)
        return {settings.name: settings}
    from watcher import config as configuration

    file = config or os.environ.get("WATCHER_CONFIG")
    if file is None:
        raise Usage("name a queue directory, or a configuration with --config FILE")
    given = [f"--{key.replace('_', '-')}" for key, value in flags.items() if value is not None]
    if given:
        raise Usage(f"{', '.join(given)}: only with one QUEUE_DIR; set it in {file} instead")
    return configuration.load(file, os.environ)


def open_spool(settings: Queue) -> Spool:
    """Open the queue's directory; raises NoSuch, NotPermitted or Unavailable."""
    from watcher.spool.layout import Layout
    from watcher.spool.spool import Spool

    layout = Layout(os.fsencode(settings.suffix), settings.format == "raw", settings.legacy)
    spool = Spool(os.fsencode(settings.path), layout)
    spool.journal.enabled = settings.journal
    return spool


def terms_for(settings: Queue) -> Terms:
    """Return the terms on which the queue's entries are claimed by this process."""
    from watcher.age import Ages, SystemClock
    from watcher.claim.take import Terms

    return Terms(settings.grace_age, Ages(SystemClock()), settings.max_size)


def handler_for(settings: Queue) -> Handler:
    """Return the queue's handler; raises BadConfiguration when it cannot be had."""
    handler = settings.load_handler()
    if handler is None:
        raise Usage(
            f"queue {settings.name}: no handler: say what to do with an entry, e.g. -- COMMAND ARG"
        )
    return handler


def existing(queue_dir: str) -> str:
    """Return the directory's name if it is there; raise NoSuch."""
    if not os.path.isdir(queue_dir):
        raise NoSuch(f"{queue_dir}: no such queue directory")
    return queue_dir
