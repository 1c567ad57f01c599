"""`watcher run`: the daemon."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from watcher.cli import parameters
from watcher.errors import NoSuch, WatcherError

if TYPE_CHECKING:
    from types import FrameType

    from watcher.config.daemon_settings import DaemonSettings
    from watcher.config.queue_settings import Queue
    from watcher.handle.handler import Handler

_PAGE = (
    click.option("--http", metavar="ADDRESS", help="Serve the page and the metrics there [no]."),
    click.option(
        "--http-token-file", metavar="FILE", help="A file with the token that clients have to send."
    ),
)
_LOG = (
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        help="How a line of the log is written [text].",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        help="The lowest level that is logged [info].",
    ),
)
F = TypeVar("F", bound=Callable[..., Any])


def page_options(command: F) -> F:
    """Add the options for the page and the metrics."""
    for option in reversed(_PAGE):
        command = option(command)
    return command


def log_options(command: F) -> F:
    """Add the options for the log."""
    for option in reversed(_LOG):
        command = option(command)
    return command


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@click.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("queue_dir", required=False)
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@parameters.queue_options
@parameters.archive_options
@parameters.timeout_option
@click.option("--sweep-every", metavar="AGE", help="Time between sweeps [60s].")
@click.option("--canary", metavar="AGE", help="Silence until events are proved to arrive [1m].")
@click.option("--concurrency", type=int, metavar="N", help="Entries handled at once [1].")
@click.option(
    "--exclusive", is_flag=True, default=None, help="Do not serve it beside another daemon."
)
@click.option("--warn-after", metavar="AGE", help="Warn of attempts that last so long [10m].")
@click.option("--breaker", type=int, metavar="N", help="Failures alike until one is tried [20].")
@click.option(
    "--source",
    type=click.Choice(["auto", "inotify", "polling"]),
    help="Where events come from [auto].",
)
@click.option(
    "--writers",
    type=click.Choice(["any", "rename"]),
    help="With --format raw: rename if every writer renames its files in [any].",
)
@page_options
@log_options
def command(
    queue_dir: str | None,
    handler: tuple[str, ...],
    config: str | None,
    log_format: str,
    log_level: str,
    **flags: object,
) -> int:
    """Watch queue directories and hand each entry to its handler.

    One directory with a command after `--`, or every queue of the configuration. TERM and INT
    drain, a second one stops at once; HUP reloads the configuration, USR1 logs the status, USR2
    sweeps now.
    """

    def load() -> Mapping[str, Queue]:
        return parameters.queues_for(queue_dir, config, flags, handler)

    given = {key: flags.pop(key) for key in ("http", "http_token_file")}
    return serve(load, config, given, log_format, log_level)


def serve(
    load: Callable[[], Mapping[str, Queue]],
    config: str | None,
    page_flags: Mapping[str, object],
    log_format: str,
    log_level: str,
) -> int:
    """Run a daemon for the queues that `load` returns; return its exit code."""
    asked = _note_signals()
    from watcher.handle.adopted_children import usual_signals
    from watcher.observe import log

    usual_signals()

    log.setup(log_format, log_level)

    def load_daemon() -> DaemonSettings:
        from watcher.config.daemon_settings import daemon_settings

        return daemon_settings(config or os.environ.get("WATCHER_CONFIG"), page_flags, os.environ)

    try:
        return _run(load, load_daemon, asked, json=log_format == "json")
    except WatcherError as error:
        if log_format != "json":
            raise
        log.event("", "failed", str(error), logging.ERROR)
        return error.exit_code


def _run(
    load: Callable[[], Mapping[str, Queue]],
    load_daemon: Callable[[], DaemonSettings],
    asked: Sequence[int],
    *,
    json: bool,
) -> int:
    """Serve the queues until a signal ends the daemon; return its exit code."""
    from watcher.daemon.loop import Daemon
    from watcher.daemon.other_daemons import refuse_second
    from watcher.daemon.service_manager import from_environment
    from watcher.daemon.web_process import WebProcess
    from watcher.observe import log
    from watcher.observe.streams import as_lines

    service = from_environment(os.environ)  # first: a handler inherits what is left
    queues = load()
    if not any(os.path.isdir(settings.place) for settings in queues.values()):
        names = ", ".join(settings.place for settings in queues.values())
        raise NoSuch(f"{names}: the queue directory does not exist; make it first: mkdir -p")
    for settings in queues.values():
        if settings.exclusive and not settings.many and os.path.isdir(settings.path):
            refuse_second(parameters.open_spool(settings))
    with as_lines(log.printed_line) if json else contextlib.nullcontext():
        page = WebProcess(load_daemon)
        daemon = Daemon(_handler_for, service, page)
        with page.reloading():
            daemon.serve(queues)
        return daemon.run(load, asked)


def _handler_for(settings: Queue) -> Handler:
    """Return the queue's handler; what a command prints goes to the log."""
    from watcher.handle.command import Command

    handler = parameters.handler_for(settings)
    if isinstance(handler, Command):
        handler.keeps_stdout = True
    return handler


def _note_signals() -> list[int]:
    """Record the signals that arrive before the daemon has started; the daemon acts on them.

    Most of the start is imports, during which a signal would kill the process by default.
    """
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    for number in SIGNALS:
        signal.signal(number, note)
    return asked
