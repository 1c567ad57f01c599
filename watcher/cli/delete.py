"""`watcher delete`: remove entries for good."""

from __future__ import annotations

import click

from watcher.cli import operate


@click.command("delete")
@operate.command_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(queue_dir: str, entries: tuple[str, ...], **flags: object) -> int:
    """Remove entries for good: held, dead, deferred or orphaned ones. It asks first.

    ENTRY is NAME, a file name, or STATE/NAME as in dead/NAME. A ready entry has to be held first.
    """
    from watcher.lifecycle import Move

    return operate.operate(Move.DELETE, queue_dir, entries, flags)
