"""What a file in a queue directory is, by its name alone; which names the watcher gives. PURE.

    NAME.pck              an entry; in the raw format: what `suffix` or `match` names
    NAME.db + NAME.msg    a legacy pair; also NAME.pck + NAME.db (Mailman 2.1.0 to 2.1.4)
    *.tmp  .*             a file that is being written: never touched
    *.bak  *.psv          a Mailman runner's backup and preserved file: reported, never touched
    by `ignore`           in the raw format: other programs' temporary files: never touched
    by `marker`           in the raw format: says that the entry beside it is complete
    by `companions`       in the raw format: says that the entry beside it is not complete
    anything else         foreign: never touched

Names are bytes without NUL and "/". The program knows an entry by the name of its message's file
(`X.pck`, `X.msg`, `report.csv`), which is unique in a queue. People see the stem, which
docs/design.md, "Files on disk", calls NAME: `X`, and in the raw format the whole `report.csv`.
"""

from __future__ import annotations

import functools
import operator
import os
import re
import stat
from collections.abc import Callable
from typing import NamedTuple

from watcher.errors import CannotCreate
from watcher.rules import companions
from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import State
from watcher.rules.patterns import Patterns

OURS = b".watcher"
STATE_DIRECTORIES = {
    State.DEFERRED: b"deferred",
    State.HELD: b"held",
    State.DEAD: b"dead",
    State.ORPHAN: b"orphans",
}
INFLIGHT = b"inflight"
DEFERRED = b"deferred/"  # in front of the name of an entry there, see `Location`
_DRAWN = re.compile(rb"(?:[0-9]+\.[0-9]+\+)?[0-9a-f]{40}\.(?:pck|msg|db)")
_ONE_BY_ONE = 8  # numbers of namesakes
LARGEST_NUMBER = 100_000_000  # the largest NAME~NUMBER; readers accept nine digits
TRIES = 1_000  # names to try for one file, if other processes take each of them first
_NOTE_TAIL = 100  # bytes of a long name's end that its note's name keeps
NAME_MAX = 255  # bytes, limits.h; every local Linux file system has it


