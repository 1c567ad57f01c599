"""The log: one line for each transition of an entry and each event of a queue.

Stages call `transition` and `event`. `log_lines` has the words and the fields, `log_output` writes.
A line does not pass through `logging`: its records cost ten times as much. Only an error in this
program does, by `log.exception`, because it needs the traceback.

Guarantees: a line is written before the call returns. Logging raises no error into a stage and
waits for no reader. Before `setup` was called nothing is logged.
Fails: never.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import time
from collections.abc import Callable

from watcher.errors import counted
from watcher.observe.handler_output import lines_of
from watcher.observe.log_lines import LEVELS, MOVES, SUMMED_UP, Json, Text
from watcher.observe.log_output import Output, has_room
from watcher.observe.log_records import Records
from watcher.observe.repeats import Repeats
from watcher.rules.lifecycle import Move, Transition

log = logging.getLogger("watcher")


class Log:
    """The log of this process: how lines look, which of them are written, and where to."""

    def __init__(
        self, lines: Text | Json, level: int, write: Callable[[bytes], object], fd: int = 2
    ) -> None:
        self.lines = lines
        self.fd = fd
        self.level = level
        self.write = write
        # A program that reads JSON counts for itself, and debug is for each line.
        summed = isinstance(lines, Text) and level > logging.DEBUG
        self.repeats = Repeats() if summed else None


_log = Log(Text(), logging.INFO, len)  # `len`: nothing is written


def setup(style: str = "text", level: str = "info") -> None:
    """Send the log to standard error; `style` is "text" or "json", `level` as in `logging`."""
    global _log  # noqa: PLW0603 - one log a process
    journal = _is_journal(2)
    lines = Json(journal=journal) if style == "json" else Text(journal=journal)

    def lost(number: int) -> bytes:
        words = f"{number} lines were dropped: standard error was full"
        return lines.event(time.time(), logging.INFO, "", "log", words)

    # A copy: `streams.as_lines` puts a pipe in the place of descriptor 2.
    fd = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3) if style == "json" else 2
    number = logging.getLevelNamesMapping()[level.upper()]
    _log = Log(lines, number, Output(lost, fd).write, fd)
    log.handlers[:] = [_Bugs()]
    log.setLevel(level.upper())
    log.propagate = False
    logging.raiseExceptions = False  # an error in a line must not stop the queue


def to_logger() -> None:
    """Pass the log's lines on to the logger "watcher", as a program that embeds a queue expects.

    Nothing changes if `setup` was called. The logger's level counts as it is now.
    """
    global _log  # noqa: PLW0603 - one log a process
    if isinstance(_log.lines, Records) or _log.write is len:
        _log = Log(Records(log), log.getEffectiveLevel(), _nowhere)
        if not any(isinstance(one, logging.NullHandler) for one in log.handlers):
            log.addHandler(logging.NullHandler())


def _nowhere(_line: bytes) -> None:
    """Write nothing: the record has the line."""


def shows(move: Move) -> bool:
    """Whether transitions by this move are logged."""
    return LEVELS.get(move, logging.INFO) >= _log.level


def transition(record: Transition) -> None:
    """Log one transition of an entry."""
    level = LEVELS.get(record.move, logging.INFO)
    if level >= (to := _log).level:
        if record.detail and to.repeats is not None:
            now = time.monotonic()
            if now >= to.repeats.due:
                _sum_up(to, to.repeats, now)
            if not to.repeats.in_full(record, now):
                return
        if record.printed is not None:
            _printed(record, record.printed)
        to.write(to.lines.transition(time.time(), level, record))


def printed_line(text: str) -> None:
    """Log a line that something in this process printed, no command of an entry."""
    event("", "output", text)


def tick() -> None:
    """Log the summaries of repeated lines that are due; the daemon's thread calls this."""
    repeats = _log.repeats
    if repeats is not None and repeats.due < math.inf and repeats.due <= time.monotonic():
        _sum_up(_log, repeats, time.monotonic())


def end() -> None:
    """Log the summaries of all repeated lines: no line follows that would."""
    if _log.repeats is not None:
        _sum_up(_log, _log.repeats, math.inf)


def _sum_up(to: Log, repeats: Repeats, now: float) -> None:
    for (queue, move, reason), count, seconds in repeats.ended(now):
        entries = f"{counted(count, 'more entry', 'more entries')} within {round(seconds)} s"
        words = SUMMED_UP.get(move, MOVES[move])
        level = LEVELS.get(move, logging.INFO)
        detail = f"{entries} {words}: {reason}"
        to.write(to.lines.event(time.time(), level, queue, "repeated", detail))


def _printed(record: Transition, printed: tuple[str, str]) -> None:
    """Log what the handler printed: standard error of a handled entry at debug, else at info."""
    of_stderr = logging.DEBUG if record.move is Move.FINISH else logging.INFO
    for stream, level, text in zip(
        ("stdout", "stderr"), (logging.INFO, of_stderr), printed, strict=True
    ):
        if level >= _log.level:
            for line in lines_of(text):
                _log.write(_log.lines.printed(time.time(), level, record, (stream, line)))


def event(queue: str, name: str, detail: str, level: int = logging.INFO) -> None:
    """Log something that happened to a queue: armed, unhealthy, recovered, status."""
    if level >= _log.level:
        _log.write(_log.lines.event(time.time(), level, queue, name, detail))


def last_event(name: str, detail: str) -> None:
    """Log an event of the daemon, which is about to exit, unless that would block.

    A signal handler calls this, so it takes no lock: this thread may hold the log's.
    """
    last_words(_log.lines.event(time.time(), logging.WARNING, "", name, detail))


def last_words(words: bytes) -> None:
    """Write to standard error unless that would block; for a process that is about to exit."""
    if has_room(_log.fd, 0.0):
        with contextlib.suppress(OSError):
            os.write(_log.fd, words)


def _is_journal(fd: int) -> bool:
    """Whether a descriptor is the connection to systemd's journal, as systemd.exec(5) says."""
    try:
        device, _, inode = os.environ["JOURNAL_STREAM"].partition(":")
        found = os.fstat(fd)
        return (found.st_dev, found.st_ino) == (int(device), int(inode))
    except (KeyError, ValueError, OSError):
        return False


class _Bugs(logging.Handler):
    """Writes what `log.exception` says to the log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        traceback = ""
        if record.exc_info:
            traceback = logging.Formatter().formatException(record.exc_info)
        _log.write(_log.lines.bug(record.created, record.getMessage(), traceback))
