"""The log: one line for each transition of an entry and each event of a queue.

Text:  2026-11-23 07:00:00.123 incoming: 1017783548.1+ab handled in 12 ms
JSON:  {"time": ..., "level": "info", "event": "finish", "queue": "incoming", "entry": ..., ...}

The text is for people: `MOVES` and `EVENTS` hold its words, and no other module does. The JSON is
for programs: its event names are the values of `Move` and the names given to `event`; they stay.

Guarantees: each record is one line, whatever the entry's name holds. Logging raises no error into
a stage. A log without a reader (a full pipe, a stopped terminal) does not block a stage: after
`PATIENCE` seconds the log drops lines, and reports their number once there is room again.
Fails: never.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import time

from watcher.errors import one_line
from watcher.rules.lifecycle import Move, Transition
from watcher.rules.names import display

log = logging.getLogger("watcher")

PATIENCE = 1.0  # seconds
LONG = 10.0  # seconds: a longer time is shown without milliseconds

# What the text log says of an entry, for each move.
MOVES = {
    Move.COMMIT: "complete",
    Move.CLAIM: "claimed",
    Move.FINISH: "handled",
    Move.RELEASE: "back in the queue",
    Move.DEFER: "deferred",  # with the time of the next attempt: NEXT_TRY
    Move.FALL_DUE: "due again",
    Move.REJECT: "moved to dead/",
    Move.ABANDON: "incomplete, moved to orphans/",
    Move.REUNITE: "complete again: its other file is here",
    Move.HOLD: "held",
    Move.REQUEUE: "back in the queue, as if for the first time",
    Move.DELETE: "deleted",
}
NEXT_TRY = "failed, next try at {}"
# What the text log says of a queue, for each event whose JSON name is not an operator's word.
EVENTS = {
    "armed": "watching",
    "behind": "catching up",
    "mind": "warning",
    "waits": "waiting",
}

_LEVELS = {
    Move.CLAIM: logging.DEBUG,
    Move.REJECT: logging.WARNING,
    Move.ABANDON: logging.WARNING,
    Move.RELEASE: logging.WARNING,
}


def setup(style: str = "text", level: str = "info") -> None:
    """Send the log to standard error; `style` is "text" or "json", `level` as in `logging`."""
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
                "next_try": record.next_try,
            },
        )


def clock_time(when: float) -> str:
    """Return the local time of `when` (seconds since the epoch); with its date if not today."""
    then = time.localtime(when)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


def event(queue: str, name: str, detail: str, level: int = logging.INFO) -> None:
    """Log something that happened to a queue: armed, unhealthy, recovered, status."""
    log.log(level, "%s", name, extra={"queue": queue, "detail": detail})


def last_words(words: bytes) -> None:
    """Write to standard error unless that would block; for a process that is about to exit."""
    if _has_room(2, 0.0):
        with contextlib.suppress(OSError):
            os.write(2, words)


def _has_room(fd: int, seconds: float) -> bool:
    """Wait until 4096 bytes can be written (PIPE_BUF), at most this long; return whether so."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


class _Stderr(logging.Handler):
    """Writes to standard error; waits `PATIENCE` seconds at most."""

    def __init__(self) -> None:
        super().__init__()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or drop it; `logging` holds this handler's lock."""
        try:
            if not _has_room(2, 0.0 if self._dropped else PATIENCE):
                self._dropped += 1
                return
            if self._dropped:
                lost, self._dropped = self._dropped, 0
                event("", "log", f"{lost} lines were dropped: standard error was full")
            os.write(2, self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:  # noqa: BLE001 - as the handlers of `logging` do
            self.handleError(record)


class Text(logging.Formatter):
    """For people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        stamp = f"{stamp}.{int(record.msecs):03d}"
        queue = getattr(record, "queue", "")
        entry = getattr(record, "entry", "")
        detail = one_line(getattr(record, "detail", "") or _traceback(record))
        name = record.getMessage()
        line = f"{stamp} {queue + ': ' if queue else ''}"
        if entry:
            words = _words(Move(name), getattr(record, "next_try", None))
            line += f"{entry} {words}{_took(record)}"
        else:
            line += EVENTS.get(name, name)
        return line + (f": {detail}" if detail else "")


def _words(move: Move, next_try: float | None) -> str:
    """Return what the text says of a move; `next_try` in seconds since the epoch."""
    return MOVES[move] if next_try is None else NEXT_TRY.format(clock_time(next_try))


def _took(record: logging.LogRecord) -> str:
    """Return how long the handler took, or ""."""
    seconds = getattr(record, "seconds", 0.0)
    if not seconds:
        return ""
    shown = f"{seconds * 1000:.0f} ms" if seconds < LONG else f"{seconds:.1f} s"
    return f" in {shown}" if record.getMessage() == Move.FINISH.value else f" (after {shown})"


class Json(logging.Formatter):
    """For programs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line: a JSON object."""
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