class Layout(NamedTuple):
    """The rules by which the names in one queue are read."""

    suffix: bytes = b".pck"
    raw: bool = False
    legacy: bool = False
    hard_links: bool = False  # a file with several names is an entry, too
    match: Patterns | None = None  # raw: which names are entries; None: those with the suffix
    ignore: Patterns | None = None  # raw: names that are never entries, even if `match` fits
    marker: bytes = b""  # raw: the template of the marker's name (`rules.companions`); b"": none
    companions: tuple[bytes, ...] = ()  # raw: templates of files that say "not complete yet"

    def may_be_entry(self, status: os.stat_result) -> bool:
        """Whether the stat is that of a regular file with as many names as `hard_links` allows."""
        if not stat.S_ISREG(status.st_mode):
            return False
        return status.st_nlink == 1 or (self.hard_links and status.st_nlink > 1)

    def kind(self, name: bytes) -> Kind:
        """Return what kind of file `name` is, by its name alone."""
        if (self.marker or self.companions) and (kind := self._companion_kind(name)) is not None:
            return kind
        if name[:1] == b"." or name.endswith(b".tmp"):
            return Kind.TEMPORARY
        if self.ignore is not None and self.ignore.match(name):
            return Kind.IGNORED
        if name.endswith(self.suffix) and (self.match is None or self.match.match(name)):
            return Kind.ENTRY
        if self.legacy and name.endswith(b".msg"):
            return Kind.MESSAGE_HALF
        if self.legacy and name.endswith(b".db"):
            return Kind.METADATA_HALF
        if not self.raw and name.endswith((b".bak", b".psv")):
            return Kind.LEFTOVER
        return Kind.FOREIGN

    def _companion_kind(self, name: bytes) -> Kind | None:
        """Return MARKER or COMPANION for a name that fits a template; None for any other.

        A name that fits is never an entry. It counts only if it is an entry's companion, or would
        be an entry itself.
        """
        own_kind = self.in_state_dir().kind
        templates = [(self.marker, Kind.MARKER)] if self.marker else []
        for template, kind in (*templates, *((each, Kind.COMPANION) for each in self.companions)):
            entry = self._entry_by(template, name)
            if entry is None:
                continue
            if entry == b"" or Kind.ENTRY in (own_kind(entry), own_kind(name)):
                return kind
        return None

    def _entry_by(self, template: bytes, name: bytes) -> bytes | None:
        """Return the entry whose companion `name` is by a template; None if it fits none.

        b"": it fits, but names of several endings have that stem.
        """
        cut = companions.parsed(template)
        middle = cut.middle(name)
        if not middle:
            return None
        if not cut.of_stem:
            return middle
        ending = companions.last_ending(self.suffix)
        return middle + ending if ending else b""

    def marker_of(self, entry: bytes) -> bytes:
        """Return the name of an entry's marker; b"" if the queue has no markers."""
        return companions.parsed(self.marker).name_for(entry) if self.marker else b""

    def companions_of(self, entry: bytes) -> tuple[bytes, ...]:
        """Return the names of the files that say that an entry is not complete."""
        return tuple(companions.parsed(each).name_for(entry) for each in self.companions)

    def entry_beside(self, name: bytes) -> bytes | None:
        """Return the entry whose marker or companion `name` is; None if that is not known."""
        templates = (*((self.marker,) if self.marker else ()), *self.companions)
        found = (self._entry_by(template, name) for template in templates)
        return next((entry for entry in found if entry), None)

    def describe(self) -> str:
        """Say by which rules names are read: another daemon's may differ."""
        which = f"suffix={display(self.suffix)}" if self.match is None else f"match={self.match}"
        words = f"format={'raw' if self.raw else 'mailman'}, {which}"
        return words + (", legacy" if self.legacy else "")

    def stem(self, name: bytes) -> bytes:
        """Return NAME: the entry's name, in Mailman's format without the suffix of its file."""
        if self.raw:
            return name
        if self.suffix and name.endswith(self.suffix):
            return name[: -len(self.suffix)]
        for suffix in (b".msg", b".db"):
            if self.legacy and name.endswith(suffix):
                return name[: -len(suffix)]
        return name

    def split(self, name: bytes) -> tuple[bytes, bytes]:
        """Return the two parts of an entry's file name between which a number may come.

        The name with a number is an entry's name, too: `report~1.csv`.
        """
        if not self.raw:
            stem = self.stem(name)
            return stem, name[len(stem) :]
        ending = self.suffix if self.match is None else self.match.ending_of(name)
        stem = name.removesuffix(ending) if ending else name
        return stem, name[len(stem) :]

    def endings(self) -> list[bytes]:
        """Return what the names of raw entries may end in, as far as the patterns are endings."""
        if not self.raw:
            return []
        return [self.suffix] if self.match is None else list(self.match.endings)

    def key_name(self, stem: bytes) -> bytes:
        """Return the part of NAME that goes into an entry's key.

        In the raw format that is NAME without the suffix, as it was before NAME had the suffix.
        """
        return stem.removesuffix(self.suffix) if self.raw and self.suffix else stem

    def in_state_dir(self) -> Layout:
        """Return the rules for .watcher/: a pair there is one entry even without `legacy`."""
        if self.marker or self.companions:  # no such file is there
            return self._replace(marker=b"", companions=())
        return self if self.raw or self.legacy else self._replace(legacy=True)

    @functools.lru_cache(maxsize=1024)  # noqa: B019 - few layouts, and each stage asks of a name
    def is_unique_name(self, name: bytes) -> bool:
        """Whether the writer never uses the name again: it contains a SHA-1 of message and time.

        The names of every version of Mailman are unique, and so are those of `enqueue`.
        """
        return not self.raw and _DRAWN.fullmatch(name) is not None


# Whether a location (see `Location`) is in deferred/. In C: no Python frame on the hot path.
is_deferred: Callable[[bytes], bool] = operator.methodcaller("startswith", DEFERRED)


class Location(NamedTuple):
    """Where an entry that a worker may claim is: in the queue itself, or in deferred/.

    Workers, timers and results name an entry by the location's bytes: the file's name in the queue,
    or `deferred/NAME`. No file name has a "/", so the two cannot be confused.
    """

    state: State  # READY or DEFERRED
    name: bytes  # of its message's file there

    @classmethod
    def parse(cls, location: bytes) -> Location:
        """Return the location that the bytes stand for."""
        if is_deferred(location):
            return cls(State.DEFERRED, location[len(DEFERRED) :])
        return cls(State.READY, location)


def in_deferred(name: bytes) -> bytes:
    """Return the bytes of the location of the file `name` in deferred/."""
    return DEFERRED + name


def display(name: bytes) -> str:
    """Show a name on one line, whatever its bytes: control and undecodable ones as escapes."""
    text = name.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def numbered_name(stem: bytes, suffix: bytes, number: int) -> bytes:
    """Return the `number`th name to try for a file in .watcher/, so that none overwrites another.

    The first is the file's own name; then NAME~1, NAME~2 and so on. A NAME that leaves no room for
    the number, or for NAME.json beside it, is cut; the JSON file has all of it.
    """
    mark = b"~%d" % number if number else b""
    room = NAME_MAX - max(len(suffix), len(b".json"))
    if len(stem) + len(mark) < room or (mark and len(stem) + len(mark) == room):
        return stem + mark + suffix
    mark = mark or b"~0"  # a cut name always has its number, so no two names are the same
    return stem[: room - len(mark)] + mark + suffix


