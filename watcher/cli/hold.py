"""`watcher hold`: keep entries from being handled until they are released."""

from __future__ import annotations

import click

from watcher.cli import moving
from watcher.rules.lifecycle import Move


@click.command("hold")
@moving.command_options(Move.HOLD)
def command(queue_dir: str | None, entries: tuple[str, ...], **flags: object) -> int:
    """Keep entries until they are released: ready ones, and deferred ones with their schedule.

    ENTRY is NAME, the beginning of one NAME, or STATE/NAME as in deferred/NAME. An entry that is
    being handled or written is left, with a line that says so and exit status 75.
    """
    return moving.operate(Move.HOLD, queue_dir, entries, flags)
