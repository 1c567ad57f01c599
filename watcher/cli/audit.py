"""`watcher audit`: prove that every entry ever seen is accounted for."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from watcher.cli import chosen, parameters

if TYPE_CHECKING:
    from watcher.config.queue_settings import Queue
    from watcher.inspect.balance import Balance
    from watcher.inspect.periods import Window


@click.command("audit")
@click.argument("queue_dir", required=False)
@parameters.queue_options
@click.option("--since", metavar="DATE", help="From then on: 2026-11-01, yesterday, 7d (ago); UTC.")
@click.option("--until", metavar="DATE", help="Before then.")
@click.option(
    "--by",
    type=click.Choice(["hour", "day", "week", "month"]),
    help="A row of sums for each.",
)
@click.option(
    "--accept",
    multiple=True,
    metavar="NAME",
    help="Accept that this entry is lost (ALL: each that is missing); may be repeated.",
)
@click.option("--why", default="", metavar="TEXT", help="With --accept: why it was lost.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(queue_dir: str | None, config: str | None, as_json: bool, **flags: Any) -> int:
    """Prove that every entry ever seen is done, deleted by an operator, or still here.

    Names each missing entry, also one that another program took away. Safe beside a running daemon.
    An entry whose loss was accepted is not missing: later audits say by which user, and when.
    With --config FILE and no QUEUE_DIR: of every queue. QUEUE_DIR may also be a queue's name. Exit
    status: 0 if every entry is accounted for, 65 if not, or if the journal does not reach back to
    --since; of several queues the highest.
    """
    from watcher.cli import audit_report
    from watcher.errors import Usage
    from watcher.rules.dates import Period

    accepted, why, by = flags["accept"], flags["why"], flags["by"]
    if why and not accepted:
        raise Usage("--why: only with --accept")
    window, period = _window(flags["since"], flags["until"]), Period(by) if by else None
    queues = chosen.choose(queue_dir, config, flags)
    if accepted and not queues.alone:
        raise Usage("--accept: name the queue: the entry is missing in one")

    def audit(settings: Queue) -> int:
        found = _found(settings, window)
        if accepted:
            _accept(settings, found, accepted, why)
            found = _found(settings, window)
        if as_json:
            queue = queues.name(settings)
            audit_report.as_json(found, period, {"queue": queue} if queue else {})
        else:
            audit_report.text(found, period)
        return os.EX_OK if found.proved else os.EX_DATAERR

    return queues.each(audit, heading=not as_json)


def _window(since: str | None, until: str | None) -> Window:
    """Return the time that is asked about; raises Usage."""
    from watcher.errors import Usage
    from watcher.inspect.periods import Window
    from watcher.rules.dates import parse

    now = time.time()
    moments: list[float | None] = []
    for option, text in (("--since", since), ("--until", until)):
        try:
            moments.append(None if text is None else parse(text, now))
        except ValueError as error:
            raise Usage(f"{option}: {error}") from None
    window = Window(*moments)
    if window.since is not None and window.is_over(window.since):
        raise Usage(f"--until: expected a date after --since {since}; got {until!r}")
    return window


def _found(settings: Queue, window: Window) -> Balance:
    """Audit one queue."""
    from watcher.errors import NoSuch
    from watcher.inspect.balance import balance
    from watcher.rules.names import display

    spool = parameters.open_spool(settings)
    try:
        found = balance(spool, window)
    except FileNotFoundError:
        raise NoSuch(
            f"{display(spool.path)}: no .watcher/ in it: watcher has not run here, or its state"
            " lies elsewhere (--state-dir)"
        ) from None
    if not found.has_journal:
        raise NoSuch(
            f"{display(spool.path)}: no journal in .watcher/: nothing was recorded here, or not"
            " kept (--no-journal), so nothing can be proved"
        )
    return found


def _accept(settings: Queue, found: Balance, names: tuple[str, ...], why: str) -> None:
    """Write to the journal that the loss of these entries is accepted."""
    from watcher.errors import Usage, one_line
    from watcher.operate.accept_loss import accept, chosen as chosen_losses
    from watcher.operate.operator import current_operator, work_as_owner

    if not settings.journal:
        raise Usage("--accept: only with a journal (--no-journal)")
    losses = chosen_losses(found.asked, names)
    by, spool = current_operator(), parameters.open_spool(settings)
    work_as_owner(spool)
    accept(spool, losses, by, one_line(why))
