"""The kinds of file names in a queue directory, and what each kind means to every command. PURE.

`Layout.kind` (names.py) says which kind a name is. `KIND_INFO` says what the commands do with a
file of that kind and which words they use. A new kind needs a member here, a row in `KIND_INFO`
and a rule in `Layout.kind`; tests/cli/test_kinds.py sends a file of every kind through every
command, and fails for a kind that lacks any of the three.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Kind(enum.Enum):
    """What a name in a queue directory stands for; the value is the word that people see."""

    ENTRY = "entry"
    MESSAGE_HALF = "message half"
    METADATA_HALF = "metadata half"
    TEMPORARY = "being written"
    LEFTOVER = "Mailman's leftover"
    IGNORED = "ignored"
    MARKER = "marker"
    COMPANION = "companion"
    FOREIGN = "foreign"

    __hash__ = object.__hash__  # one object a member; Enum's own is Python code, on the hot path


class Advice(NamedTuple):
    """What an operator can do about a file whose name has one of the endings."""

    endings: tuple[bytes, ...]
    text: str


class KindInfo(NamedTuple):
    """What one kind of name means to the commands."""

    label: str  # `explain`: what the name says
    entry: bool = False  # a worker claims the file: an entry, or half of one
    listed: bool = False  # `list` shows the file
    readable: bool = False  # `cat` finds the file by its own name
    waiting: str = ""  # `list`: why a listed file that is no entry is still arriving
    left_alone: str = ""  # `explain`: why no worker claims the file
    by_layout: bool = False  # another format or suffix may make it an entry: name the rules
    remedy: str = ""  # `check`: what to do about files of this kind
    normal_when_young: bool = False  # `check` does not warn of files below the grace age
    normal: bool = False  # `check` does not warn of files of any age
    by_ending: bool = False  # `check` reports each ending of `advice` apart, with its text
    advice: tuple[Advice, ...] = ()  # `explain`: the first that matches

    def advice_for(self, name: bytes) -> str:
        """Say what an operator can do about the file `name`; "" if nothing is needed."""
        return next((each.text for each in self.advice if name.endswith(each.endings)), "")


# A daemon sees a rename inside its directory at once, so that is how a file is put back. `mv -n`:
# a plain rename overwrites.
_BACKUP = (
    "the backup a Mailman runner keeps of the entry it is handling; a runner that starts puts it"
    " back itself. If no runner will serve this directory again: mv -n NAME.bak NAME.pck"
)
_PRESERVED = (
    "an entry a Mailman runner could not handle and preserved for a person to look at. Look at it"
    " (watcher cat); to have it handled: mv -n NAME.psv NAME.pck"
)
_TEMPORARY = (
    "its writer renames it when it is whole. If the writer is gone and the contents are whole:"
    " mv -n NAME.tmp NAME; otherwise remove it or send it again"
)
_HIDDEN = "a name with a dot in front is its writer's own: it is no entry until it is renamed"
_IGNORED = (
    "a program's temporary, lock or backup file, by its name. If it is an entry: mv -n it to"
    " another name, or set `ignore` for the queue"
)
_MARKER = (
    "the writer makes it when its entry is complete, and watcher removes it with the entry. If the"
    " entry will not come: remove it; a later file of the entry's name needs a new one"
)
_COMPANION = (
    "its entry is not complete while this file is there. If the writer is gone and the entry is"
    " whole: remove it"
)
_LEGACY = "half of a pair of Mailman 2.0 to 2.1.4: --legacy serves these"

KIND_INFO: dict[Kind, KindInfo] = {
    Kind.ENTRY: KindInfo("an entry", entry=True, listed=True, readable=True),
    Kind.MESSAGE_HALF: KindInfo(
        "the message half of a legacy pair", entry=True, listed=True, readable=True
    ),
    Kind.METADATA_HALF: KindInfo(
        "the metadata half of a legacy pair", entry=True, listed=True, readable=True
    ),
    Kind.TEMPORARY: KindInfo(
        "being written: never touched",
        listed=True,
        readable=True,
        waiting="being written, under a name of its writer's",
        left_alone="being written, or left by a writer",
        remedy="watcher explain FILE says how to put it back if its writer is gone",
        normal_when_young=True,
        advice=(Advice((b".tmp",), _TEMPORARY), Advice((b"",), _HIDDEN)),
    ),
    Kind.LEFTOVER: KindInfo(
        "a Mailman runner's leftover: never touched",
        readable=True,
        left_alone="a Mailman runner's, not an entry",
        by_ending=True,
        advice=(Advice((b".bak",), _BACKUP), Advice((b".psv",), _PRESERVED)),
    ),
    Kind.IGNORED: KindInfo(
        "ignored, by a pattern of `ignore`: never touched",
        readable=True,
        left_alone="its name is ignored",
        remedy="never touched; `ignore` says which, and the operator may replace it",
        normal=True,
        advice=(Advice((b"",), _IGNORED),),
    ),
    Kind.MARKER: KindInfo(
        "a marker: it says that the entry beside it is complete",
        readable=True,
        left_alone="a marker, not an entry",
        remedy="a marker without its entry; watcher explain FILE says what to do",
        normal_when_young=True,
        advice=(Advice((b"",), _MARKER),),
    ),
    Kind.COMPANION: KindInfo(
        "a companion: it says that the entry beside it is not complete yet",
        readable=True,
        left_alone="a companion, not an entry",
        remedy="its entry waits while it is there; watcher explain FILE says what to do",
        normal_when_young=True,
        advice=(Advice((b"",), _COMPANION),),
    ),
    Kind.FOREIGN: KindInfo(
        "no entry's name",
        left_alone="not an entry",
        by_layout=True,
        remedy="never touched: move them away unless they belong here",
        advice=(Advice((b".db", b".msg"), _LEGACY),),
    ),
}
ENTRY_KINDS = frozenset(kind for kind, info in KIND_INFO.items() if info.entry)
HALVES = frozenset((Kind.MESSAGE_HALF, Kind.METADATA_HALF))
