"""`watcher delete`: delete entries."""

from __future__ import annotations

import click

from watcher.cli import moving
from watcher.rules.lifecycle import Move


@click.command("delete")
@moving.command_options(Move.DELETE)
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(queue_dir: str | None, entries: tuple[str, ...], **flags: object) -> int:
    """Delete entries: held, dead, deferred or orphaned ones. It asks first.

    ENTRY is a whole NAME, a file name, or STATE/NAME as in dead/NAME. A ready entry has to be held
    first.
    """
    return moving.operate(Move.DELETE, queue_dir, entries, flags)
