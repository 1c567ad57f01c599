"""`watcher requeue`: have dead, deferred, orphaned or archived entries handled again."""

from __future__ import annotations

import click

from watcher.cli import moving
from watcher.rules.lifecycle import Move


def _rate(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    from watcher.rules.rate import parse_rate

    try:
        return None if text is None else parse_rate(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


rate_option = click.option(
    "--rate", metavar="N/s", callback=_rate, help="Only so many a second; or N/m, N/h."
)


@click.command("requeue")
@moving.command_options(Move.REQUEUE)
@rate_option
@click.option(
    "--archive", metavar="DIR", help="With --state archived: where handled entries were moved."
)
def command(queue_dir: str | None, entries: tuple[str, ...], **flags: object) -> int:
    """Have dead, deferred or orphaned entries handled again, at once, as if for the first time.

    `--state archived` takes what was handled and kept out of the archive, with the same key: for a
    handler whose effect was lost, such as a server that lost what it had acknowledged.

    ENTRY is NAME, the beginning of one NAME, or STATE/NAME as in dead/NAME; of an archive
    with a folder for each day also archived/DAY/NAME. Attempts and crashes
    count from 0. If the queue has a newer entry of that name, the other one goes to deferred/, due
    now, with its name and key.

    The order is that of commit. After ctrl-C the same command goes on with the rest.
    """
    return moving.operate(Move.REQUEUE, queue_dir, entries, flags)
