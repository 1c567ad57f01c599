"""`watcher requeue`: have dead, deferred or orphaned entries handled again."""

from __future__ import annotations

import click

from watcher.cli import moving


@click.command("requeue")
@moving.command_options
def command(queue_dir: str | None, entries: tuple[str, ...], **flags: object) -> int:
    """Have dead, deferred or orphaned entries handled again, at once, as if for the first time.

    ENTRY is NAME, the beginning of one NAME, or STATE/NAME as in dead/NAME. Attempts and crashes
    count from 0. If the queue has a newer entry of that name, the other one goes to deferred/, due
    now, with its name and key.
    """
    from watcher.rules.lifecycle import Move

    return moving.operate(Move.REQUEUE, queue_dir, entries, flags)
