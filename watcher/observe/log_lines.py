"""The lines of the log, as text for people and as JSON for programs: PURE, but for the time zone.

    text      2026-11-23 07:00:00.123 incoming: NAME handled in 9 ms, delay=0.0123 delays=0/...
    journal   <6>incoming: NAME handled in 9 ms, ...
    JSON      {"time": 1795417200.123, "level": "info", "event": "finish", "queue": "incoming", ...}

docs/log.md lists the events, the words and the fields, and a test compares it with `MOVES`,
`EVENTS` and `FIELDS`.
Guarantees: each line is one line, printable and encodable, whatever a name or a reason holds.
Fails: never.
"""

from __future__ import annotations

import json
import logging
import time

from watcher.errors import one_line
from watcher.rules.delays import Delays
from watcher.rules.lifecycle import Move, Transition
from watcher.rules.names import display

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
# The same of many entries, if it does not fit them.
SUMMED_UP = {Move.DEFER: "failed, will be tried again", Move.RELEASE: "are back in the queue"}
# What the text log says of a queue, for each event whose JSON name is not an operator's word.
EVENTS = {
    "armed": "watching",
    "behind": "catching up",
    "mind": "warning",
    "waits": "waiting",
}
LEVELS = {
    Move.CLAIM: logging.DEBUG,
    Move.REJECT: logging.WARNING,
    Move.ABANDON: logging.WARNING,
    Move.RELEASE: logging.WARNING,
}
# The keys of a JSON line, in their order. The first three are always there, the others where known.
FIELDS = {
    "time": "seconds since 1970",
    "level": "debug, info, warning or error",
    "event": "what happened: a move of an entry, or an event of a queue",
    "queue": "the queue's name",
    "entry": "the entry's name; unprintable bytes as escapes",
    "state": "the entry's state after the move",
    "detail": "why, or what exactly",
    "seconds": "how long the handler took",
    "attempt": "which attempt at the entry this was; 1 is the first",
    "delay": "seconds from the commit to the end of this attempt",
    "earlier": "the part of it before this attempt was due: earlier attempts and their delays",
    "wait": "the part of it from due to claimed",
    "settle": "the part of it that the journal and the unlink or move took",
    "next_try": "when the next attempt is due, in seconds since 1970",
    "key": "the entry's key, if it was computed",
    "process": "the process ID of the handler's command or worker process",
    "stream": "stdout or stderr: where the handler printed the line",
    "traceback": "of an error in this program",
}
_FINISHED = b"%b%b: %b handled in %d ms, delay=%.4f delays=0/%.4f/%.4f/%.4f\n"
_SAFELY = ("utf-8", "backslashreplace")
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"\\')


def clock_time(when: float) -> str:
    """Return the local time of `when` (seconds since the epoch); with its date if not today."""
    then = time.localtime(when)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


class Text:
    """For people; `journal`: for journald, which has its own time and reads the priority."""

    def __init__(self, *, journal: bool = False) -> None:
        self._journal = journal
        self._second = (-1, b"")  # the second that was formatted last

    def _head(self, now: float, level: int) -> bytes:
        if self._journal:
            return b"<%d>" % _PRIORITY.get(level, 3)
        second, stamp = self._second
        past = now - second
        if not 0 <= past < 1:
            second = int(now)
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)).encode()
            self._second, past = (second, stamp), now - second
        return b"%b.%03d " % (stamp, int(past * 1000))

    def event(self, now: float, level: int, queue: str, name: str, detail: str) -> bytes:
        """Return the line of an event of a queue, or of the daemon (`queue` is then "")."""
        return self._line(now, level, queue, EVENTS.get(name, name), detail)

    def bug(self, now: float, words: str, traceback: str) -> bytes:
        """Return the line of an error in this program."""
        return self._line(now, logging.ERROR, "", words, traceback)

    def transition(self, now: float, level: int, record: Transition) -> bytes:
        """Return the line of a transition."""
        delays, name = record.delays, record.name
        if (
            record.move is Move.FINISH
            and delays is not None
            and record.attempt == 1
            and not record.detail
            and not name.translate(None, _PLAIN)
        ):
            _, wait, handler, settle = delays
            if handler < LONG:  # the usual line, quickly
                head, queue = self._head(now, level), record.queue.encode(*_SAFELY)
                took, total = int(handler * 1000), wait + handler + settle
                return _FINISHED % (head, queue, name, took, total, wait, handler, settle)
        words = f"{display(name)} {_words(record)}{_took(record)}{_numbers(record)}"
        return self._line(now, level, record.queue, words, record.detail)

    def printed(self, now: float, level: int, record: Transition, what: tuple[str, str]) -> bytes:
        """Return the line of what a handler printed: `what` is the stream and the text."""
        stream, text = what
        return self._line(now, level, record.queue, f"{display(record.name)} {stream}", text)

    def _line(self, now: float, level: int, queue: str, words: str, detail: str) -> bytes:
        text = f"{queue}: " if queue else ""
        text += one_line(f"{words}: {detail}" if detail else words)
        return self._head(now, level) + text.encode(*_SAFELY) + b"\n"


