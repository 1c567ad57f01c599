"""Finish with a claimed entry: remove it, defer it, or put it away where its state lives.

Guarantees: `remove` removes the files that were claimed and no others. Every other move renames
without overwriting. The note (NAME.json) is written before the move; a lost note costs an
explanation, never an entry.
Fails: OSError, and WatcherError if a state directory cannot be used. The files are then where they
were, or one file of a pair has moved; the next sweep completes that (`interrupted`):

    steps for a pair                     | on disk between the two steps
    -------------------------------------|--------------------------------------------------------
    done: unlink the message, the .db    | the .db alone: moved to orphans/ when it is of age
    put away: move the message, the .db  | the .db alone: moved to its message when it is of age
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watcher.errors import TryAgain, WatcherError
from watcher.rules.lifecycle import State
from watcher.rules.names import TRIES, Layout, display, free_number, note_of, numbered_name
from watcher.rules.pair_names import SUFFIXES
from watcher.rules.results import HANDLED, HandlerResult
from watcher.rules.stamp import Schedule, beside, stamped
from watcher.settle import unlink
from watcher.settle.put_back import put_back
from watcher.settle.remove_marker import forget_marker, remove_marked
from watcher.spool import notes
from watcher.spool.dirs import exists, inode_of
from watcher.spool.part import Part
from watcher.spool.spool import Spool


def prepare() -> None:
    """Import the modules that an attempt may need: without free descriptors an import fails.

    It takes some 30 ms, so the daemon calls it after the watch is armed.
    """
    import ctypes
    import datetime as dt
    import email.generator
    import email.header
    import email.message
    import email.policy
    import json

    import tenacity

    from watcher.mailman import (
        generator2,
        jsonline,
        literal,
        marshalled,
        pickled,
        plain,
        skim,
    )

    del ctypes, dt, email, json, tenacity
    del generator2, jsonline, literal, marshalled, pickled, plain, skim


def usable(spool: Spool) -> None:
    """Raise now what `remove` would raise after the handler's work."""
    unlink.usable(spool)


def remove(
    spool: Spool,
    parts: Sequence[Part],
    is_as_read: unlink.IsAsRead = lambda: None,
    outcome: HandlerResult = HANDLED,
) -> bool:
    """Remove a done entry; a file that is not the one that was claimed stays.

    Returns False if the message was written to since it was claimed, or may be yet: then every file
    stays, and a deferred entry is in the queue again. `is_as_read` says whether the message's file
    holds what was handled; `outcome`, where the files go.
    """
    message, archive = parts[0], spool.archive
    if outcome.move_to is not None:
        archive = None if outcome.copied else spool.archive_at(outcome.move_to)
    if spool.layout.marker and message.directory is None:
        return remove_marked(
            spool, message, lambda: unlink.remove(spool, message, is_as_read, archive)
        )
    if message.directory is None and spool.layout.is_unique_name(message.name):
        removed = unlink.remove_in_place(spool, message, is_as_read, archive)
    else:
        removed = unlink.remove(spool, message, is_as_read, archive)
    if removed and len(parts) > 1:  # a writer may have rewritten the .db: it goes all the same
        unlink.remove(spool, parts[1], None, archive)
    if message.directory is not None:
        notes.forget(spool, message)
    return removed


def put_away(
    spool: Spool, state: State, parts: Sequence[Part], why: str, facts: Mapping[str, object]
) -> bytes | None:
    """Move an entry's files, message first, to the directory of `state`; return the new name.

    `why` and `facts` go into the note; a full disk has no note. Returns None if none of the files
    is there any more: the handler moved them away, or the writer renamed others over them.
    """
    target = spool.make_state_dir(state)
    stem, suffixes = _stem_and_suffixes(spool, parts)
    first = 0
    for _ in range(TRIES):
        number = free_number(lambda n: _is_taken(spool, parts, stem, n, target), first)
        first = number + 1
        names = [numbered_name(stem, suffix, number) for suffix in suffixes]
        note = note_of(names[0], spool.layout)
        moved = _moved(parts, names, target)
        if not any(moved) and not any(is_still(spool, part) for part in parts):
            _forget_marker(spool, parts)
            return None
        about = notes.note_fields(spool, _name_of(spool, parts), state, parts, names)
        notes.write(spool, target, note, about | {"why": why, **facts})
        try:
            came = _move_explained(spool, parts, names, target, note)
        except FileExistsError:
            continue  # another process took the name; the note stays beside what was moved
        if not came and not any(moved):
            _forget_marker(spool, parts, put_back=True)
            return None
        notes.forget(spool, parts[0])
        spool.disk.sync(target)
        spool.disk.sync(spool.fd if parts[0].directory is None else parts[0].directory)
        _forget_marker(spool, parts)
        return names[0]
    raise TryAgain(f"{display(stem)}: others take each name in {state.value}/ before it can be had")


