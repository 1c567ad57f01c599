"""The note: a small JSON file beside an entry in a state directory. Why, since when, which files.

Guarantees: a note is written whole or not at all, and read here alone. It never keeps its entry
from being moved. Each note has what a handler remembered (`REMEMBERED`) until the entry is done.
Fails: never. If a note cannot be written, read or removed, the explanation is lost, and what the
handler remembered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from watcher.rules.lifecycle import State
from watcher.rules.names import Layout, display, note_of, old_note_of, text
from watcher.spool import state_files
from watcher.spool.dirs import exists
from watcher.spool.part import Part
from watcher.spool.spool import Spool

LARGEST = 1 << 20  # bytes
REMEMBERED = "remembered"  # the field with `HandlerResult.remembered`


def note_fields(
    spool: Spool, stem: bytes, state: State, parts: Sequence[Part], names: Sequence[bytes]
) -> dict[str, object]:
    """Return the fields that every note has: which entry, which files, since when.

    What the note before knows for later is among them.
    """
    import datetime as dt

    before = _before(spool, parts)
    committed = committed_ns(spool, parts, before)
    kept: dict[str, object] = {} if committed is None else {"committed_ns": committed}
    if known := remembered_in(before):
        kept[REMEMBERED] = known
    return kept | {
        "entry": display(stem),
        "state": state.value,
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        "was": [text(part.name) for part in parts],
        "own": [text(part.queue_name) for part in parts],
        "files": [text(name) for name in names],
        "changed": [part.ctime_ns / 1e9 for part in parts],
    }


def committed_ns(
    spool: Spool, parts: Sequence[Part], before: Mapping[str, object] | None = None
) -> int | None:
    """Return when an entry came into the queue, by the ctime that its files had there.

    A move changes the ctime, so a new note copies the time from the note before, `before` if it was
    read. None: not known.
    """
    if parts[0].directory is None:
        return max(part.ctime_ns for part in parts)
    known = (_before(spool, parts) if before is None else before).get("committed_ns")
    return known if isinstance(known, int) else None


def _before(spool: Spool, parts: Sequence[Part]) -> dict[str, object]:
    """Return the note that an entry has now; an entry in the queue has none."""
    part = parts[0]
    return {} if part.directory is None else read_note(part.directory, part.name, spool.layout)


def remembered_in(note: Mapping[str, object]) -> dict[str, object]:
    """Return what a handler remembered, by the note of the entry; {} if nothing."""
    found = note.get(REMEMBERED)
    return found if isinstance(found, dict) else {}


def write(
    spool: Spool, target: int, name: bytes, note: Mapping[str, object], *, durable: bool = True
) -> None:
    """Write a note, if the disk has room for it; if not, `spool.unwritten` says why."""
    import json

    data = json.dumps(note, indent=1, default=str).encode() + b"\n"
    try:
        spool.disk.write_note(name, target, data, durable=durable)
    except OSError as error:
        spool.unwritten = error.strerror or str(error)


def read_note(directory: int, name: bytes, layout: Layout) -> dict[str, object]:
    """Return the fields of the note beside the file `name`; {} if there is no readable note."""
    found = _read(directory, note_of(name, layout))
    old = old_note_of(name, layout)
    if found or old is None:
        return found
    found = _read(directory, old)
    return found if _lists(found, name) else {}


def remove(spool: Spool, directory: int, name: bytes) -> None:
    """Remove the note beside the file `name`, also one that an earlier version wrote."""
    layout = spool.layout
    old = old_note_of(name, layout)
    if old is not None and _lists(_read(directory, old), name):
        with contextlib.suppress(OSError):
            spool.disk.unlink(old, directory)
    with contextlib.suppress(OSError):
        spool.disk.unlink(note_of(name, layout), directory)


def _lists(note: Mapping[str, object], name: bytes) -> bool:
    """Whether a note is about the file `name`: another entry may have had the same note's name."""
    files = note.get("files")
    return isinstance(files, list) and text(name) in files


def files(directory: int, note: bytes) -> list[str]:
    """Return the names of the files that a note lists; [] if there is no readable note."""
    found = _read(directory, note).get("files")
    return [str(file) for file in found] if isinstance(found, list) else []


def _read(directory: int, note: bytes) -> dict[str, object]:
    import json

    try:
        found = json.loads(state_files.read(note, directory, LARGEST))
    except (OSError, ValueError, RecursionError):  # not a file of this program; not JSON; too deep
        return {}
    return found if isinstance(found, dict) else {}


def take_back(spool: Spool, target: int, name: bytes, entry: bytes) -> None:
    """Remove a note again if its entry was not moved to its side."""
    with contextlib.suppress(OSError):
        if not exists(entry, target):
            spool.disk.unlink(name, target)


def forget(spool: Spool, part: Part) -> None:
    """Remove the note beside a deferred file that was removed or moved."""
    if part.directory is not None:
        remove(spool, part.directory, part.name)
