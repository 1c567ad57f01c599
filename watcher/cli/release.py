"""`watcher release`: return held entries to their place."""

from __future__ import annotations

import click

from watcher.cli import moving
from watcher.rules.lifecycle import Move


@click.command("release")
@moving.command_options(Move.RELEASE)
def command(queue_dir: str | None, entries: tuple[str, ...], **flags: object) -> int:
    """Return held entries to the queue, or to deferred/ with their schedule.

    ENTRY is NAME, the beginning of one NAME, or held/NAME. If the queue has a newer entry of that
    name, the held one goes to deferred/, due now, with its name and key.
    """
    return moving.operate(Move.RELEASE, queue_dir, entries, flags)
