"""The history of an entry as sentences, for people. PURE.

Fails: never.
"""

from __future__ import annotations

import datetime as dt
import time

from watcher.durations import show
from watcher.inspect.entry_lives import Life, is_attempt
from watcher.inspect.list_entries import EntryInfo
from watcher.inspect.state_paths import schedule_text
from watcher.spool.attempt_detail import parse_detail
from watcher.spool.journal_line import ACCEPT, Line

_ATTEMPTS = {b"finish": "handled", b"defer": "failed", b"reject": "failed, moved to dead/"}
_MOVES = {
    (b"claimed", b"release"): "back where it was: the step before could not be made",
    (b"held", b"release"): "released",
    (b"ready", b"hold"): "held",
    (b"deferred", b"hold"): "held, out of deferred/",
    (b"dead", b"requeue"): "requeued, out of dead/",
    (b"deferred", b"requeue"): "requeued, out of deferred/",
    (b"orphan", b"requeue"): "requeued, out of orphans/",
    (b"done", b"requeue"): "requeued, out of the archive",
    (b"arriving", b"abandon"): "incomplete, moved to orphans/",
    (b"deferred", b"abandon"): "incomplete, moved to orphans/",
    (b"ready", ACCEPT.encode()): "its loss was accepted",
    (b"orphan", b"reunite"): "complete again: its other half is here",
}
_TEENS = range(11, 14)
_ENDINGS = {1: "st", 2: "nd", 3: "rd"}
UNKNOWN = "the journal does not say when it was committed"


def local_time(seconds: float) -> str:
    """Return a time as text, in this machine's time zone."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def ordinal(number: int) -> str:
    """Return "1st", "2nd" and so on."""
    ending = "th" if number % 100 in _TEENS else _ENDINGS.get(number % 10, "th")
    return f"{number}{ending}"


def step_text(line: Line) -> str:
    """Return what one line says, without its time."""
    said = parse_detail(line.detail)
    if not is_attempt(line):
        what = _MOVES.get((line.state, line.move), line.move.decode("ascii", "replace") + "d")
        if said.text.startswith("by "):
            return f"{what} {said.text}"
        return what + (f": {said.text}" if said.text else "")
    what = _ATTEMPTS[line.move]
    if line.move == b"defer" and said.attempt is None:
        what = "put into deferred/"  # an older version's line does not say why
    words = what if said.attempt is None else f"attempt {said.attempt}: {what}"
    if said.took is not None and said.wait is not None:
        words += f" (took {show(said.took)}, waited {show(said.wait)})"
    words += f": {said.text}" if said.text else ""
    return words + ("" if said.next_in is None else f"; next attempt in {show(said.next_in)}")


def written_by(line: Line, host: bytes | None) -> str:
    """Return which process wrote a line, and on which host if that is known."""
    where = "" if host is None else f" on {host.decode('ascii', 'backslashreplace')}"
    return f"process {line.pid}{where}"


def taken_text(line: Line) -> str:
    """Return what a line `vanish` says: an event named a file, and no worker found it."""
    return (
        f"taken: a worker came for a file of this name at {local_time(line.time)}, and it was gone:"
        " another program took or renamed it"
    )


def outcome(life: Life | None, here: EntryInfo | None, now: float | None = None) -> str:
    """Return what became of an entry, in one sentence."""
    if life is None:
        return f"{_place(here)}; the journal has no line about it" if here is not None else "gone"
    last = life.last
    if here is not None:
        if life.ended:
            return f"{_place(here)}, though the journal says that it has ended: see the last step"
        now = time.time() if now is None else now
        ago = "" if life.committed is None else f"; committed {show(now - life.committed)} ago"
        return _place(here) + ago
    when = local_time(last.time)
    if life.joined:
        return f"joined the other half of its pair on {when}"
    if last.move == b"finish" and life.ended:
        return f"handled on {when}{_at_attempt(life)}{_after(life, last.time)}"
    if last.move == b"delete" and life.ended:
        by = parse_detail(last.detail).text
        return f"deleted on {when}{f' {by}' if by else ''}{_after(life, last.time)}"
    gone = (
        f"gone: no line since {when} says that it was handled or deleted, and no directory of the"
        " queue has its file: another program took or renamed it"
    )
    return gone + ("; its loss was accepted" if life.accepted else "")


def _place(info: EntryInfo) -> str:
    """Return the state of an entry on the disk, its schedule, and the reason."""
    words = f"{info.state.value} now"
    if info.schedule is not None:
        words += f", {schedule_text(info.schedule, info.state)}"
    return words + (f": {' '.join(info.why.split())}" if info.why else "")


def _at_attempt(life: Life) -> str:
    """Return at which attempt an entry was handled; "" if the lines do not say."""
    count, said = life.attempts, parse_detail(life.last.detail).attempt
    if not count:
        return ""
    words = f" at the {ordinal(count)} attempt"
    if said is not None and said != count:
        words += f", the {ordinal(said)} since it was requeued"
    return words


def _after(life: Life, moment: float) -> str:
    if life.committed is None:
        return f"; {UNKNOWN}"
    return f", {show(max(0.0, moment - life.committed))} after its commit"
