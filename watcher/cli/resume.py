"""`watcher resume`: have attempts begin again in a queue that `watcher pause` paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from watcher.cli import chosen, parameters
from watcher.cli.pause import in_one

if TYPE_CHECKING:
    from watcher.operate.operator import Operator
    from watcher.spool.spool import Spool


@click.command("resume")
@click.argument("queue_dir", required=False)
@parameters.queue_options
def command(queue_dir: str | None, config: str | None, **flags: object) -> int:
    """Have attempts begin again: a running daemon goes on at once, with what came meanwhile too.

    With --config FILE and no QUEUE_DIR: every queue. A queue that is not paused stays as it is.
    """
    queues = chosen.choose(queue_dir, config, flags, with_work=True)
    return queues.each(lambda settings: in_one(settings, queues.name(settings), _resume))


def _resume(spool: Spool, _by: Operator) -> str:
    from watcher.spool import paused

    before = paused.resume(spool)
    return "it was not paused" if before is None else f"resumed; it was {before}"