def _is_taken(spool: Spool, parts: Sequence[Part], stem: bytes, number: int, target: int) -> bool:
    """Whether another entry has a number; an earlier try of this entry may have begun to use it."""
    names = [numbered_name(stem, part.queue_name[len(stem) :], number) for part in parts]
    if any(_moved(parts, names, target)):
        return False
    others = (
        [] if spool.layout.raw else [numbered_name(stem, suffix, number) for suffix in SUFFIXES]
    )
    note = note_of(names[0], spool.layout)
    return any(exists(name, target) for name in (*names, note, *others))


def _moved(parts: Sequence[Part], names: Sequence[bytes], target: int) -> list[bool]:
    return [inode_of(name, target) == p.ino for name, p in zip(names, parts, strict=True)]


def defer(
    spool: Spool, parts: Sequence[Part], schedule: Schedule, why: str, facts: Mapping[str, object]
) -> bytes | None:
    """Move an entry's files, message first, to `deferred/` under a stamp; return the new name.

    Not synced: after a power failure the entry is where it was, and one attempt is not counted. But
    the note of a name that was cut is synced, because the key is made of the whole name; and if a
    handler remembered something, the note is synced and the move too.
    Returns None if the file is no longer there: the handler moved it away.
    """
    target = spool.make_state_dir(State.DEFERRED)
    stem, suffixes = _stem_and_suffixes(spool, parts)
    for number in range(TRIES):
        names = [stamped(beside(schedule, number), stem, suffix) for suffix in suffixes]
        note = note_of(names[0], spool.layout)
        # The disk may have let an earlier try move the message, and not its `.db`.
        moved = inode_of(names[0], target) == parts[0].ino
        if not moved and not is_still(spool, parts[0]):
            _forget_marker(spool, parts)
            return None
        about = notes.note_fields(spool, _name_of(spool, parts), State.DEFERRED, parts, names)
        about |= {"why": why, **facts}
        remembers = notes.REMEMBERED in about
        cut = not names[0].endswith(parts[0].queue_name)
        notes.write(spool, target, note, about, durable=cut or remembers)
        try:
            came = _move_explained(spool, parts, names, target, note)
        except FileExistsError:
            continue  # another entry of this name is due in the same millisecond
        if not came and not moved:
            _forget_marker(spool, parts, put_back=True)
            return None
        notes.forget(spool, parts[0])
        if remembers or (spool.layout.marker and parts[0].directory is None):
            # A power failure must not undo this move, and not the marker's removal.
            spool.disk.sync(target)
            if parts[0].directory is None:
                spool.disk.sync(spool.fd)
        _forget_marker(spool, parts)
        return names[0]
    raise TryAgain(f"{display(stem)}: {TRIES} entries of its name are due at the same moment")


def _layout_of(spool: Spool, parts: Sequence[Part]) -> Layout:
    return spool.layout if parts[0].directory is None else spool.layout.in_state_dir()


def _name_of(spool: Spool, parts: Sequence[Part]) -> bytes:
    return _layout_of(spool, parts).stem(parts[0].queue_name)


def _forget_marker(spool: Spool, parts: Sequence[Part], *, put_back: bool = False) -> None:
    """Remove the marker of an entry that is no longer in the queue; see `forget_marker`."""
    if parts[0].directory is None:
        forget_marker(spool, parts[0].name, put_back=put_back)


def _stem_and_suffixes(spool: Spool, parts: Sequence[Part]) -> tuple[bytes, list[bytes]]:
    stem, _ = _layout_of(spool, parts).split(parts[0].queue_name)
    return stem, [part.queue_name[len(stem) :] for part in parts]


def _move_explained(
    spool: Spool, parts: Sequence[Part], names: Sequence[bytes], target: int, note: bytes
) -> bool:
    """Move the files, and remove the note again if none could be moved; say whether any was."""
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
        if is_still(spool, part):
            source = spool.fd if part.directory is None else part.directory
            spool.disk.move(part.name, source, name, target)
            if inode_of(name, target) != part.ino:  # a replacement: not handled yet
                put_back(spool, name, target, part.queue_name)
            else:
                came = True
    return came


def is_still(spool: Spool, part: Part) -> bool:
    """Whether the name still leads to the file that was claimed."""
    directory = spool.fd if part.directory is None else part.directory
    return inode_of(part.name, directory) == part.ino
