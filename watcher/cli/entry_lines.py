"""The lines of `watcher list`: whole in a pipe, a table that fits on a terminal. PURE.

In a pipe a line has everything that is known of an entry, and each name whole: programs read it. On
a terminal a line has at most the terminal's width. There a name that is too long loses its middle,
because its beginning tells it from others (commands take a beginning) and its end shows its type.
Guarantees: no line of a table is wider than the terminal, also with characters of two columns.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from watcher.durations import show
from watcher.errors import counted, one_line
from watcher.inspect.list_entries import EVERYTHING, EntryInfo
from watcher.inspect.state_paths import schedule_text
from watcher.rules.lifecycle import State, state_word
from watcher.rules.names import display

NARROWEST = 60  # columns: a narrower terminal breaks the lines
HEADING = "STATE        AGE   SIZE  "
_CUT = "…"
_SHORTEST_NAME = 24
_UNITS = ("", "K", "M", "G", "T", "P")
_KILO = 1024
_ROUNDED = ((864_000, 86400), (86400, 3600), (3600, 60))  # seconds: from this age on, to this unit


def whole_line(found: EntryInfo) -> str:
    """Return the line of an entry in a pipe, of any length."""
    files = "1 file " if len(found.files) == 1 else f"{len(found.files)} files"
    why = one_line("; ".join(_known(found)))
    line = (
        f"{state_word(found.state):<9}{show(found.age):>8}{found.size:>11}  {files}  "
        f"{display(found.name)}"
    )
    return f"{line}  {why}" if why else line


class Table:
    """The lines of a table for one width of a terminal."""

    def __init__(self, width: int) -> None:
        self._room = max(width, NARROWEST) - len(HEADING)  # columns for name and reason

    def heading(self) -> str:
        """Return the line above the entries."""
        return f"{HEADING}ENTRY"

    def line(self, found: EntryInfo) -> str:
        """Return the line of an entry."""
        name, why = display(found.name), one_line("; ".join(_known(found)))
        if len(found.files) > 1:
            why = f"{len(found.files)} files" + (f"; {why}" if why else "")
        state, age = state_word(found.state), short_age(found.age)
        start = f"{state:<9}{age:>7} {short_size(found.size):>6}  "
        if not why:
            return start + shortened(name, self._room)
        name = shortened(name, max(_SHORTEST_NAME, self._room // 2, self._room - 2 - _cells(why)))
        left = self._room - _cells(name) - 2
        return f"{start}{name}  {_begin(why, left)}"


def summed(counts: dict[State, int]) -> str:
    """Return the line below the entries: how many of which state."""
    parts = [f"{counts[state]} {state_word(state)}" for state in ORDER if counts.get(state)]
    total = counted(sum(counts.values()), "entry", "entries")
    return total if len(parts) < 2 else f"{total}: {', '.join(parts)}"  # noqa: PLR2004 - one state


ORDER = (*EVERYTHING, State.DONE)


def sort_key(found: EntryInfo) -> tuple[int, float, bytes]:
    """Return a key that sorts by state, then the deferred by due time and all others by age."""
    if found.state is State.DEFERRED and found.schedule is not None:
        return ORDER.index(found.state), found.schedule.due_ms, found.name
    return ORDER.index(found.state), -found.age, found.name


def short_age(seconds: float) -> str:
    """Return an age in one unit or in two that follow each other, such as 3d2h."""
    unit = next((unit for least, unit in _ROUNDED if seconds >= least), 1)
    return show(seconds // unit * unit if seconds >= 1 else seconds)


def short_size(size: int) -> str:
    """Return a size in at most five characters, such as 812, 4.0K or 256M."""
    amount = float(size)
    for unit in _UNITS:
        if amount < 999.5 or unit == _UNITS[-1]:  # noqa: PLR2004 - what three digits can show
            few = unit and amount < 9.95  # noqa: PLR2004 - one digit, and one behind the point
            return f"{amount:.1f}{unit}" if few else f"{amount:.0f}{unit}"
        amount /= _KILO
    return ""


def shortened(text: str, room: int) -> str:
    """Return text in at most `room` columns; one that is too long loses its middle."""
    if _cells(text) <= room:
        return text
    tail = _begin(text[::-1], (room - 1) // 4, "")[::-1]
    return _begin(text, room - 1 - _cells(tail), "") + _CUT + tail


def _begin(text: str, room: int, cut: str = _CUT) -> str:
    """Return the beginning of text in at most `room` columns."""
    if _cells(text) <= room:
        return text
    used, kept = len(cut), []
    for character in text:
        used += _cells(character)
        if used > room:
            break
        kept.append(character)
    return "".join(kept).rstrip() + cut


def _cells(text: str) -> int:
    """Return how many columns text needs on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def _known(found: EntryInfo) -> Iterator[str]:
    """Yield an entry's schedule, the reason for its state, and the operator that held it."""
    if found.schedule is not None:
        yield schedule_text(found.schedule, found.state)
    if found.why:
        yield " ".join(found.why.split())
    attempts = found.note.get("attempts")
    if found.schedule is None and isinstance(attempts, int) and attempts > 1:
        yield f"{attempts} attempts"
    by = found.note.get("by")
    if isinstance(by, dict) and found.state.value == "held" and found.schedule is not None:
        yield f"held by {by.get('user')}"
