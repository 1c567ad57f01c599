"""`watcher sweep`: one pass by hand."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING

import click

from watcher.cli import chosen, parameters
from watcher.errors import BadConfiguration, Usage, WatcherError, counted, one_line

if TYPE_CHECKING:
    from watcher.cli.sweep_record import SweepRecord
    from watcher.config.queue_settings import Queue
    from watcher.handle.handler import Handler
    from watcher.rules.lifecycle import Transition
    from watcher.rules.names import Layout
    from watcher.rules.results import AttemptEnd, AttemptResult
    from watcher.spool.spool import Spool
    from watcher.sweep import Line, Summary, Sweep, SweepOptions


@click.command("sweep")
@click.argument("queue_dir", required=False)
@click.argument("handler", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND ARG...]")
@parameters.queue_options
@parameters.archive_options
@parameters.timeout_option
@click.option("--dry-run", is_flag=True, help="Print what a sweep would do; change nothing.")
@click.option("--max-time", metavar="AGE", help="Begin no entry after this time, e.g. 15m.")
@click.option("--max-entries", type=click.IntRange(min=0), metavar="N", help="Handle at most N.")
@click.option("--metrics-file", metavar="PATH", help="Write metrics of the sweep to a *.prom file.")
@click.option("--even-if-paused", is_flag=True, help="Sweep a queue that is paused too.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def command(  # noqa: PLR0913, PLR0917 - click passes each option
    queue_dir: str | None,
    handler: tuple[str, ...],
    config: str | None,
    dry_run: bool,
    max_time: str | None,
    max_entries: int | None,
    metrics_file: str | None,
    even_if_paused: bool,
    as_json: bool,
    **flags: object,
) -> int:
    """Find what events missed: handle complete entries, move incomplete ones to orphans/.

    One directory with a command after `--`, or every queue of the configuration, one after the
    other. Safe beside a daemon, other sweeps and writers. TERM and INT end it after the current
    entry, a second signal at once. Exit status: 0; 75 if entries were left for a later try, or the
    queue is paused; 78 if the handler cannot be run; of several queues the highest.
    """
    from watcher.spool.lease import ignore_sigio

    seconds = _seconds(max_time)
    record = None if metrics_file is None else _record_in(metrics_file, dry_run=dry_run)
    role = "try" if dry_run else "serve"
    queues = chosen.choose(queue_dir, config, flags, handler, role)
    ignore_sigio()
    show = _Json() if as_json else _Text(dry_run)
    sweeps = _Sweeps(show, dry_run, seconds, max_entries)
    sweeps.mind_pause = not (dry_run or even_if_paused)

    def work(settings: Queue) -> int:
        return sweeps.one(settings, queues.name(settings))

    if record is None:
        return queues.each(work)
    try:
        return queues.each(lambda settings: record.sweep(settings, work, lambda: sweeps.sweep))
    finally:
        record.write()


def _record_in(path: str, *, dry_run: bool) -> SweepRecord:
    from watcher.cli.sweep_record import SweepRecord

    if dry_run:
        raise Usage("--metrics-file: a dry run is no sweep")
    return SweepRecord(path)


def _ignore(_record: Transition) -> None:
    """Do nothing: a sweep prints its own lines."""


class _Sweeps:
    """Sweeps one queue after the other, within the limits, until a signal comes."""

    def __init__(
        self, show: _Text | _Json, dry_run: bool, seconds: float | None, entries: int | None
    ) -> None:
        self._show = show
        self._dry_run = dry_run
        from watcher.observe.log import last_words  # imported now: a signal handler must not import

        self._last_words = last_words
        self._seconds = seconds  # what is left of the limit; the same for the entries
        self._entries = entries
        self.mind_pause = True  # sweep no paused queue
        self._signals = 0
        self.sweep: Sweep | None = None  # of the queue that `one` is called for, once it begins
        self._handler: Handler | None = None

    def one(self, settings: Queue, name: str) -> int:
        """Sweep one queue, unless a signal came; return its exit status."""
        self.sweep = None
        if self._signals:
            return os.EX_OK
        from watcher.handle.adopted_children import usual_signals
        from watcher.inspect.neighbours import warning_for
        from watcher.sweep import Limits, Sweep, SweepOptions

        usual_signals()  # before a handler's first worker process begins

        self._handler = None if self._dry_run else parameters.handler_for(settings)
        spool = parameters.open_spool(settings)
        if self.mind_pause and _paused(spool, settings):
            return os.EX_TEMPFAIL
        for words in (
            "" if self._dry_run else _keep_record(spool, settings),
            warning_for(spool.path, spool.layout),
        ):
            if words:
                click.echo(f"watcher: {words}", err=True)
        orders = SweepOptions(settings.name, parameters.terms_for(settings), settings.retry)
        if settings.handler is not None and not settings.handler.SETTLES:
            self._show.begin(name, spool.layout)
            return self._trigger(spool, orders)
        self.sweep = Sweep(spool, orders, self._handler, Limits(self._seconds, self._entries))
        self._show.begin(name, spool.layout)
        self._end_on_signals()
        return self._all_of(self.sweep, settings)

    def _all_of(self, sweep: Sweep, settings: Queue) -> int:
        """Make a sweep and show it; return its exit status."""
        from watcher.handle.adopted_children import Orphans

        spool = sweep.spool
        orphans, paused = Orphans(), False
        for line in sweep.lines(_ignore):
            self._show.line(line)
            orphans.reap(time.monotonic())
            if self.mind_pause and not paused and _paused(spool, settings):
                paused = True
                sweep.end_early()
        self._show.end(sweep)
        if not self._dry_run and (removed := sweep.clear_archive()):
            self._show.archive(removed)
        if self._seconds is not None:
            self._seconds -= sweep.summary.seconds
        if self._entries is not None:
            self._entries -= sweep.handed
        return max(_code(sweep.summary), os.EX_TEMPFAIL if paused else os.EX_OK)

    def _trigger(self, spool: Spool, options: SweepOptions) -> int:
        """Have the command of a trigger run, in place of a sweep; return the exit status."""
        from watcher.cli.trigger_sweep import sweep_trigger, would_run
        from watcher.handle.kinds.run_trigger import TriggerCommand

        if not isinstance(self._handler, TriggerCommand):
            return would_run(spool, options, self._show.trigger)
        self._end_on_signals()
        show = self._show.trigger
        return sweep_trigger(spool, self._handler, options, show, lambda: self._signals > 0)

    def _end_on_signals(self) -> None:
        """End at TERM and INT after the current entry; its command does not get the signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self.sweep is not None:
            self.sweep.end_early()
        if self._signals > 1:
            if self._handler is not None:
                self._handler.terminate()
            self._last_words(b"watcher: stopped at once; the entry in hand will be handled again\n")
            os._exit(os.EX_TEMPFAIL)


