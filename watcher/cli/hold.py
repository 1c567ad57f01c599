"""`watcher hold`: put entries aside until they are released."""

from __future__ import annotations

import click

from watcher.cli import operate


@click.command("hold")
@operate.command_options
def command(queue_dir: str, entries: tuple[str, ...], **flags: object) -> int:
    """Put entries aside until they are released: ready ones, and deferred ones with their schedule.

    ENTRY is NAME, a file name, or STATE/NAME as in deferred/NAME. What a handler has in hand or a
    writer is writing is left, with a line that says so and exit status 75.
    """
    from watcher.lifecycle import Move

    return operate.operate(Move.HOLD, queue_dir, entries, flags)
