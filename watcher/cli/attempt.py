"""`watcher attempt`: one attempt at one entry, here and now, with the handler's output."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import click

from watcher.cli import chosen, parameters
from watcher.errors import Usage, one_line

if TYPE_CHECKING:
    from types import FrameType

    from watcher.config.queue_settings import Queue
    from watcher.handle.handler import Handler
    from watcher.rules.results import AttemptEnd, AttemptResult
    from watcher.spool.spool import Spool


@click.command("attempt")
@click.argument("queue_dir")
@click.argument("entry")
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@parameters.queue_options
@parameters.archive_options
@parameters.timeout_option
@click.option("-v", "--verbose", is_flag=True, help="Show the variables that a command is given.")
def command(
    queue_dir: str,
    entry: str,
    handler: tuple[str, ...],
    config: str | None,
    verbose: bool,
    **flags: object,
) -> int:
    """Make one attempt at a ready or deferred entry now, in the foreground.

    The handler is the queue's own (--config), or the command after `--`. What it writes appears as
    it comes. Then the entry is removed, deferred or rejected, as by the daemon. This works beside a
    running daemon, while the queue is paused, and while its handler is in doubt. TERM or INT ends
    the handler and leaves the entry where it is. Exit status: 0 handled; 75 failed, to be tried
    again, or not to be had now; 65 rejected (in dead/); 66 no such entry; 78 the handler cannot be
    run.
    """
    from watcher.spool.lease import ignore_sigio

    queues = chosen.choose(queue_dir, config, flags, handler)
    if not queues.alone:
        raise Usage(f"{queue_dir}: in each of its directories a name is another entry: say which")
    ignore_sigio()
    return queues.each(lambda settings: _one(settings, os.fsencode(entry), verbose))


def _one(settings: Queue, wanted: bytes, verbose: bool) -> int:
    from watcher.handle.adopted_children import usual_signals
    from watcher.operate.in_hand import stem_at
    from watcher.operate.single_attempt import Shown, finisher, locate, make_attempt
    from watcher.rules.names import display

    if settings.handler is not None and not settings.handler.SETTLES:
        raise Usage(
            f"{one_line(settings.name)}: its handler is a trigger, whose command takes the entries"
            " itself: `watcher sweep` runs it now"
        )
    usual_signals()  # before a handler's first worker process begins
    handler = Shown(parameters.handler_for(settings), _show if verbose else None)
    spool = parameters.open_spool(settings)
    settlement = finisher(settings, parameters.terms_for(settings), lambda _record: None)
    location = locate(spool, settlement, wanted)
    _say_paused(spool)
    _end_on_signals(spool, handler)
    began = time.monotonic()
    report = make_attempt(spool, location, settlement, handler)
    words = _words(spool, location, report, time.monotonic() - began)
    click.echo(f"{display(stem_at(spool, location))}  {one_line(words)}")
    return _code(report.result)


def _show(line: str) -> None:
    click.echo(one_line(line), err=True)


def _say_paused(spool: Spool) -> None:
    from watcher.spool.paused import read

    if (found := read(spool)) is not None:
        click.echo(f"watcher: the queue is {found}; this attempt is made all the same", err=True)


def _end_on_signals(spool: Spool, handler: Handler) -> None:
    """At TERM and INT end the handler, which is not in this process's group; then this process."""
    from watcher.observe.log import last_words  # imported now: a signal handler must not import

    came: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        handler.terminate()
        if len(came) > 1:
            spool.ledger.clear()  # this death counts for no entry
            last_words(b"watcher: stopped at once; the entry will be handled again\n")
            os._exit(os.EX_TEMPFAIL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _words(spool: Spool, location: bytes, report: AttemptResult, seconds: float) -> str:
    """Return what became of the entry, in the words of the log."""
    from watcher.observe.log_lines import MOVES, NEXT_TRY, clock_time
    from watcher.operate.in_hand import in_hand_words
    from watcher.rules.lifecycle import Move
    from watcher.rules.results import AttemptEnd

    words, why = report.result.value, report.why
    if report.result is AttemptEnd.DONE:
        words = f"{MOVES[Move.FINISH]} in {seconds * 1000:.0f} ms"
    elif report.result is AttemptEnd.DEFERRED and report.wait is not None:
        words = NEXT_TRY.format(clock_time(time.time() + report.wait))
    elif report.result is AttemptEnd.BUSY:
        words, why = "left", in_hand_words(spool, location) or "it was claimed; try again"
    elif report.result is AttemptEnd.STOPPED:
        words, why = "stopped", "the entry is where it was"
    return f"{words}: {why}" if why else words


def _code(result: AttemptEnd) -> int:
    from watcher.rules.results import AttemptEnd

    match result:
        case AttemptEnd.DONE:
            return os.EX_OK
        case AttemptEnd.REJECTED:
            return os.EX_DATAERR
        case AttemptEnd.GONE:
            return os.EX_NOINPUT
        case AttemptEnd.MISCONFIGURED:
            return os.EX_CONFIG
        case _:
            return os.EX_TEMPFAIL
