"""`watcher sweep`: one pass by hand."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING

import click

from watcher.cli import options
from watcher.errors import Usage, WatcherError, counted, one_line

if TYPE_CHECKING:
    from watcher.config import Queue
    from watcher.handle.outcome import Handler
    from watcher.lifecycle import Transition
    from watcher.report import Result
    from watcher.spool.layout import Layout
    from watcher.sweep import Line, Summary, Sweep


@click.command("sweep")
@click.argument("queue_dir", required=False)
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@options.queue_options
@click.option("--dry-run", is_flag=True, help="Say what a sweep would do, and do nothing.")
@click.option("--max-time", metavar="AGE", help="Begin no entry after this long, e.g. 15m.")
@click.option("--max-entries", type=click.IntRange(min=0), metavar="N", help="Handle at most N.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(  # noqa: PLR0913, PLR0917 - click passes each option
    queue_dir: str | None,
    handler: tuple[str, ...],
    config: str | None,
    dry_run: bool,
    max_time: str | None,
    max_entries: int | None,
    as_json: bool,
    **flags: object,
) -> int:
    """Find what events missed: handle what is complete, set halves aside, leave the rest.

    One directory with a command after `--`, or every queue of the configuration, one after the
    other. Safe beside a daemon, other sweeps and live writers. TERM and INT end it after the entry
    in hand, a second one at once. Exit status: 0; 75 if entries were left for a later try; 78 if
    the handler cannot be run; of several queues the highest.
    """
    from watcher.claim.lease import ignore_sigio

    seconds = _seconds(max_time)
    queues = options.queues_for(queue_dir, config, flags, handler)
    ignore_sigio()
    show = _Json() if as_json else _Text(dry_run)
    sweeps = _Sweeps(show, dry_run, seconds, max_entries)
    return max(sweeps.each(queues.values(), alone=queue_dir is not None))


def _nobody(_record: Transition) -> None:
    """Tell nobody: a sweep shows its lines itself."""


class _Sweeps:
    """One queue after the other, within the same limits, until a signal ends it."""

    def __init__(
        self, show: _Text | _Json, dry_run: bool, seconds: float | None, entries: int | None
    ) -> None:
        self._show = show
        self._dry_run = dry_run
        from watcher.telemetry.log import last_words  # now: a second signal may interrupt a first

        self._last_words = last_words
        self._seconds = seconds  # what is left of it, as of the entries
        self._entries = entries
        self._heard = 0
        self._sweep: Sweep | None = None
        self._handler: Handler | None = None

    def each(self, queues: Iterable[Queue], *, alone: bool) -> Iterator[int]:
        """Sweep each queue; yield its exit status. One that cannot be swept keeps no other."""
        for settings in queues:
            try:
                yield self._one(settings, "" if alone else settings.name)
            except WatcherError as error:
                if alone:
                    raise
                click.echo(f"watcher: {error}", err=True)
                yield error.exit_code
            if self._heard:
                return

    def _one(self, settings: Queue, name: str) -> int:
        from watcher.sweep import Limits, Orders, Sweep

        self._handler = None if self._dry_run else options.handler_for(settings)
        spool = options.open_spool(settings)
        orders = Orders(settings.name, options.terms_for(settings), settings.retry)
        limits = Limits(self._seconds, self._entries)
        self._sweep = sweep = Sweep(spool, orders, self._handler, limits)
        self._show.begin(name, spool.layout)
        self._end_on_signals()
        for line in sweep.lines(_nobody):
            self._show.line(line)
        self._show.end(sweep)
        if self._seconds is not None:
            self._seconds -= sweep.summary.seconds
        if self._entries is not None:
            self._entries -= sweep.handed
        return _code(sweep.summary)

    def _end_on_signals(self) -> None:
        """End at TERM and INT, which a command does not hear: its entry is finished."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._heard += 1
        if self._sweep is not None:
            self._sweep.end_early()
        if self._heard > 1:
            if self._handler is not None:
                self._handler.abandon()
            self._last_words(b"watcher: stopped at once; the entry in hand will be handled again\n")
            os._exit(os.EX_TEMPFAIL)


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

    def __init__(self, dry_run: bool) -> None:
        self._dry_run = dry_run

    def begin(self, queue: str, layout: Layout) -> None:
        self._layout = layout
        if queue:
            click.echo(f"{queue}:")

    def line(self, line: Line) -> None:
        why = f": {one_line(line.report.why)}" if line.report.why else ""
        name = _name(line.name, self._layout)
        click.echo(f"{name}  {_words(line.report.result, self._dry_run)}{why}")

    def end(self, sweep: Sweep) -> None:
        summary = sweep.summary
        head = "dry run: " if self._dry_run else ""
        found = counted(summary.found, "entry", "entries")
        click.echo(f"{head}{found} found in {summary.seconds:.1f} s")
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

    def __init__(self) -> None:
        self._out = os.dup(1)  # no file object: it would complain at its end of a reader that left
        sys.stdout.flush()
        os.dup2(2, 1)

    def begin(self, queue: str, layout: Layout) -> None:
        self._layout = layout
        self._queue: dict[str, object] = {"queue": queue} if queue else {}

    def _put(self, record: Mapping[str, object]) -> None:
        import json

        line = memoryview(json.dumps(self._queue | dict(record)).encode() + b"\n")
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
