"""Tell people and machines what happens: one line a transition, as text or as JSON.

Text:  2026-11-23 07:00:00.123 incoming: 1017783548.1+ab.pck finish -> done in 12 ms
JSON:  {"time": ..., "level": "info", "event": "finish", "queue": "incoming", "entry": ..., ...}

Guarantees: one line a record whatever an entry is called; nothing here raises into a stage, and a
log that nobody reads (a full pipe, a stopped terminal) holds no stage up: after `PATIENCE` seconds
lines are dropped, and how many is said once there is room again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import time

from watcher.errors import one_line
from watcher.lifecycle import Move, Transition
from watcher.spool.layout import display

log = logging.getLogger("watcher")

PATIENCE = 1.0  # seconds
LONG = 10.0  # seconds: beyond, milliseconds say nothing

_LEVELS = {
    Move.CLAIM: logging.DEBUG,
    Move.REJECT: logging.WARNING,
    Move.ABANDON: logging.WARNING,
    Move.RELEASE: logging.WARNING,
}


def setup(style: str = "text", level: str = "info") -> None:
    """Send the log to standard error; `style` is "text" or "json", `level` a name of logging's."""
    handler = _Stderr()
    handler.setFormatter(Json() if style == "json" else Text())
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False
    logging.raiseExceptions = False  # a full disk under the log must not stop the queue


def shows(move: Move) -> bool:
    """Whether transitions by this move are logged."""
    return log.isEnabledFor(_LEVELS.get(move, logging.INFO))


def transition(record: Transition) -> None:
    """Log one transition of an entry."""
    level = _LEVELS.get(record.move, logging.INFO)
    if log.isEnabledFor(level):
        log.log(
            level,
            "%s",
            record.move.value,
            extra={
                "queue": record.queue,
                "entry": display(record.name),
                "state": record.state.value,
                "detail": record.detail,
                "seconds": record.seconds,
            },
        )


def event(queue: str, name: str, detail: str, level: int = logging.INFO) -> None:
    """Log something that happened to a queue: armed, overflow, trouble, sweep."""
    log.log(level, "%s", name, extra={"queue": queue, "detail": detail})


def last_words(words: bytes) -> None:
    """Write to standard error if that can be done at once; for a process about to exit."""
    if _has_room(2, 0.0):
        with contextlib.suppress(OSError):
            os.write(2, words)


def _has_room(fd: int, seconds: float) -> bool:
    """Whether some 4096 bytes can be written without waiting longer than this."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


class _Stderr(logging.Handler):
    """Writes to standard error, never waiting for long."""

    def __init__(self) -> None:
        super().__init__()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or drop it; logging holds our lock."""
        try:
            if not _has_room(2, 0.0 if self._dropped else PATIENCE):
                self._dropped += 1
                return
            if self._dropped:
                lost, self._dropped = self._dropped, 0
                event("", "log", f"{lost} lines were dropped: nobody read them")
            os.write(2, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)


class Text(logging.Formatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        """Put a record on one line."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        stamp = f"{stamp}.{int(record.msecs):03d}"
        queue = getattr(record, "queue", "")
        entry = getattr(record, "entry", "")
        detail = one_line(getattr(record, "detail", "") or _traceback(record))
        what = record.getMessage()
        words = f"{stamp} {queue + ': ' if queue else ''}"
        if not entry:
            return words + what + (f": {detail}" if detail else "")
        words += f"{entry} {what} -> {getattr(record, 'state', '')}"
        if seconds := getattr(record, "seconds", 0.0):
            words += f" in {seconds * 1000:.0f} ms" if seconds < LONG else f" in {seconds:.1f} s"
        return words + (f": {detail}" if detail else "")


class Json(logging.Formatter):
    """For machines."""

    def format(self, record: logging.LogRecord) -> str:
        """Put a record on one line as a JSON object."""
        fields: dict[str, object] = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        for key in ("queue", "entry", "state", "detail", "seconds"):
            if value := getattr(record, key, None):
                fields[key] = value
        if traceback := _traceback(record):
            fields["traceback"] = traceback
        return json.dumps(fields)


def _traceback(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
