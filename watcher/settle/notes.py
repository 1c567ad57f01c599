"""The small file beside an entry that was put away: why, since when, which files.

Guarantees: written whole or not at all; never in the way of the entry that it explains.
Fails: never; a note that cannot be written, read or removed costs an explanation.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence

from watcher.entry import Part
from watcher.lifecycle import State
from watcher.spool.disk import LOOK
from watcher.spool.layout import display, note_of, text
from watcher.spool.spool import Spool

LARGEST = 1 << 20  # bytes


def told(
    stem: bytes, state: State, parts: Sequence[Part], names: Sequence[bytes]
) -> dict[str, object]:
    """Return what every note says: which entry, which files, since when."""
    import datetime as dt

    return {
        "entry": display(stem),
        "state": state.value,
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        "was": [text(part.name) for part in parts],
        "own": [text(part.called) for part in parts],
        "files": [text(name) for name in names],
        "changed": [part.ctime_ns / 1e9 for part in parts],
    }


def write(
    spool: Spool, target: int, name: bytes, note: Mapping[str, object], *, durable: bool = True
) -> None:
    """Write a note, if the disk has room for it."""
    import json

    data = json.dumps(note, indent=1, default=str).encode() + b"\n"
    with contextlib.suppress(OSError):
        spool.disk.write_note(name, target, data, durable=durable)


def files(directory: int, name: bytes) -> list[str] | None:
    """Return the files a note tells of; None when there is no such note."""
    import json

    try:
        fd = os.open(name, LOOK, dir_fd=directory)
    except OSError:
        return None
    try:
        note = json.loads(os.read(fd, LARGEST))
    except (OSError, ValueError, RecursionError):  # a directory; garbage; garbage nested deep
        return []
    finally:
        os.close(fd)
    found = note.get("files") if isinstance(note, dict) else None
    return [str(file) for file in found] if isinstance(found, list) else []


def take_back(spool: Spool, target: int, name: bytes, entry: bytes) -> None:
    """Remove a note if the entry that it is to explain has not come to be beside it."""
    with contextlib.suppress(OSError):
        if spool.stat(entry, target) is None:
            spool.disk.unlink(name, target)


def forget(spool: Spool, part: Part) -> None:
    """Remove the note beside a deferred file that went its way."""
    if part.directory >= 0:
        with contextlib.suppress(OSError):
            spool.disk.unlink(note_of(part.name, spool.layout), part.directory)
