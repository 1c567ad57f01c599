"""`watcher release`: let held entries go on."""

from __future__ import annotations

import click

from watcher.cli import operate


@click.command("release")
@operate.command_options
def command(queue_dir: str, entries: tuple[str, ...], **flags: object) -> int:
    """Let held entries go on: back to the queue, or to their place among the deferred.

    ENTRY is NAME, a file name, or held/NAME. Where the queue has a newer entry of that name, it
    waits beside it, due now, under the same name and key.
    """
    from watcher.lifecycle import Move

    return operate.operate(Move.RELEASE, queue_dir, entries, flags)
