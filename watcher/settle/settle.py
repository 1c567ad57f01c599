"""Finish with a claimed entry: remove it, put it away where its state lives, or reunite halves.

Guarantees: `remove` removes the files that were claimed and no others. Every other move renames
without overwriting. The note (NAME.json) is written before the move; its loss costs an
explanation, never an entry.
Fails: OSError, and WatcherError when a directory of ours cannot be had; the files are then where
they were, or half way, which the next sweep recognises and completes:

    step for a pair                      | on disk between the two steps
    -------------------------------------|-----------------------------------------------------
    done: unlink the message, the .db    | .db alone, no message in it: to orphans/ when of age
    put away: move the message, the .db  | .db alone, its message put away: follows when of age
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence

from watcher.entry import Part
from watcher.lifecycle import State
from watcher.settle import aside
from watcher.spool.disk import LOOK
from watcher.spool.layout import display, stored, text
from watcher.spool.spool import Spool


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


def remove(spool: Spool, parts: Sequence[Part]) -> None:
    """Remove a done entry. A file that is no longer the one claimed is somebody else's: it stays.

    Any name may be used again at any moment (Mailman renames a `.bak` back), so the window between
    the look and the unlink is closed too (`settle.aside`); it costs one rename an entry.
    """
    for part in parts:
        aside.remove(spool, part)


def put_away(
    spool: Spool, state: State, parts: Sequence[Part], why: str, facts: Mapping[str, object]
) -> bytes:
    """Move an entry's files, message first, to the directory of `state`; return the new name.

    `why` and `facts` go into the note, which is left out when the disk is too full for it.
    """
    target = spool.place(state)
    stem = spool.layout.stem(parts[0].name)
    suffixes = [part.name[len(stem) :] for part in parts]
    for number in itertools.count():
        names = [stored(stem, suffix, number) for suffix in suffixes]
        note = stored(stem, b".json", number)
        if note in names:  # raw entries that end in .json
            note = stored(stem, b".note.json", number)
        if any(_exists(name, target) for name in (*names, note)):
            continue
        _write_note(spool, target, note, state, parts, names, why, facts)
        try:
            _move_all(spool, parts, names, target)
        except FileExistsError:
            continue  # another took the name meanwhile; our note stays with what it explains
        spool.disk.sync(target)
        spool.disk.sync(spool.fd)
        return names[0]
    raise AssertionError("unreachable: count() does not end")


def _move_all(spool: Spool, parts: Sequence[Part], names: Sequence[bytes], target: int) -> None:
    for part, name in zip(parts, names, strict=True):
        if _is_still(spool, part):
            spool.disk.move(part.name, spool.fd, name, target)
            if aside.inode(name, target) != part.ino:  # a newcomer came between: to be handled
                aside.put_back(spool, name, target, part.name)


def reunite(spool: Spool, half: bytes) -> bytes | None:
    """Bring the other half of `half` back out of orphans/; return its name, None if not there."""
    orphans = spool.peek(State.ORPHAN)
    if orphans is None:
        return None
    for other in _others(spool, half):
        try:
            spool.disk.move(other, orphans, other, spool.fd)
        except (FileNotFoundError, FileExistsError):
            continue
        with contextlib.suppress(OSError):  # the note explained why it was there
            spool.disk.unlink(stored(spool.layout.stem(half), b".json", 0), orphans)
        spool.disk.sync(spool.fd)
        spool.disk.sync(orphans)
        return other
    return None


def follow(spool: Spool, half: Part) -> bytes | None:
    """Complete a move that a crash cut in two: take `half` to where its message was put away.

    Returns its new name, None when no move explains the half. The note says which files belong.
    """
    stem = spool.layout.stem(half.name)
    suffix = half.name[len(stem) :]
    for state in (State.DEAD, State.HELD, State.DEFERRED):
        target = spool.peek(state)
        for number in itertools.count():
            if target is None:
                break
            files = _files_in_note(target, stored(stem, b".json", number))
            if files is None:
                break
            name = stored(stem, suffix, number)
            if text(name) in files and not _exists(name, target):
                spool.disk.move(half.name, spool.fd, name, target)
                return name
    return None


def finish_move(spool: Spool, name: bytes) -> bool:
    """Complete a move cut between link and unlink: the same file lies in a directory of ours."""
    here, stem = spool.stat(name), spool.layout.stem(name)
    for state in (State.DEAD, State.HELD, State.DEFERRED, State.ORPHAN):
        directory = spool.peek(state)
        if directory is None or here is None:
            continue
        with contextlib.suppress(FileNotFoundError):
            for number in itertools.count():
                target = stored(stem, name[len(stem) :], number)
                there = os.stat(target, dir_fd=directory, follow_symlinks=False)
                if (there.st_dev, there.st_ino, there.st_nlink) == (here.st_dev, here.st_ino, 2):
                    spool.disk.unlink(name, spool.fd)
                    return True
    return False


def _is_still(spool: Spool, part: Part) -> bool:
    """Whether the name still leads to the file that was claimed."""
    now = spool.stat(part.name)
    return now is not None and now.st_ino == part.ino


def _exists(name: bytes, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _others(spool: Spool, half: bytes) -> tuple[bytes, ...]:
    """Return the names under which the other half of `half` may lie."""
    layout = spool.layout
    if half.endswith(b".db"):
        return layout.message_halves(half)
    return (layout.metadata_half(half),)


def _write_note(  # noqa: PLR0913, PLR0917 - the note is the sum of these
    spool: Spool,
    target: int,
    name: bytes,
    state: State,
    parts: Sequence[Part],
    names: Sequence[bytes],
    why: str,
    facts: Mapping[str, object],
) -> None:
    import datetime as dt
    import json

    now = dt.datetime.now(dt.UTC)
    note = {
        "entry": display(spool.layout.stem(parts[0].name)),
        "state": state.value,
        "why": why,
        "since": now.isoformat(timespec="milliseconds"),
        "was": [text(part.name) for part in parts],
        "files": [text(stored_name) for stored_name in names],
        "changed": [part.ctime_ns / 1e9 for part in parts],
        **facts,
    }
    data = json.dumps(note, indent=1, default=str).encode() + b"\n"
    with contextlib.suppress(OSError):  # a full disk must not keep a bad entry in the way
        spool.disk.write_note(name, target, data)


def _files_in_note(directory: int, name: bytes) -> list[str] | None:
    """Return the files a note tells of; None when there is no such note."""
    import json

    try:
        fd = os.open(name, LOOK, dir_fd=directory)
    except OSError:
        return None
    try:
        note = json.loads(os.read(fd, 1 << 20))
    except (OSError, ValueError, RecursionError):  # a directory; garbage; garbage nested deep
        return []
    finally:
        os.close(fd)
    files = note.get("files") if isinstance(note, dict) else None
    return [str(name) for name in files] if isinstance(files, list) else []