def free_number(taken: Callable[[int], bool], first: int = 0) -> int:
    """Return the least number from `first` on that is not `taken`, in few calls of `taken`.

    It tries the first eight numbers one by one, then doubles the step until a number is free, and
    then bisects: after twenty thousand namesakes it makes some thirty calls. If a smaller number
    was freed before, the result is free but not the least. Raises CannotCreate if none is free.
    """
    low = first
    while low < first + _ONE_BY_ONE:
        if not taken(low):
            return low
        low += 1
    low -= 1  # the last that is taken
    step = 1
    while taken(high := low + step):
        low, step = high, step * 2
        if low > LARGEST_NUMBER:
            raise CannotCreate("no name is left to put a file away under: remove some of them")
    while high - low > 1:
        middle = (low + high) // 2
        if taken(middle):
            low = middle
        else:
            high = middle
    return high


def note_of(name: bytes, layout: Layout) -> bytes:
    """Return the name of the note beside the file `name` in a directory of a state.

    If an entry's own name may end in .json, its note begins with a dot: no entry's name does. In a
    name that leaves no room for the note's ending, bytes in the middle are left out: a number is at
    the end.
    """
    if not layout.raw:
        return name.rpartition(b".")[0] + b".json"
    hidden = b"." if _hides_notes(layout) else b""
    room = NAME_MAX - len(hidden) - len(b".json")
    if len(name) > room:
        name = name[: room - _NOTE_TAIL] + name[-_NOTE_TAIL:]
    return hidden + name + b".json"


def old_note_of(name: bytes, layout: Layout) -> bytes | None:
    """Return the name that earlier versions gave the note in a raw queue; None if it is the same.

    It has no suffix: `report.json` for `report.csv`. Such a note is read, and removed with its
    entry, but no more written.
    """
    if not layout.raw:
        return None
    hidden = b"." if _hides_notes(layout) else b""
    name_before = name.removesuffix(layout.suffix) if layout.suffix else name
    note = (hidden + name_before)[: NAME_MAX - len(b".json")] + b".json"
    return None if note == note_of(name, layout) else note


def _hides_notes(layout: Layout) -> bool:
    """Whether notes and entries could have the same ending."""
    suffix = layout.suffix
    if layout.match is not None:
        return layout.match.may_end_in(b".json")
    return b".json".endswith(suffix) or suffix.endswith(b".json")


def wrong_suffix(suffix: str) -> str | None:
    """Say what is wrong with the suffix of a raw queue, and how to write it; None if it is right.

    A suffix such as "csv" lacks its dot; "~" needs none. A pattern such as "*.csv" is no suffix.
    """
    if not suffix:
        return None
    if "/" in suffix or "\0" in suffix or suffix.endswith(".tmp"):
        return "no watcher looks at such names"
    plain = suffix.lstrip("*")
    cure = f'write "{plain}"' if plain.startswith(".") else f'write ".{plain}"'
    if any(mark in plain for mark in "*?["):
        return f'it is an ending and no pattern: write match = ["{suffix}"]'
    if plain != suffix and plain:
        return f'it is an ending and no pattern: {cure}, or match = ["{suffix}"]'
    if plain != suffix:
        return 'write "" for every name'
    return f"no dot in front: {cure}" if suffix[0].isascii() and suffix[0].isalnum() else None


def is_stored(name: bytes, layout: Layout) -> bool:
    """Whether a file in a directory of a state belongs to an entry, by its name."""
    if name[:1] == b"." or name.endswith(b".tmp"):
        return False
    return not is_note(name, layout)


def is_metadata(name: bytes, layout: Layout) -> bool:
    """Whether a file in a directory of a state is a `.db`, by its name."""
    return name.endswith(b".db") and not layout.raw


def is_note(name: bytes, layout: Layout) -> bool:
    """Whether a file in a directory of a state is a note, by its name. See `note_of`."""
    if not name.endswith(b".json"):
        return False
    if layout.match is not None:
        return not _hides_notes(layout)
    return not (layout.raw and name.endswith(layout.suffix))


def fits(stem: bytes) -> bool:
    """Whether a file of this stem keeps its own name in a state's directory."""
    return len(stem) + len(b".json") < NAME_MAX


def text(name: bytes) -> str:
    """Return the name as Python text from which os.fsencode gives the same bytes back."""
    return os.fsdecode(name)


def other_names(status: os.stat_result) -> str:
    """Say that a file with several names is no entry, and what to do about it."""
    cure = "remove the others, or set hard_links = true"
    return f"has {status.st_nlink} hard links, an entry has one name: {cure}"
