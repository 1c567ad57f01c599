"""One line of the journal: how it is written and how it is read (docs/spool-format.md). PURE.

    1763895193.250113 4711 claimed defer 1315862@1763895193250113000 NAME.pck detail

Guarantees: a line has printable ASCII only, so a name with a newline is still one line. Parsing
returns exactly what was written. A write that was cut short leaves no valid line: the next append
begins with `MARK`, whose `%` ends that line, and no valid line ends with `%`.
Fails: `parse_line` returns None for any other line: odd bytes, numbers out of range, a state that
has no such move.
"""

from __future__ import annotations

import functools
import os
import re
from typing import NamedTuple

from watcher.rules.lifecycle import TABLE, Move, State

MARK = b"%\n"  # before each append: it makes a line that was cut short invalid
LONGEST = 1 << 14  # bytes of a line
LONGEST_DETAIL = 1_000  # bytes
LATEST = 253_402_300_799.0  # seconds: the end of the year 9999
PUT_AWAY = (State.DEFERRED, State.HELD, State.DEAD, State.ORPHAN)
NO_MOVE = (b"carried", b"before")  # words that only say that an entry exists, and where
JOINS = (b"reunite", b"requeue", b"release")  # by these half of a pair joins its message again
_AFTER = {move.value.encode(): state for (_, move), state in TABLE.items()}
PUTS_AWAY = {word: state for word, state in _AFTER.items() if state in PUT_AWAY}
ENDS = tuple(word for word, state in _AFTER.items() if state in (State.DONE, State.REMOVED))
_ODD = re.compile(rb"[^!-$&-~]")
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("%"))
_ODD_IN_DETAIL = re.compile(rb"[^ -$&-~]")
_HEX = re.compile(rb"%([0-9A-F]{2})")
_LINE = re.compile(
    rb"([0-9]{1,12}\.[0-9]{1,9}) ([0-9]{1,10}) ([a-z]+ [a-z_]+) ([0-9]{1,20})(?:@([0-9]{1,20}))?"
    rb" ([!-~]+)(?: ([ -~]*))?\n"
)
_LOSS = re.compile(rb"loss of ([0-9]{1,12}\.[0-9]{1,9})(?:[ ;]|\Z)")
_EVENT_TIME = re.compile(rb"heard of at ([0-9]{1,12}\.[0-9]{1,9})")
_MOST = 1 << 64
ACCEPT = "accept"  # an operator accepts the loss of an entry
_ABOUT_NONE = ("vanish", "unnamed", "lost", "late", "begin", "host", ACCEPT)  # lead to no state
_words: dict[tuple[State, Move | str], bytes] = {}
_process = [os.getpid()]  # kept, because getpid is a system call


def _in_child() -> None:
    _process[0] = os.getpid()


os.register_at_fork(after_in_child=_in_child)


class Line(NamedTuple):
    """One line of the journal."""

    time: float
    pid: int
    state: bytes
    move: bytes
    inode: int
    name: bytes
    detail: bytes
    birth: int | None = None  # ns; None: not asked for; 0: the file system does not say

    def __str__(self) -> str:
        what = f"{moment(self.time)}: {self.state.decode()} {self.move.decode()}"
        what += f", by process {self.pid}"
        detail = self.detail.decode("ascii", "replace")
        event_time = event_time_in(self.detail)
        if event_time is not None and event_time <= LATEST:
            detail = f"its event was read at {moment(event_time)}"
        return what + (f": {detail}" if detail else "")


def event_time_in(detail: bytes) -> float | None:
    """Return the time of the event (seconds since the epoch) from the detail of a `vanish` line."""
    found = _EVENT_TIME.fullmatch(detail)
    return float(found[1]) if found else None


def accept_detail(lost: Line, by: str, why: str = "") -> str:
    """Return the detail of a line `accept`: which loss is accepted, by whom, and why."""
    return f"loss of {lost.time:.6f} by {by}" + (f": {why}" if why else "")


def accepted_time(detail: bytes) -> float | None:
    """Return the time of the last line of the entry whose loss a line `accept` accepts."""
    found = _LOSS.match(detail)
    return float(found[1]) if found else None


def moment(seconds: float) -> str:
    """Return a time as text."""
    import datetime as dt

    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(" ", "seconds")


def line_of(  # noqa: PLR0913, PLR0917 - the fields of a line
    now_ns: int,
    state: State,
    move: Move | str,
    inode: int,
    name: bytes,
    detail: str | bytes = "",
    birth: int | None = None,
) -> bytes:
    """Return a line of the journal. PURE, except for this process's number.

    A detail in bytes is written as it is: its caller knows that it is printable ASCII without `%`.
    """
    words = _words.get((state, move))
    if words is None:
        word = move.value if isinstance(move, Move) else move
        words = f"{state.value} {word.replace(' ', '_')}".encode()
        _words[state, move] = words
    if name.translate(None, _PLAIN):  # takes a third of the time of the search
        name = _ODD.sub(_quoted, name)
    seconds, microseconds = divmod(now_ns // 1000, 1_000_000)
    if birth is None and detail.__class__ is bytes:  # the most frequent line
        fields = (seconds, microseconds, _process[0], words, inode, name, detail)
        return b"%d.%06d %d %s %d %s %s\n" % fields
    file = b"%d" % inode if birth is None else b"%d@%d" % (inode, max(birth, 0))
    if not detail:
        return b"%d.%06d %d %s %s %s\n" % (seconds, microseconds, _process[0], words, file, name)
    if isinstance(detail, str):
        text = detail.encode("utf-8", "backslashreplace")[:LONGEST_DETAIL]
        text = _ODD_IN_DETAIL.sub(_quoted, text)
    else:
        text = detail
    head = (seconds, microseconds, _process[0], words)
    return b"%d.%06d %d %s %s %s %s\n" % (*head, file, name, text)


def quoted(name: bytes) -> bytes:
    """Return a name, or the beginning of one, as a line has it."""
    return _ODD.sub(_quoted, name)


def _quoted(odd: re.Match[bytes]) -> bytes:
    return b"%%%02X" % odd[0][0]


def parse_line(raw: bytes) -> Line | None:
    """Return the fields of a line; None if it is not valid."""
    found = _LINE.fullmatch(raw)
    if found is None:
        return None
    time, pid, words, inode, birth, name, detail = found.groups()
    state, _, move = words.partition(b" ")
    seconds, number, born = float(time), int(inode), None if birth is None else int(birth)
    if words not in _known_words() or seconds > LATEST or number >= _MOST or (born or 0) >= _MOST:
        return None
    if b"%" in name:
        name = _unquoted(name)
    detail = _unquoted(detail) if detail else b""
    if name is None or detail is None:
        return None
    return Line(seconds, int(pid), state, move, number, name, detail, born)


def is_mark(raw: bytes) -> bool:
    """Whether a line only separates two appends."""
    return not raw.strip(b"%\n")


@functools.cache
def _known_words() -> frozenset[bytes]:
    known = [(state, move.value) for state, move in TABLE]
    known += [(State.READY, word) for word in (*_ABOUT_NONE, "before")]
    known += [(state, word) for state in PUT_AWAY for word in map(bytes.decode, NO_MOVE)]
    return frozenset(f"{state.value} {word.replace(' ', '_')}".encode() for state, word in known)


def _unquoted(text: bytes) -> bytes | None:
    plain, count = _HEX.subn(lambda found: bytes([int(found[1], 16)]), text)
    return plain if text.count(b"%") == count else None