def _words(record: Transition) -> str:
    """Return what the text says of a move."""
    if record.place and record.move is Move.REJECT:
        return f"moved to {record.place}"
    if record.next_try is None:
        return MOVES[record.move]
    return NEXT_TRY.format(clock_time(record.next_try))


def _took(record: Transition) -> str:
    """Return how long the handler took, or ""."""
    seconds = record.seconds
    if not seconds:
        return ""
    shown = f"{seconds * 1000:.0f} ms" if seconds < LONG else f"{seconds:.1f} s"
    return f" in {shown}" if record.move is Move.FINISH else f" (after {shown})"


def _numbers(record: Transition) -> str:
    """Return the attempt and the delays of an attempt that ended, or ""."""
    delays = record.delays
    if delays is None:
        return ""
    attempt = f" attempt={record.attempt}" if record.attempt > 1 else ""
    parts = "/".join(_decimal(part) for part in delays)
    return f",{attempt} delay={_decimal(delays.total)} delays={parts}"


def _decimal(seconds: float) -> str:
    return f"{seconds:.4f}" if seconds else "0"


class Json:
    """For programs; `journal`: with the priority in front, which journald takes off."""

    def __init__(self, *, journal: bool = False) -> None:
        self._journal = journal
        self._queues: dict[str, bytes] = {}  # each name as JSON

    def event(self, now: float, level: int, queue: str, name: str, detail: str) -> bytes:
        """Return the line of an event of a queue, or of the daemon (`queue` is then "")."""
        return self._line(now, level, {"event": name, "queue": queue, "detail": detail})

    def bug(self, now: float, words: str, traceback: str) -> bytes:
        """Return the line of an error in this program."""
        return self._line(now, logging.ERROR, {"event": words, "traceback": traceback})

    def transition(self, now: float, level: int, record: Transition) -> bytes:
        """Return the line of a transition."""
        usual = record.move is Move.FINISH and not record.detail
        if usual and record.delays is not None and not record.name.translate(None, _PLAIN):
            return self._finished(now, level, record, record.delays)  # quickly
        fields: dict[str, object] = {
            "event": record.move.value,
            "queue": record.queue,
            "entry": display(record.name),
            "state": record.state.value,
            "detail": record.detail,
            "seconds": round(record.seconds, 6),
            "attempt": record.attempt,
        }
        if record.delays is not None:
            fields |= _delay_fields(record.delays)
        if record.next_try is not None:
            fields["next_try"] = record.next_try
        fields |= {"key": record.key, "process": record.process}
        return self._line(now, level, fields)

    def printed(self, now: float, level: int, record: Transition, what: tuple[str, str]) -> bytes:
        """Return the line of what a handler printed: `what` is the stream and the text."""
        stream, text = what
        entry = display(record.name)
        fields = {"event": "output", "queue": record.queue, "entry": entry, "detail": text}
        return self._line(now, level, fields | {"attempt": record.attempt, "stream": stream})

    def _finished(self, now: float, level: int, record: Transition, delays: Delays) -> bytes:
        queue = self._queues.get(record.queue)
        if queue is None:
            queue = self._queues[record.queue] = json.dumps(record.queue).encode("ascii")
        tail = f', "key": "{record.key}"'.encode("ascii") if record.key else b""
        if record.process is not None:
            tail += b', "process": %d' % record.process
        return (
            b'%b{"time": %.6f, "level": "info", "event": "finish", "queue": %b, "entry": "%b",'
            b' "state": "done", "seconds": %.6f, "attempt": %d, "delay": %.6f, "earlier": %.6f,'
            b' "wait": %.6f, "settle": %.6f%b}\n'
        ) % (
            *(b"<%d>" % _PRIORITY[level] if self._journal else b"", now, queue, record.name),
            *(record.seconds, record.attempt, delays.total, *delays[:2], delays.settle, tail),
        )

    def _line(self, now: float, level: int, fields: dict[str, object]) -> bytes:
        head = f"<{_PRIORITY.get(level, 3)}>" if self._journal else ""
        first = {"time": round(now, 6), "level": logging.getLevelName(level).lower()}
        # A delay of 0 is a fact, an empty text is not.
        known = {key: value for key, value in fields.items() if value or key in _NUMBERS}
        return f"{head}{json.dumps(first | known)}\n".encode("ascii")


_NUMBERS = {"delay", "earlier", "wait", "settle"}


def _delay_fields(delays: Delays) -> dict[str, object]:
    return {
        "delay": round(delays.total, 6),
        "earlier": round(delays.earlier, 6),
        "wait": round(delays.wait, 6),
        "settle": round(delays.settle, 6),
    }