def _paused(spool: Spool, settings: Queue) -> bool:
    """Whether the queue is paused; print it."""
    from watcher.spool.paused import read

    found = read(spool)
    if found is not None:
        click.echo(
            f"watcher: {one_line(settings.name)}: {found}; no entry is begun:"
            " `watcher resume`, or --even-if-paused",
            err=True,
        )
    return found is not None


def _keep_record(spool: Spool, settings: Queue) -> str:
    """Write what the queue is into it; return a line if it said something else before."""
    from watcher.config.recorded import record_of
    from watcher.spool.queue_file import keep, prepare_journal

    record = record_of(settings)
    prepare_journal(spool, record)
    try:
        return keep(spool, record)
    except BadConfiguration:  # a newer program's queue
        raise
    except (OSError, WatcherError):  # a full disk: the sweep may free some space
        return ""


def _seconds(text: str | None) -> float | None:
    from watcher import durations

    if text is None:
        return None
    try:
        return durations.parse(text)
    except ValueError as error:
        raise Usage(f"--max-time: {error}") from None


def _code(summary: Summary) -> int:
    """Return the exit status: the highest of those of the results."""
    return max((_code_of(result) for result in summary.counts), default=os.EX_OK)


def _code_of(result: AttemptEnd) -> int:
    from watcher.rules.results import AttemptEnd

    match result:
        case AttemptEnd.MISCONFIGURED:
            return os.EX_CONFIG
        case (
            AttemptEnd.RETRY
            | AttemptEnd.DEFERRED
            | AttemptEnd.STUCK
            | AttemptEnd.ERROR
            | AttemptEnd.PINNED
        ):
            return os.EX_TEMPFAIL
        case (
            AttemptEnd.DONE
            | AttemptEnd.REJECTED
            | AttemptEnd.ORPHANED
            | AttemptEnd.REUNITED
            | AttemptEnd.FOLLOWED
            | AttemptEnd.STOPPED
            | AttemptEnd.RETURNS
            | AttemptEnd.KEPT
            | AttemptEnd.GONE
            | AttemptEnd.BUSY
            | AttemptEnd.YOUNG
            | AttemptEnd.WRITER
            | AttemptEnd.UNPROVEN
            | AttemptEnd.FOREIGN
        ):
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
        click.echo(f"{name}  {self._words(line.report)}{why}")

    def _words(self, report: AttemptResult) -> str:
        from watcher.observe.log_lines import NEXT_TRY, clock_time
        from watcher.rules.results import AttemptEnd

        if report.result is AttemptEnd.DEFERRED and report.wait is not None:
            return NEXT_TRY.format(clock_time(time.time() + report.wait))
        return _words(report.result, self._dry_run)

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

    def trigger(self, words: str, run: Mapping[str, object]) -> None:  # noqa: ARG002 - for programs
        click.echo(words)

    def archive(self, removed: int) -> None:
        click.echo(f"{removed:8d} removed from the archive")


