"""Complete the moves that a crash interrupted: pairs in two places, files with two names.

A pair's message is moved before its `.db`. So after a crash the `.db` goes where the message is:

    the message is              | its .db is                        | then
    ----------------------------|-----------------------------------|------------------------------
    in the queue                | alone in a state directory        | it comes back (`reunite`)
    alone in orphans/           | in the queue                      | it comes back (`reunite`)
    in dead/, held/, deferred/  | in the queue, of age, no writer   | it goes there
                                |                                   |   (`rejoin_put_away`)
    in deferred/                | in deferred/ under another stamp, | it goes there
                                | or alone in held/ or dead/        |   (`rejoin_deferred`)

Guarantees: nothing is overwritten, and nothing is removed but a second name of one file.
Fails: OSError and WatcherError; the files are then where they were.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import stat
from collections.abc import Iterator

from watcher.rules.lifecycle import Move, State
from watcher.rules.names import STATE_DIRECTORIES, Location, numbered_name, text
from watcher.rules.pair_names import message_names, metadata_name, other_half_names, pair_stem
from watcher.rules.stamp import parse
from watcher.settle.remove_marker import forget_marker
from watcher.spool import notes
from watcher.spool.birth import birth_of
from watcher.spool.dirs import exists
from watcher.spool.namesakes import namesakes
from watcher.spool.part import Part
from watcher.spool.spool import Spool

_STAMPED = (State.DEFERRED, State.HELD)


def reunite(spool: Spool, half: bytes) -> bytes | None:
    """Move the other file of a pair from a state directory to the queue; return its name, or None.

    The journal's line comes before the move: after it, another process may finish the pair at once.
    """
    places = (State.ORPHAN,) if half.endswith(b".db") else tuple(STATE_DIRECTORIES)
    for state, own in itertools.product(places, other_half_names(half)):
        directory = spool.state_dir(state)
        if directory is None:
            continue
        for name in _alone(spool, directory, state, own):
            there = spool.stat(name, directory)
            if there is None:
                continue
            born = birth_of(name, directory) or 0
            spool.journal.record(State.ORPHAN, Move.REUNITE, there.st_ino, own, birth=born)
            try:
                spool.disk.move(name, directory, own, spool.fd)
            except (FileNotFoundError, FileExistsError):
                continue
            if state is State.ORPHAN:
                notes.remove(spool, directory, name)  # it explained why the file was there
            spool.disk.sync(spool.fd)
            spool.disk.sync(directory)
            return own
    return None


def rejoin_put_away(spool: Spool, half: Part) -> bytes | None:
    """Move one file of a pair to the state directory where the other is.

    Returns its new name, or None if no interrupted move explains the file.
    """
    source = spool.fd if half.directory is None else half.directory
    stem = spool.layout.in_state_dir().stem(half.queue_name)
    suffix = half.queue_name[len(stem) :]
    for state in (State.DEAD, State.HELD):  # the note lists the files that belong to it
        target = spool.state_dir(state)
        if target is None:
            continue
        for note in _numbered(spool, target, stem, b".json"):
            name = note.removesuffix(b".json") + suffix
            # A crash may have left a note whose move did not begin: its message is elsewhere.
            belongs = text(name) in notes.files(target, note)
            if belongs and not exists(name, target) and _has_other(target, name):
                spool.disk.move(half.name, source, name, target)
                return name
    if suffix == b".db":
        for state in _STAMPED:
            target = spool.state_dir(state)
            if target is None:
                continue
            name_there = _stamped_name(spool, target, half.queue_name)
            if name_there is not None:
                spool.disk.move(half.name, source, name_there, target)
                return name_there
    return None


def rejoin_deferred(spool: Spool, message: bytes, metadata: bytes) -> bool:
    """Move the `.db` called `metadata` to the side of its deferred message; say whether it moved.

    Either a crash came after the message got a new stamp and before its `.db` did, or a power
    failure undid the first of the two renames that put the pair away, and not the second.
    """
    target = spool.state_dir(State.DEFERRED)
    for state in (State.DEFERRED, State.HELD, State.DEAD):
        directory = spool.state_dir(state)
        if target is None or directory is None:
            continue
        for name in _alone(spool, directory, state, metadata):
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                spool.disk.move(name, directory, metadata_name(message), target)
                return True
    return False


def finish_move(spool: Spool, location: bytes) -> bool:
    """Complete a move that was interrupted between link and unlink: remove the old name.

    `location` is as `Location` formats it. The directory of the other link
    is synced before this link is removed. A power failure may undo the unlink of an
    earlier move, so a file may have three links. A link is removed only if every other link is in a
    state directory (with `hard_links`: if any other is). Of two links in deferred/, the one with
    more attempts stays.
    """
    state, name = Location.parse(location)
    source = spool.fd if state is State.READY else spool.state_dir(state)
    here = None if source is None else spool.stat(name, source)
    if source is None or here is None or not stat.S_ISREG(here.st_mode) or here.st_nlink == 1:
        return False
    others: list[tuple[int, bytes]] = []
    stamp = parse(name) if state in _STAMPED else None
    own = name if stamp is None else stamp[1]
    for other_state in STATE_DIRECTORIES:
        directory = spool.state_dir(other_state)
        if directory is None:
            continue
        for other in _names_for(spool, directory, own):
            now = spool.stat(other, directory)
            if (directory, other) == (source, name) or now is None:
                continue
            if (now.st_dev, now.st_ino) != (here.st_dev, here.st_ino):
                continue
            if directory == source and _attempts(other) < _attempts(name):
                return False  # the other link goes
            others.append((directory, other))
    if not others or (len(others) + 1 != here.st_nlink and not spool.layout.hard_links):
        return False
    for directory in {directory for directory, _ in others}:
        spool.disk.sync(directory)
    spool.disk.unlink(name, source)
    _forget_marker(spool, state, name)
    return True


def _forget_marker(spool: Spool, state: State, name: bytes) -> None:
    """Remove the marker of an entry whose move out of the queue is complete now."""
    if state is State.READY:
        forget_marker(spool, name)


def _names_for(spool: Spool, directory: int, own: bytes) -> set[bytes]:
    """Return the names that a file called `own` in the queue may have in a state directory."""
    stem, suffix = spool.layout.in_state_dir().split(own)
    return {*_numbered(spool, directory, stem, suffix), *namesakes(spool, directory, own)}


def _attempts(name: bytes) -> tuple[int, bytes]:
    """Return a key that grows with the stamps of one entry: its attempts, then its name."""
    found = parse(name)
    return (0 if found is None else found[0].attempts, name)


def _alone(spool: Spool, directory: int, state: State, own: bytes) -> Iterator[bytes]:
    """Yield the names in a state directory of one file of a pair whose other is not beside it."""
    stem = pair_stem(own)
    for name in _numbered(spool, directory, stem, own[len(stem) :]):
        if not _has_other(directory, name):
            yield name
    if state in _STAMPED:
        for name in namesakes(spool, directory, own):
            found = parse(name)
            if found is not None and found[1] == own and not _has_other(directory, name):
                yield name


def _numbered(spool: Spool, directory: int, stem: bytes, suffix: bytes) -> Iterator[bytes]:
    """Yield the names NAME, NAME~1 and so on that exist; any number may be missing."""
    for number in itertools.count():
        name = numbered_name(stem, suffix, number)
        if exists(name, directory):
            yield name
        elif number:
            break
    known = re.compile(re.escape(stem) + rb"~([0-9]{1,9})" + re.escape(suffix))
    for name in namesakes(spool, directory, stem + suffix):
        found = known.fullmatch(name)
        if found is not None and int(found[1]) > number:
            yield name


def _has_other(directory: int, half: bytes) -> bool:
    return any(exists(other, directory) for other in other_half_names(half))


def _stamped_name(spool: Spool, directory: int, metadata: bytes) -> bytes | None:
    """Return the name for a `.db` at the side of its stamped message; None if there is no such."""
    wanted = message_names(metadata)
    for name in (name for own in wanted for name in namesakes(spool, directory, own)):
        found = parse(name)
        if found is not None and found[1] in wanted and not _has_other(directory, name):
            return metadata_name(name)
    return None
