"""Options and settings that several commands share: which queue, and how its names are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from watcher.cli.known_queues import known_queues, refuse_copies
from watcher.errors import NoSuch, Usage, one_line

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue
    from watcher.config.recorded import Role, Said
    from watcher.handle.handler import Handler
    from watcher.rules.queue_record import QueueRecord
    from watcher.spool.claimed import ClaimOptions
    from watcher.spool.spool import Spool

F = TypeVar("F", bound=Callable[..., Any])

FULL_HELP = ("run", "sweep")  # the commands whose help has every option on how names are read


class QueueOption(click.Option):
    """An option that most commands do not need: one line of their help stands for all of these."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option's line; of the first one, in a short help, that of all."""
        if ctx.info_name in FULL_HELP:
            return super().get_help_record(ctx)
        return _OF_ALL if self.name == "legacy" else None


_OF_ALL = (
    "--format, --match, ...",
    "What entries are: see `watcher run --help`. A queue that was served says it itself.",
)


def _queue_option(*names: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(*names, cls=QueueOption, **attributes)


_QUEUE = (
    click.option("--config", metavar="FILE", help="Configuration (or WATCHER_CONFIG)."),
    _queue_option("--legacy", is_flag=True, default=None, help="Also serve .db/.msg pairs."),
    _queue_option(
        "--format", type=click.Choice(["mailman", "raw"]), help="What entries are [mailman]."
    ),
    _queue_option("--suffix", help="With --format raw: the files that are entries, e.g. .csv."),
    _queue_option(
        "--match",
        multiple=True,
        metavar="PATTERN",
        callback=lambda _context, _option, given: list(given) or None,
        help="With --format raw: the files that are entries, e.g. '*.csv'; may be repeated.",
    ),
    _queue_option(
        "--ignore",
        multiple=True,
        metavar="PATTERN",
        callback=lambda _context, _option, given: list(given) or None,
        help="With --format raw: files that are never entries; replaces the default ('': none).",
    ),
    _queue_option(
        "--ignore-case",
        is_flag=True,
        default=None,
        help="With --format raw: patterns match names in any case.",
    ),
    _queue_option(
        "--marker",
        metavar="TEMPLATE",
        help="With --format raw: the file that says an entry is complete, e.g. '{name}.done'.",
    ),
    _queue_option(
        "--companions",
        multiple=True,
        metavar="TEMPLATE",
        callback=lambda _context, _option, given: list(given) or None,
        help="With --format raw: files that say it is not, e.g. '{name}.aria2'; may be repeated.",
    ),
    _queue_option("--grace-age", metavar="AGE", help="How old a file must be for a sweep [5m]."),
    _queue_option(
        "--settle",
        metavar="AGE",
        help="With --format raw: take a file that is closed and unchanged for so long [off].",
    ),
    _queue_option("--max-size", metavar="SIZE", help="Larger entries go to dead/ [256M]."),
    _queue_option(
        "--hard-links",
        is_flag=True,
        default=None,
        help="Files with other hard links are entries too.",
    ),
    _queue_option(
        "--state-dir", metavar="DIRECTORY", help="Where .watcher/ lies if not in the queue."
    ),
    _queue_option(
        "--journal/--no-journal",
        default=None,
        help="Write the journal, which `watcher audit` reads [yes].",
    ),
    click.option(
        "--journal-dir", metavar="DIRECTORY", help="Where the journal lies if not in .watcher/."
    ),
    click.option(
        "--journal-keep", metavar="KEEP", help="How much of it is kept, e.g. 90d or 2G [128M]."
    ),
)


_ARCHIVE = (
    click.option("--archive", metavar="DIR", help="Move handled entries there; in the queue."),
    click.option(
        "--archive-dated", is_flag=True, default=None, help="A folder for each day in it (UTC)."
    ),
    click.option("--archive-for", metavar="AGE", help="Remove from it what is older."),
)


timeout_option = click.option(
    "--timeout", metavar="AGE", help="Time of the handler for one entry, e.g. 2m [none]."
)


def archive_options(command: F) -> F:
    """Add the options for the archive of a queue."""
    for option in reversed(_ARCHIVE):
        command = option(command)
    return command


def queue_options(command: F) -> F:
    """Add the options for how a queue directory is read."""
    for option in reversed(_QUEUE):
        command = option(command)
    return command


def settings_for(
    queue_dir: str,
    config: str | None,
    flags: Mapping[str, object],
    argv: Sequence[str] = (),
    role: str = "inspect",
) -> Queue:
    """Return the settings of one directory: flags, environment, configuration, defaults.

    A flag with the name of an option sets it; the command itself reads the others. `argv` is the
    command after `--`. `role` (`config.recorded.Role`) decides what counts if the queue itself
    says something else of its names.
    """
    from watcher.config import load as configuration
    from watcher.config.options import OPTIONS
    from watcher.config.recorded import Role, Said

    if role in (Role.SERVE.value, Role.COMMIT.value):
        refuse_copies(queue_dir)

    given = {key: value for key, value in flags.items() if value is not None and key in OPTIONS}
    file = config or os.environ.get("WATCHER_CONFIG")
    with_work = role in (Role.INSPECT.value, Role.TRY.value)
    known = known_queues(file, with_work=with_work) if file else {}
    if known and not os.path.isdir(queue_dir):
        queue_dir = _directory_called(queue_dir, known)
    base = configuration.find(known, queue_dir)
    said = Said(queue_dir, given, os.environ, list(argv) or None, base)
    settings = _chosen(said, Role(role))
    timeout = flags.get("timeout")
    return settings if timeout is None else with_timeout(settings, str(timeout))


def with_timeout(settings: Queue, timeout: str) -> Queue:
    """Return the settings with a time for the handler; raise Usage."""
    from msgspec.structs import replace

    from watcher.handle.handler_kinds import with_timeout

    if settings.handler is None:
        raise Usage("--timeout: goes with a handler: give a command after --")
    return replace(settings, handler=with_timeout(settings.handler, timeout))


def as_recorded(settings: Queue) -> Queue:
    """Return the settings of a configured queue, with what it records of itself."""
    from watcher.config.recorded import Role, Said

    return _chosen(Said(settings.path, {}, {}, None, settings), Role.INSPECT)


def _chosen(said: Said, role: Role) -> Queue:
    from watcher.config.recorded import chosen

    settings, words = chosen(said, _record(said, role), role)
    if words:
        click.echo(f"watcher: {one_line(words)}", err=True)
    return settings


def _record(said: Said, role: Role) -> QueueRecord | None:
    """Return what the queue says of itself; None if it says nothing that can be believed."""
    from watcher.config.recorded import Role
    from watcher.spool.queue_file import Hidden, NotBelieved, read

    try:
        return read(os.fsencode(said.path), said.outside())
    except NotBelieved as error:
        if role is Role.COMMIT and isinstance(error, Hidden):
            return None  # a writer need not be able to read there
        if role in {Role.SERVE, Role.COMMIT} and not said.of_names():
            raise
        click.echo(f"watcher: {error}", err=True)
        return None


def _directory_called(name: str, known: Mapping[str, Queue]) -> str:
    """Return the directory of the queue of this name; the name itself if there is none."""
    from watcher.config.expand import expand

    if name in known and known[name].many:
        raise Usage(f"{name}: names the directories of {known[name].path}: say which, {name}/...")
    if name not in known and any(name.startswith(f"{each}/") for each in known):
        known = expand(known.values())[0]
    return known[name].path if name in known else name


def queues_for(
    queue_dir: str | None,
    config: str | None,
    flags: Mapping[str, object],
    argv: Sequence[str] = (),
    *,
    with_work: bool = False,
) -> Mapping[str, Queue]:
    """Return the settings of one directory, or of all queues of the configuration, by name."""
    if queue_dir is not None:
        settings = settings_for(queue_dir, config, flags, argv, "serve")
        return {settings.name: settings}
    file = config or os.environ.get("WATCHER_CONFIG")
    if file is None:
        raise Usage("name a queue directory, or a configuration with --config FILE")
    given = [f"--{key.replace('_', '-')}" for key, value in flags.items() if value is not None]
    if given:
        raise Usage(f"{', '.join(given)}: only with one QUEUE_DIR; set it in {file} instead")
    return known_queues(file, with_work=with_work)


def open_spool(settings: Queue) -> Spool:
    """Open the queue's directory; raises NoSuch, NotPermitted or Unavailable."""
    from watcher.config import open_queue

    return open_queue.open_spool(settings)


def terms_for(settings: Queue) -> ClaimOptions:
    """Return how this process claims the queue's entries."""
    from watcher.rules.age import Ages, SystemClock

    return settings.claim_options(Ages(SystemClock()))


def handler_for(settings: Queue) -> Handler:
    """Return the queue's handler; raises BadConfiguration if it cannot be loaded."""
    handler = settings.load_handler()
    if handler is None:
        raise Usage(
            f"queue {settings.name}: no handler: give a command after --, e.g. -- COMMAND ARG"
        )
    return handler


def existing(queue_dir: str) -> str:
    """Return the directory's name if it exists; raise NoSuch."""
    if not os.path.isdir(queue_dir):
        raise NoSuch(f"{queue_dir}: the queue directory does not exist")
    return queue_dir
