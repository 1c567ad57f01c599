"""Pairs whose halves lie in two places, and files under two names: finish what was cut in two.

A pair moves message first. So whatever was under way when a process died, the `.db` belongs to the
message, and goes to where that is:

    the message is              | its .db is                        | then
    ----------------------------|-----------------------------------|---------------------------
    in the queue                | alone in a directory of ours      | it comes back (`reunite`)
    alone in orphans/           | in the queue                      | it comes back (`reunite`)
    in dead/, held/, deferred/  | in the queue, of age, no writer   | it follows (`follow`)
    in deferred/                | in deferred/ under another stamp, | it comes after (`catch_up`)
                                | or alone in held/ or dead/        |

Guarantees: nothing is overwritten and nothing is removed but a second name of one file.
Fails: OSError and WatcherError; the files are then where they were.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator

from watcher.entry import Part
from watcher.lifecycle import Move, State
from watcher.settle import notes
from watcher.settle.aside import listed
from watcher.spool.layout import STATE_DIRECTORIES, stored, text
from watcher.spool.schedule import parse
from watcher.spool.spool import Spool

_MESSAGES = (b".msg", b".pck")
_STAMPED = (State.DEFERRED, State.HELD)


def reunite(spool: Spool, half: bytes) -> bytes | None:
    """Bring the other half of `half` back out of our directories; return its name, or None.

    The journal is told before: once it is back, another may be done with the pair at any moment.
    """
    layout = spool.layout
    wanted: tuple[bytes, ...] = (layout.metadata_half(half),)
    places = tuple(STATE_DIRECTORIES)
    if half.endswith(b".db"):
        wanted, places = layout.message_halves(half), (State.ORPHAN,)
    for state, own in itertools.product(places, wanted):
        directory = spool.peek(state)
        if directory is None:
            continue
        for name in _alone(directory, state, own):
            there = spool.stat(name, directory)
            if there is None:
                continue
            spool.journal.record(State.ORPHAN, Move.REUNITE, there.st_ino, own)
            try:
                spool.disk.move(name, directory, own, spool.fd)
            except (FileNotFoundError, FileExistsError):
                continue
            if state is State.ORPHAN:
                with contextlib.suppress(OSError):  # the note explained why it was there
                    note = name[: -len(own.rpartition(b".")[2]) - 1] + b".json"
                    spool.disk.unlink(note, directory)
            spool.disk.sync(spool.fd)
            spool.disk.sync(directory)
            return own
    return None


def follow(spool: Spool, half: Part) -> bytes | None:
    """Complete a move that a crash cut in two: take `half` to where its message was put away.

    Returns its new name, None when no move explains the half.
    """
    source = spool.fd if half.directory < 0 else half.directory
    stem = spool.layout.as_put_away().stem(half.called)
    suffix = half.called[len(stem) :]
    for state in (State.DEAD, State.HELD):  # the note says which files belong
        target = spool.peek(state)
        if target is None:
            continue
        for note in _numbered(target, stem, b".json"):
            name = note.removesuffix(b".json") + suffix
            # A note may tell of a move that a crash kept from beginning: the message is elsewhere.
            belongs = text(name) in (notes.files(target, note) or [])
            if belongs and not _exists(name, target) and _has_other(target, name):
                spool.disk.move(half.name, source, name, target)
                return name
    if suffix == b".db":
        for state in _STAMPED:
            target = spool.peek(state)
            beside = None if target is None else _place_beside_message(target, half.called)
            if target is not None and beside is not None:
                spool.disk.move(half.name, source, beside, target)
                return beside
    return None


def catch_up(spool: Spool, message: bytes, own: bytes) -> bool:
    """Bring the `.db` that is not where its deferred message is; say whether it came.

    It stayed behind when the message got a new stamp; or a power failure undid the first of the two
    renames by which the pair was put away, and not the second.
    """
    target = spool.peek(State.DEFERRED)
    for state in (State.DEFERRED, State.HELD, State.DEAD):
        directory = spool.peek(state)
        if target is None or directory is None:
            continue
        for name in _alone(directory, state, own):
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                beside = message.rpartition(b".")[0] + b".db"
                spool.disk.move(name, directory, beside, target)
                return True
    return False


def finish_move(spool: Spool, name: bytes, state: State | None = None) -> bool:
    """Complete a move cut between link and unlink: the same file lies in a directory of ours.

    `state` is where `name` lies, if not in the queue. The other name may be no more durable than
    the crash left it, so it is made so before this one goes. There may be two others: a power
    failure may undo the unlink of an earlier move. Only a file all of whose other names are in
    directories of ours is one of these; and of two names in deferred/ the later stamp stays.
    """
    source = spool.fd if state is None else spool.peek(state)
    here = None if source is None else spool.stat(name, source)
    if source is None or here is None or here.st_nlink == 1:
        return False
    others: list[tuple[int, bytes]] = []
    for other_state in STATE_DIRECTORIES:
        directory = spool.peek(other_state)
        for other, inode in () if directory is None else list(listed(directory)):
            if directory is None or inode != here.st_ino or (directory, other) == (source, name):
                continue
            if directory == source and _attempts(other) < _attempts(name):
                return False  # it is the other that goes
            now = os.stat(other, dir_fd=directory, follow_symlinks=False)
            if (now.st_dev, now.st_ino) == (here.st_dev, here.st_ino):
                others.append((directory, other))
    if len(others) + 1 != here.st_nlink:
        return False
    for directory in {directory for directory, _ in others}:
        spool.disk.sync(directory)
    spool.disk.unlink(name, source)
    return True


def _attempts(name: bytes) -> tuple[int, bytes]:
    """Return what an earlier stamp of an entry has less of than a later one."""
    found = parse(name)
    return (0 if found is None else found[0].attempts, name)


def _alone(directory: int, state: State, own: bytes) -> Iterator[bytes]:
    """Yield the names in one of our directories of a half called `own` without the other half."""
    stem, dot, suffix = own.rpartition(b".")
    for name in _numbered(directory, stem, dot + suffix):
        if not _has_other(directory, name):
            yield name
    if state in _STAMPED:
        for name, _ in listed(directory):
            found = parse(name)
            if found is not None and found[1] == own and not _has_other(directory, name):
                yield name


def _numbered(directory: int, stem: bytes, suffix: bytes) -> Iterator[bytes]:
    """Yield the files stored for a NAME: NAME, NAME~1 and so on; any of them may have gone."""
    for number in itertools.count():
        name = stored(stem, suffix, number)
        if _exists(name, directory):
            yield name
        elif number:
            break
    known = re.compile(re.escape(stem) + rb"~([0-9]{1,9})" + re.escape(suffix))
    for name, _ in listed(directory):
        found = known.fullmatch(name)
        if found is not None and int(found[1]) > number:
            yield name


def _has_other(directory: int, half: bytes) -> bool:
    stem, _, suffix = half.rpartition(b".")
    others = _MESSAGES if suffix == b"db" else (b".db",)
    return any(_exists(stem + other, directory) for other in others)


def _place_beside_message(directory: int, metadata: bytes) -> bytes | None:
    """Return the name that a `.db` is to have beside a stamped message of its name."""
    stem = metadata.removesuffix(b".db")
    wanted = [stem + suffix for suffix in _MESSAGES]
    for name, _ in listed(directory):
        found = parse(name)
        if found is not None and found[1] in wanted and not _has_other(directory, name):
            return name.rpartition(b".")[0] + b".db"
    return None


def _exists(name: bytes, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
