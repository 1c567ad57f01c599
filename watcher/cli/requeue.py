"""`watcher requeue`: have dead, deferred or orphaned entries handled again."""

from __future__ import annotations

import click

from watcher.cli import operate


@click.command("requeue")
@operate.command_options
def command(queue_dir: str, entries: tuple[str, ...], **flags: object) -> int:
    """Have dead, deferred or orphaned entries handled again, at once, as if for the first time.

    ENTRY is NAME, a file name, or STATE/NAME as in dead/NAME. Attempts and crashes count from 0.
    Where the queue has a newer entry of that name, it waits beside it, due now, under the same
    name and key.
    """
    from watcher.lifecycle import Move

    return operate.operate(Move.REQUEUE, queue_dir, entries, flags)
