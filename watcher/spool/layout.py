"""Names: what a file in a queue directory is, by its name alone. PURE.

    NAME.pck              an entry (or NAME + suffix, in the raw format)
    NAME.db + NAME.msg    a legacy pair; also NAME.pck + NAME.db (Mailman 2.1.0 to 2.1.4)
    *.tmp  .*             being written: never touched
    *.bak  *.psv          a Mailman runner's backup and preserved file: reported, never touched
    anything else         foreign: never touched

Names are bytes and may be anything but NUL and '/'. An entry is known inside the program by the
name of its message's file (`X.pck`, `X.msg`, `report.csv`), which no two entries of a queue share;
people are shown the stem, which design section 4 calls NAME.
"""

from __future__ import annotations

import enum
import os
import re
from typing import NamedTuple

from watcher.lifecycle import State

OURS = b".watcher"
STATE_DIRECTORIES = {
    State.DEFERRED: b"deferred",
    State.HELD: b"held",
    State.DEAD: b"dead",
    State.ORPHAN: b"orphans",
}
INFLIGHT = b"inflight"
DEFERRED = b"deferred/"  # in front of a name that is in deferred/ and not in the queue
_DRAWN = re.compile(rb"(?:[0-9]+\.[0-9]+\+)?[0-9a-f]{40}\.(?:pck|msg|db)")
NAME_MAX = 255  # bytes, limits.h; every local Linux file system has it


class Kind(enum.Enum):
    """What a name in a queue directory stands for."""

    ENTRY = "entry"
    MESSAGE_HALF = "message half"
    METADATA_HALF = "metadata half"
    TEMPORARY = "being written"
    LEFTOVER = "Mailman's leftover"
    FOREIGN = "foreign"


class Layout(NamedTuple):
    """How the names of one queue are read."""

    suffix: bytes = b".pck"
    raw: bool = False
    legacy: bool = False

    def kind(self, name: bytes) -> Kind:
        """Say what the file called `name` is, by its name alone."""
        if name[:1] == b"." or name.endswith(b".tmp"):
            return Kind.TEMPORARY
        if name.endswith(self.suffix):
            return Kind.ENTRY
        if self.legacy and name.endswith(b".msg"):
            return Kind.MESSAGE_HALF
        if self.legacy and name.endswith(b".db"):
            return Kind.METADATA_HALF
        if not self.raw and name.endswith((b".bak", b".psv")):
            return Kind.LEFTOVER
        return Kind.FOREIGN

    def stem(self, name: bytes) -> bytes:
        """Return NAME: the entry's name without the suffix of its file."""
        if self.suffix and name.endswith(self.suffix):
            return name[: -len(self.suffix)]
        for suffix in (b".msg", b".db"):
            if self.legacy and name.endswith(suffix):
                return name[: -len(suffix)]
        return name

    def as_put_away(self) -> Layout:
        """Return how names are read in our directories: a pair is one, whatever is served now."""
        return self if self.raw or self.legacy else self._replace(legacy=True)

    def drawn(self, name: bytes) -> bool:
        """Whether a name is one that its writer drew and never uses again.

        Mailman's are, of every age, and those of `enqueue`: a SHA-1 of the message and the moment.
        """
        return not self.raw and _DRAWN.fullmatch(name) is not None

    def metadata_half(self, name: bytes) -> bytes:
        """Return the name of the `.db` that belongs to the message file `name`."""
        return self.stem(name) + b".db"

    def message_halves(self, name: bytes) -> tuple[bytes, bytes]:
        """Return the names under which the message of the `.db` called `name` may lie."""
        stem = self.stem(name)
        return stem + b".msg", stem + b".pck"


def display(name: bytes) -> str:
    """Show a name on one line, whatever its bytes: control and undecodable ones as escapes."""
    text = name.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def stored(stem: bytes, suffix: bytes, number: int) -> bytes:
    """Return the `number`th name to try for a file of ours, so that none overwrites another.

    The first is the file's own name; then NAME~1, NAME~2 and so on; a NAME too long to carry the
    number, or to have NAME.json beside it, is cut, and the rest of it is in the JSON file.
    """
    mark = b"~%d" % number if number else b""
    room = NAME_MAX - max(len(suffix), len(b".json"))
    if len(stem) + len(mark) < room or (mark and len(stem) + len(mark) == room):
        return stem + mark + suffix
    mark = mark or b"~0"  # a name of full length always carries its number: no two are the same
    return stem[: room - len(mark)] + mark + suffix


def note_of(name: bytes, layout: Layout) -> bytes:
    """Return the name of the note beside the file `name` in a directory of a state.

    Where an entry's own name may end in .json, nothing in a name tells a note from an entry but a
    dot in front: no entry has one.
    """
    if layout.raw:
        name = name.removesuffix(layout.suffix) if layout.suffix else name
        hidden = b"." if not layout.suffix or layout.suffix.endswith(b".json") else b""
        return (hidden + name)[: NAME_MAX - len(b".json")] + b".json"
    return name.rpartition(b".")[0] + b".json"


def is_stored(name: bytes, layout: Layout) -> bool:
    """Whether a file in a directory of a state is an entry's, by its name: nothing else has one."""
    return layout.as_put_away().kind(name) is not Kind.TEMPORARY and not is_note(name, layout)


def is_metadata(name: bytes, layout: Layout) -> bool:
    """Whether a file in a directory of a state is a `.db`, by its name."""
    return name.endswith(b".db") and not layout.raw


def is_note(name: bytes, layout: Layout) -> bool:
    """Whether a file explains an entry, by its name: where entries may end so, notes are hidden."""
    return name.endswith(b".json") and not (layout.raw and name.endswith(layout.suffix))


def fits(stem: bytes) -> bool:
    """Whether a file of this stem keeps its own name in a state directory."""
    return len(stem) + len(b".json") < NAME_MAX


def text(name: bytes) -> str:
    """Return the name as Python text from which os.fsencode gives the same bytes back."""
    return os.fsdecode(name)
