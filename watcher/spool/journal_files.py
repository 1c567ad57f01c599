"""Append lines to the journal; begin a new file when one is full (`spool.journal_rotation`).

The first line of each file identifies the `.watcher` and the queue directory that it was begun in,
and has the name of the host. In a copy or a restored backup of the queue, a reader sees by it which
inode numbers are not valid. Lines that another host appends have a line `host` before them.
Guarantees: each append begins on a new line, whatever an earlier write left unfinished. A file has
its first line before it has its name. Nothing is appended to a file that was begun elsewhere.
Fails: OSError; then nothing was written, or a part that no reader takes for a line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

from watcher.rules.lifecycle import State
from watcher.spool import state_files
from watcher.spool.birth import birth_ns, birth_of
from watcher.spool.dirs import exists
from watcher.spool.disk import DISK
from watcher.spool.journal_line import LONGEST, MARK, Line, line_of, parse_line
from watcher.spool.journal_rotation import NAME, JournalFiles, carried_lines, file_name, shift

_UNFINISHED = NAME + b".new."
ROTATED = 16 << 20  # bytes after which a new file is begun
GOES_ON = "goes on"
FIRST = "first start"
COPIED = "copied or moved to here"
NO_JOURNAL = "no journal was here, though entries were put away"
SHORT = 4 << 20  # bytes
_TRIES = 5  # other processes may begin a new file at the same time
_HEAD = 1_024  # bytes: the first line is shorter
HOST = os.fsencode(os.uname().nodename) or b"-"  # kept: uname is a system call
_BEGIN = re.compile(rb"2 ours=([0-9]{1,20})@([0-9]{1,20}) queue=([0-9]{1,20})@([0-9]{1,20}) (.+)")


class Place(NamedTuple):
    """What identifies a directory: a copy has another inode number or another time of birth."""

    inode: int
    birth: int  # nanoseconds since the epoch; 0 if the file system does not say

    def is_same(self, other: Place) -> bool:
        """Whether both are one directory."""
        born = self.birth == other.birth or not self.birth or not other.birth
        return self.inode == other.inode and born


class Begin(NamedTuple):
    """The contents of a file's first line."""

    state_root: Place
    queue: Place
    why: str
    host: bytes = b"-"  # that began the file; b"-": not known


def place_of(state_root: int) -> Place:
    """Return which `.watcher` this is."""
    return Place(os.fstat(state_root).st_ino, birth_ns(state_root) or 0)


def parse_begin(line: Line) -> Begin | None:
    """Return the contents of a line `begin`; None if it is not valid."""
    found = _BEGIN.fullmatch(line.detail) if line.move == b"begin" else None
    if found is None:
        return None
    numbers = [int(number) for number in found.groups()[:4]]
    return Begin(
        Place(*numbers[:2]), Place(*numbers[2:]), found[5].decode("ascii", "replace"), line.name
    )


def append(files: JournalFiles, lines: bytes, why: str = "", place: Place | None = None) -> None:
    """Append whole lines to the newest file, after beginning a new one if need be; raises OSError.

    `why`, if given, is written as a line `begin` before them: what happened to the journal before.
    """
    place = place_of(files.state_root) if place is None else place
    reason = why
    for _ in range(_TRIES):
        try:
            fd = state_files.open_file(NAME, files.directory, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            if _begin(files, lines, reason, place):
                return
            continue
        try:
            known = _first_line(fd)
            fits = known is not None and known.state_root.is_same(place)
            if fits and os.fstat(fd).st_size < ROTATED:
                again = _begin_line(files.state_root, place, why) if why else b""
                _write_whole(fd, again + _with_host(known, lines))
                return
            if known is not None and not fits:
                reason = why or COPIED
            rotated = _rotate(files, fd, carry=known is None or fits)
            if rotated is None:
                if not fits:
                    raise BlockingIOError(errno.EAGAIN, "another process begins a file just now")
                _write_whole(fd, _with_host(known, lines))
                return
        finally:
            os.close(fd)
    raise BlockingIOError(errno.EAGAIN, "other processes begin one file after the other")


def _first_line(fd: int) -> Begin | None:
    """Return the contents of the first line; None if the file's version wrote no such line."""
    for raw in os.pread(fd, _HEAD, 0).splitlines(keepends=True)[:2]:
        line = parse_line(raw)
        if line is not None and line.move == b"begin":
            return parse_begin(line)
    return None


def _with_host(known: Begin | None, lines: bytes) -> bytes:
    """Return lines for a file, after this host's name if another host began the file.

    The name counts up to the next `MARK`, so each write says it.
    """
    if not lines or (known is not None and known.host == HOST):
        return lines
    return line_of(time.time_ns(), State.READY, "host", 0, HOST) + lines


def _begin_line(state_root: int, place: Place, why: str, host: bytes = b"-") -> bytes:
    queue = Place(os.stat(b"..", dir_fd=state_root).st_ino, birth_of(b"..", state_root) or 0)
    detail = f"2 ours={place.inode}@{place.birth} queue={queue.inode}@{queue.birth} {why}"
    return line_of(time.time_ns(), State.READY, "begin", 0, host, detail)


def _begin(files: JournalFiles, lines: bytes, why: str, place: Place) -> bool:
    """Make the newest file with its first line; return False if another process made it first.

    The file is locked until it has its name: an unfinished file without a lock is left from a
    process that was killed.
    """
    directory = files.directory
    _clear_unfinished(directory)
    carried = b""
    if not exists(file_name(1), directory):
        carried = b"".join(carried_lines(files.state_root, files.layout))
        why = why or (NO_JOURNAL if carried else FIRST)
    first = _begin_line(files.state_root, place, why or GOES_ON, HOST)
    scratch = _UNFINISHED + b"%d.%s" % (os.getpid(), os.urandom(4).hex().encode())
    fd = state_files.create(scratch, directory, os.O_WRONLY)
    try:
        with contextlib.closing(os.fdopen(fd, "wb", buffering=0)) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_whole(file.fileno(), first + carried + lines)
            DISK.move(scratch, directory, NAME, directory)
    except (FileExistsError, FileNotFoundError, BlockingIOError):
        # The last two: before it was locked, another process took it for a dead process's file.
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):  # it was renamed
            os.unlink(scratch, dir_fd=directory)
    return True


