"""`watcher sweep`: one pass by hand."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING

import click

from watcher.cli import options
from watcher.errors import Usage, one_line

if TYPE_CHECKING:
    from watcher.handle.outcome import Handler
    from watcher.lifecycle import Transition
    from watcher.report import Result
    from watcher.spool.layout import Layout
    from watcher.sweep import Line, Summary, Sweep


@click.command("sweep")
@click.argument("queue_dir")
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@options.queue_options
@click.option("--dry-run", is_flag=True, help="Say what a sweep would do, and do nothing.")
@click.option("--max-time", metavar="AGE", help="Begin no entry after this long, e.g. 15m.")
@click.option("--max-entries", type=click.IntRange(min=0), metavar="N", help="Handle at most N.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(  # noqa: PLR0913, PLR0917 - click passes each option
    queue_dir: str,
    handler: tuple[str, ...],
    config: str | None,
    dry_run: bool,
    max_time: str | None,
    max_entries: int | None,
    as_json: bool,
    **flags: object,
) -> int:
    """Find what events missed: handle what is complete, set halves aside, leave the rest.

    Safe beside a daemon, other sweeps and live writers. TERM and INT end it after the entry in
    hand, a second one at once. Exit status: 0; 75 if entries were left for a later try; 78 if the
    handler cannot be run.
    """
    from watcher.claim.lease import ignore_sigio
    from watcher.sweep import Limits, Orders, Sweep

    settings = options.settings_for(queue_dir, config, flags, handler)
    run = None if dry_run else options.handler_for(settings)
    ignore_sigio()
    limits = Limits(_seconds(max_time), max_entries)
    spool = options.open_spool(settings)
    orders = Orders(settings.name, options.terms_for(settings), settings.retry)
    sweep = Sweep(spool, orders, run, limits)
    show = _Json(spool.layout) if as_json else _Text(spool.layout, dry_run)
    _end_on_signals(sweep, run)
    for line in sweep.lines(_nobody):
        show.line(line)
    show.end(sweep)
    return _code(sweep.summary)


def _nobody(_record: Transition) -> None:
    """Tell nobody: a sweep shows its lines itself."""


def _end_on_signals(sweep: Sweep, handler: Handler | None) -> None:
    """End the sweep at TERM and INT, which a command does not hear: its entry is finished."""
    from watcher.telemetry.log import last_words

    heard: list[int] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        heard.append(number)
        sweep.end_early()
        if len(heard) > 1:
            if handler is not None:
                handler.abandon()
            last_words(b"watcher: stopped at once; the entry in hand will be handled again\n")
            os._exit(os.EX_TEMPFAIL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)


def _seconds(text: str | None) -> float | None:
    from watcher import durations

    if text is None:
        return None
    try:
        return durations.parse(text)
    except ValueError as error:
        raise Usage(f"--max-time: {error}") from None


def _code(summary: Summary) -> int:
    from watcher.report import Result

    if summary.count(Result.MISCONFIGURED):
        return os.EX_CONFIG
    later = (Result.RETRY, Result.DEFERRED, Result.STUCK, Result.ERROR)
    if any(summary.count(result) for result in later):
        return os.EX_TEMPFAIL
    return os.EX_OK


class _Text:
    """For people."""

    def __init__(self, layout: Layout, dry_run: bool) -> None:
        self._layout = layout
        self._dry_run = dry_run

    def line(self, line: Line) -> None:
        why = f": {one_line(line.report.why)}" if line.report.why else ""
        name = _name(line.name, self._layout)
        click.echo(f"{name}  {_words(line.report.result, self._dry_run)}{why}")

    def end(self, sweep: Sweep) -> None:
        summary = sweep.summary
        head = "dry run: " if self._dry_run else ""
        click.echo(f"{head}{summary.found} entries found in {summary.seconds:.1f} s")
        for result, count in summary.counts.items():
            click.echo(f"{count:8d} {_words(result, self._dry_run)}")
        for kind, count in summary.bystanders.items():
            click.echo(f"{count:8d} left alone: {kind.value}")
        if summary.waiting:
            click.echo(f"{summary.waiting:8d} deferred, not due yet")
        if not summary.complete:
            click.echo("         ended early; the rest is as it was")


class _Json:
    """For machines: what a handler prints goes to standard error, not among the objects."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._out = os.dup(1)  # no file object: it would complain at its end of a reader that left
        sys.stdout.flush()
        os.dup2(2, 1)

    def _put(self, record: Mapping[str, object]) -> None:
        import json

        line = memoryview(json.dumps(record).encode() + b"\n")
        while line:
            line = line[os.write(self._out, line) :]

    def line(self, line: Line) -> None:
        from watcher.spool.layout import display

        stem = _name(line.name, self._layout)
        record = {
            "entry": stem,
            "file": display(line.name),
            "result": line.report.result.name.lower(),
            "why": line.report.why,
        }
        if line.report.wait:
            record["wait"] = round(line.report.wait, 3)  # type: ignore[assignment]
        self._put(record)

    def end(self, sweep: Sweep) -> None:
        summary = sweep.summary
        record = {
            "summary": {result.name.lower(): count for result, count in summary.counts.items()},
            "found": summary.found,
            "left_alone": {kind.value: count for kind, count in summary.bystanders.items()},
            "waiting": summary.waiting,
            "complete": summary.complete,
            "seconds": round(summary.seconds, 3),
        }
        self._put(record)


def _name(file: bytes, layout: Layout) -> str:
    """Show NAME, also of deferred/STAMP-NAME.pck."""
    from watcher.spool.layout import DEFERRED, display
    from watcher.spool.schedule import parse

    found = parse(file.removeprefix(DEFERRED)) if file.startswith(DEFERRED) else None
    return display(layout.stem(file) if found is None else layout.as_put_away().stem(found[1]))


def _words(result: Result, dry_run: bool) -> str:
    from watcher.report import Result

    if not dry_run:
        words = {
            Result.YOUNG: "left: too young",
            Result.WRITER: "left: a writer has it open",
            Result.BUSY: "left: claimed by another",
        }
    else:
        words = {
            Result.DONE: "would go to the handler",
            Result.REJECTED: "would move to dead/",
            Result.ORPHANED: "would move to orphans/",
            Result.YOUNG: "would be left: too young",
            Result.WRITER: "would be left: a writer has it open",
            Result.BUSY: "would be left: claimed by another",
        }
    return words.get(result, result.value)