class _Json:
    """For programs: the handler's output goes to standard error, not between the objects."""

    def __init__(self) -> None:
        # No file object: it would report an error at its end if the reader has ended.
        self._out = os.dup(1)
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
        from watcher.rules.names import display

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

    def trigger(self, words: str, run: Mapping[str, object]) -> None:
        self._put({"trigger": words, **run})

    def archive(self, removed: int) -> None:
        self._put({"archive_removed": removed})


def _name(file: bytes, layout: Layout) -> str:
    """Return the entry's name, also for deferred/STAMP-NAME.pck."""
    from watcher.rules.names import Location, display, is_deferred
    from watcher.rules.stamp import parse

    found = parse(Location.parse(file).name) if is_deferred(file) else None
    return display(layout.stem(file) if found is None else layout.in_state_dir().stem(found[1]))


def _words(result: AttemptEnd, dry_run: bool) -> str:
    from watcher.observe.log_lines import MOVES
    from watcher.rules.lifecycle import Move
    from watcher.rules.results import AttemptEnd

    words = result.value, result.value
    match result:
        case AttemptEnd.DONE:
            words = MOVES[Move.FINISH], "would go to the handler"
        case AttemptEnd.REJECTED:
            words = result.value, "would move to dead/"
        case AttemptEnd.ORPHANED:
            words = MOVES[Move.ABANDON], "would move to orphans/"
        case AttemptEnd.YOUNG:
            words = "left: not old enough yet", "would be left: not old enough yet"
        case AttemptEnd.WRITER:
            words = "left: a writer has it open", "would be left: a writer has it open"
        case AttemptEnd.BUSY:
            words = "left: claimed by another", "would be left: claimed by another"
        case AttemptEnd.DEFERRED:
            words = "failed, to be tried again", result.value
        case AttemptEnd.RETRY:
            words = "failed, left in the queue: the disk refused to defer it", result.value
        case (
            AttemptEnd.REUNITED
            | AttemptEnd.FOLLOWED
            | AttemptEnd.MISCONFIGURED
            | AttemptEnd.STUCK
            | AttemptEnd.STOPPED
            | AttemptEnd.RETURNS
            | AttemptEnd.KEPT
            | AttemptEnd.GONE
            | AttemptEnd.UNPROVEN
            | AttemptEnd.FOREIGN
            | AttemptEnd.ERROR
            | AttemptEnd.PINNED
        ):
            pass
    done, would = words
    return would if dry_run else done
