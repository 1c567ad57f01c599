"""The queues of a configuration that a command may look at, those of `watcher work` among them.

A table [work.NAME] is a queue called work.NAME: its directory has copies of messages of a stream. A
command may look at it, pause it, and end an attempt there. What moves entries refuses it: the
worker has each of these messages in hand, and the server would not know where they went.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.errors import BadConfiguration, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.config.queue_settings import Queue


def known_queues(file: str, *, with_work: bool = False) -> dict[str, Queue]:
    """Return the queues of a configuration; `with_work`: also each table [work.NAME], as work.NAME.

    A wrong table [work.NAME] is then said, and no reason to look at no queue.
    """
    from watcher.config import load as configuration
    from watcher.config.toml import read_toml
    from watcher.config.work_settings import work_for_operators

    tree = read_toml(file) if with_work else {}
    if "work" not in tree:
        return configuration.load(file, os.environ)
    queues = configuration.load(file, os.environ) if "queues" in tree else {}
    try:
        return work_for_operators(file) | queues
    except BadConfiguration as error:
        if not queues:
            raise
        click.echo(f"watcher: {error}", err=True)
        return queues


def refuse_copies(path: str) -> None:
    """Raise Usage if the entries of a directory are copies of messages, which are settled there."""
    from watcher.config.work_settings import MARK

    if os.path.lexists(os.path.join(path, MARK)):
        raise Usage(
            f"{path}: its entries are messages of a stream, in the hands of `watcher work`; for its"
            " dead letters: `watcher work list`, `requeue` and `delete`"
        )


def on_this_machine(queues: Mapping[str, Queue]) -> Mapping[str, Queue]:
    """Leave out what `watcher work` does on another machine with the same configuration."""
    there = {
        name: settings
        for name, settings in queues.items()
        if settings.messages is None or os.path.isdir(settings.path)
    }
    return there or queues
