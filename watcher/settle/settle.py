"""Finish with a claimed entry: remove it, defer it, or put it away where its state lives.

Guarantees: `remove` removes the files that were claimed and no others. Every other move renames
without overwriting. The note (NAME.json) is written before the move; its loss costs an
explanation, never an entry.
Fails: OSError, and WatcherError when a directory of ours cannot be had; the files are then where
they were, or half way, which the next sweep recognises and completes (`halfway`):

    step for a pair                      | on disk between the two steps
    -------------------------------------|-----------------------------------------------------
    done: unlink the message, the .db    | .db alone, no message in it: to orphans/ when of age
    put away: move the message, the .db  | .db alone, its message put away: follows when of age
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

from watcher.entry import Part
from watcher.errors import WatcherError
from watcher.lifecycle import State
from watcher.settle import aside, notes
from watcher.spool.layout import note_of, stored
from watcher.spool.schedule import Schedule, stamped
from watcher.spool.spool import Spool

_MAILMAN = (b".pck", b".msg", b".db")  # files of one NAME are one entry


def prepare() -> None:
    """Import now what an attempt may need: out of descriptors it is too late to open a module.

    It costs some 30 ms, so it is not done before the watch is armed.
    """
    import ctypes
    import datetime as dt
    import email.generator
    import email.header
    import email.message
    import email.policy
    import json

    import tenacity

    from watcher.contents import generator2, jsonline, literal, marshalled, pickled, plain, skim

    del ctypes, dt, email, json, tenacity
    del generator2, jsonline, literal, marshalled, pickled, plain, skim


def usable(spool: Spool) -> None:
    """Raise now what would keep `remove` from its work: before a handler has done its own."""
    aside.usable(spool)


def remove(spool: Spool, parts: Sequence[Part]) -> bool:
    """Remove a done entry. A file that is no longer the one claimed is somebody else's: it stays.

    False if the message was written to since it was claimed: then all of it stays.

    Any name may be used again at any moment (Mailman renames a `.bak` back), so the window between
    the look and the unlink is closed too (`settle.aside`); it costs one rename an entry.
    """
    message, *metadata = parts
    if not aside.remove(spool, message):
        return False
    for part in metadata:  # which a writer may have brought up to date: it goes with its message
        aside.remove(spool, part._replace(mtime_ns=-1))
    notes.forget(spool, message)
    return True


def put_away(
    spool: Spool, state: State, parts: Sequence[Part], why: str, facts: Mapping[str, object]
) -> bytes:
    """Move an entry's files, message first, to the directory of `state`; return the new name.

    `why` and `facts` go into the note, which is left out when the disk is too full for it.
    Returns "" when none of its files is there any more: its handler moved them away, or its writer
    renamed others over them.
    """
    target = spool.place(state)
    stem, suffixes = _stem_and_suffixes(spool, parts)
    for number in itertools.count():
        names = [stored(stem, suffix, number) for suffix in suffixes]
        note = note_of(names[0], spool.layout)
        moved = [aside.inode(name, target) == p.ino for name, p in zip(names, parts, strict=True)]
        others = [] if spool.layout.raw else [stored(stem, suffix, number) for suffix in _MAILMAN]
        if not any(moved) and any(_exists(name, target) for name in (*names, note, *others)):
            continue  # but where a try was refused half way, what is there is ours
        if not any(moved) and not any(_is_still(spool, part) for part in parts):
            return b""
        about = notes.told(stem, state, parts, names)
        notes.write(spool, target, note, about | {"why": why, **facts})
        try:
            came = _move_explained(spool, parts, names, target, note)
        except FileExistsError:
            continue  # another took the name meanwhile; our note stays with what it explains
        if not came and not any(moved):
            return b""
        notes.forget(spool, parts[0])
        spool.disk.sync(target)
        spool.disk.sync(spool.fd if parts[0].directory < 0 else parts[0].directory)
        return names[0]
    raise AssertionError("unreachable: count() does not end")


def defer(
    spool: Spool, parts: Sequence[Part], schedule: Schedule, why: str, facts: Mapping[str, object]
) -> bytes:
    """Move an entry's files, message first, to `deferred/` under a stamp; return the new name.

    Not synced: should the power fail, the entry is where it was, and one attempt is forgotten. Only
    the rest of a name that was cut is, for the key is of the whole name.
    Returns "" when its file is no longer there: its handler moved it away.
    """
    target = spool.place(State.DEFERRED)
    if not _is_still(spool, parts[0]):
        return b""
    stem, suffixes = _stem_and_suffixes(spool, parts)
    while True:
        names = [stamped(schedule, stem, suffix) for suffix in suffixes]
        note = note_of(names[0], spool.layout)
        about = notes.told(stem, State.DEFERRED, parts, names)
        cut = not names[0].endswith(parts[0].called)
        notes.write(spool, target, note, about | {"why": why, **facts}, durable=cut)
        try:
            came = _move_explained(spool, parts, names, target, note)
        except FileExistsError:  # a namesake that falls due in the same millisecond
            schedule = schedule._replace(due_ms=schedule.due_ms + 1)
            continue
        if not came:
            return b""
        notes.forget(spool, parts[0])
        return names[0]


def _stem_and_suffixes(spool: Spool, parts: Sequence[Part]) -> tuple[bytes, list[bytes]]:
    layout = spool.layout if parts[0].directory < 0 else spool.layout.as_put_away()
    stem = layout.stem(parts[0].called)
    return stem, [part.called[len(stem) :] for part in parts]


def _move_explained(
    spool: Spool, parts: Sequence[Part], names: Sequence[bytes], target: int, note: bytes
) -> bool:
    """Move the files; if not one of them can be, take back the note, or each try leaves one.

    False if not one was there any more.
    """
    try:
        came = _move_all(spool, parts, names, target)
    except FileExistsError:
        raise
    except (OSError, WatcherError):
        notes.take_back(spool, target, note, names[0])
        raise
    if not came:
        notes.take_back(spool, target, note, names[0])
    return came


def _move_all(spool: Spool, parts: Sequence[Part], names: Sequence[bytes], target: int) -> bool:
    """Move the files that are still there; say whether any was."""
    came = False
    for part, name in zip(parts, names, strict=True):
        if _is_still(spool, part):
            source = spool.fd if part.directory < 0 else part.directory
            spool.disk.move(part.name, source, name, target)
            if aside.inode(name, target) != part.ino:  # a newcomer came between: to be handled
                aside.put_back(spool, name, target, part.called)
            else:
                came = True
    return came


def _is_still(spool: Spool, part: Part) -> bool:
    """Whether the name still leads to the file that was claimed."""
    now = spool.stat(part.name, part.directory)
    return now is not None and now.st_ino == part.ino


def _exists(name: bytes, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
