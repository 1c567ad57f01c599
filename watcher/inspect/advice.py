"""What a file that is no entry is, and what an operator can do about it. PURE.

The words for `explain` and `check`. A file is put back by a rename inside its directory, which a
daemon sees and takes at once; `mv -n` because a rename overwrites.
"""

from __future__ import annotations

from watcher.spool.layout import Kind

WHAT = {
    Kind.ENTRY: "an entry",
    Kind.MESSAGE_HALF: "the message half of a legacy pair",
    Kind.METADATA_HALF: "the metadata half of a legacy pair",
    Kind.TEMPORARY: "being written: never touched",
    Kind.LEFTOVER: "a Mailman runner's leftover: never touched",
    Kind.FOREIGN: "no entry's name: never touched",
}
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
_LEGACY = "half of a pair of Mailman 2.0 to 2.1.4: --legacy serves these"


def advice(name: bytes, kind: Kind) -> str:
    """Say in a line or two what the file `name` is and what can be done; "" where nothing need."""
    if kind is Kind.LEFTOVER:
        return _BACKUP if name.endswith(b".bak") else _PRESERVED
    if kind is Kind.TEMPORARY:
        return _TEMPORARY if name.endswith(b".tmp") else _HIDDEN
    if kind is Kind.FOREIGN and name.endswith((b".db", b".msg")):
        return _LEGACY
    return ""
