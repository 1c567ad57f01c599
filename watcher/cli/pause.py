"""`watcher pause`: have no attempt begin, until `watcher resume`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from watcher.cli import chosen, parameters
from watcher.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.config.queue_settings import Queue
    from watcher.operate.operator import Operator
    from watcher.spool.spool import Spool


@click.command("pause")
@click.argument("queue_dir", required=False)
@parameters.queue_options
@click.option("--reason", metavar="TEXT", default="", help="Why; shown wherever the pause is.")
def command(queue_dir: str | None, config: str | None, reason: str, **flags: object) -> int:
    """Pause a queue: entries in hand are finished, and no attempt begins until `watcher resume`.

    With --config FILE and no QUEUE_DIR: every queue. Writers go on, and nothing they commit is
    lost. The pause is in `.watcher/paused`, so it survives the end of the daemon and of the
    machine; a running daemon learns of it at once. A queue that is paused already stays as it is.
    """
    from watcher.rules.results import shortened

    queues = chosen.choose(queue_dir, config, flags, with_work=True)
    why = shortened(reason)
    return queues.each(
        lambda settings: in_one(settings, queues.name(settings), _pause(why)),
    )


def _pause(why: str) -> Callable[[Spool, Operator], str]:
    def work(spool: Spool, by: Operator) -> str:
        from watcher.spool import paused

        before = paused.pause(spool, str(by), why)
        if before is not None:
            return f"it was {before}; nothing was changed"
        return "paused; entries in hand are finished, and no other is begun"

    return work


def in_one(settings: Queue, queue: str, work: Callable[[Spool, Operator], str]) -> int:
    """Do the work for one queue as the queue's owner; print what it returns."""
    from watcher.operate.operator import current_operator, work_as_owner, work_as_self

    work_as_self()
    by, spool = current_operator(), parameters.open_spool(settings)
    work_as_owner(spool)
    words = one_line(work(spool, by))
    click.echo(f"{queue}: {words}" if queue else words)
    return os.EX_OK