def _clear_unfinished(directory: int) -> None:
    """Remove the files that killed processes began: the lines in them are in their spills too."""
    for name in map(os.fsencode, os.listdir(directory)):
        if not name.startswith(_UNFINISHED):
            continue
        with contextlib.suppress(OSError):  # its process is at work, or has renamed it
            fd = state_files.open_file(name, directory, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=directory)
            finally:
                os.close(fd)


def _write_whole(fd: int, lines: bytes) -> None:
    """Write lines after a mark. Raise if the disk takes a part only: the next mark ends that."""
    if not lines:
        return
    data = MARK + lines
    written = os.write(fd, data)
    if written < len(data):
        raise OSError(errno.ENOSPC, "the disk took a part of it only")


def _rotate(files: JournalFiles, fd: int, *, carry: bool) -> bool | None:
    """Rename the full file to journal.1; return None if another process is about to.

    Before that, append a line for each entry that is put away, so that the new file is empty
    however many there are. Not if `carry` is false: the file is of another place.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    try:
        newest = os.stat(NAME, dir_fd=files.directory).st_ino
    except FileNotFoundError:
        return True  # another process has renamed it, and not made the new one yet
    if newest != os.fstat(fd).st_ino:
        return True  # another process has renamed it
    for lines in carried_lines(files.state_root, files.layout) if carry else ():
        _write_whole(fd, lines)  # whole lines: other processes may append at the same time
    shift(files)
    return True


def names_mentioned(directory: int, names: Collection[bytes]) -> set[bytes]:
    """Return which of these names have a line about a move in the newest file.

    While that file is short, the one before it is read too. Raises OSError.
    """
    found: set[bytes] = set()
    for name in map(file_name, range(2)):
        try:
            fd = state_files.open_file(name, directory)
        except FileNotFoundError:
            break
        with open(fd, "rb") as file:
            for raw in lines_in(file):
                tells = b" vanish " not in raw and b" ready accept " not in raw
                line = parse_line(raw) if tells else None
                if line is not None and line.name in names:
                    found.add(line.name)
            if file.tell() > SHORT:
                break
    return found


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file of the journal, of each at most `LONGEST` bytes.

    The rest of a longer one is passed over: watcher wrote no such line. Holes are not read: a
    queue's owner can make a file of a terabyte that has no byte on the disk.
    """
    while line := file.readline(LONGEST):
        yield line
        while len(line) == LONGEST and not line.endswith(b"\n"):
            _pass_hole(file)
            line = file.readline(LONGEST)


def _pass_hole(file: BinaryIO) -> None:
    """Continue where the file has data again, or at its end."""
    fd, here = file.fileno(), file.tell()
    ahead, end = os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd).st_size  # ahead of `here`: buffered
    try:
        data = os.lseek(fd, here, os.SEEK_DATA)
    except OSError as error:
        data = end if error.errno == errno.ENXIO else here
    os.lseek(fd, ahead, os.SEEK_SET)
    if data > here:
        file.seek(data)
