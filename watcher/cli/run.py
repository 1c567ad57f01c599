"""`watcher run`: the daemon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from watcher.cli import options
from watcher.errors import NoSuch

if TYPE_CHECKING:
    from watcher.config import Queue

_OWN = ("sweep_every", "concurrency", "source")


@click.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("queue_dir", required=False)
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@options.queue_options
@click.option("--sweep-every", metavar="AGE", help="Time between sweeps [60s].")
@click.option("--concurrency", type=int, metavar="N", help="Entries handled at once [1].")
@click.option("--source", type=click.Choice(["auto", "inotify", "polling"]), help="[auto]")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info"
)
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
    from watcher.daemon import Daemon
    from watcher.telemetry import log

    log.setup(log_format, log_level)

    def load() -> Mapping[str, Queue]:
        return options.queues_for(queue_dir, config, flags, handler, _OWN)

    queues = load()
    if not any(os.path.isdir(settings.path) for settings in queues.values()):
        names = ", ".join(settings.path for settings in queues.values())
        raise NoSuch(f"{names}: no such queue directory; make it first: mkdir -p")
    daemon = Daemon(options.handler_for)
    daemon.serve(queues)
    return daemon.run(load)
