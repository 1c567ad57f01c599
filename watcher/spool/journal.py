"""What became of every entry, a line a transition (docs/spool-format.md, "The journal").

A line is written before the step that it tells of, into this process's spill: a small file mapped
into memory, so that it costs no system call and outlives the process. `flush` appends what has
gathered to `.watcher/journal` with one write(2); what a dead process had not flushed, whoever finds
its directory does (`spill_over`).
Guarantees: nothing here raises or waits for a disk that refuses; a line is whole, or is followed by
itself, whole; lines that had to be dropped are counted, and the count is a line. Nothing is synced.
Fails: never; `trouble` says what keeps lines from being written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import re
import threading
import time
from collections.abc import Callable, Iterator

from watcher.errors import WatcherError
from watcher.lifecycle import Move, State
from watcher.spool.disk import DIRECTORY
from watcher.spool.layout import STATE_DIRECTORIES, Layout, is_metadata, is_stored

NAME = b"journal"
SPILL = b".journal"
SIZE = 64 << 10  # bytes of a spill
ROTATED = 16 << 20  # bytes after which a new file is begun
KEPT = 8  # files beside the newest
FLUSH_AFTER = 0.2  # seconds that a line may wait
LATE = 10.0  # seconds: lines that waited for longer are marked, so that a reader need not wait
_HEADER = 8  # bytes: how much of a spill is used, as a decimal number
_ODD = re.compile(rb"[^!-$&-~]")
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("%"))
_ODD_IN_DETAIL = re.compile(rb"[^ -$&-~]")
_LONGEST_DETAIL = 1_000  # bytes
_AT_ONCE = 1_024  # entries
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_words: dict[tuple[State, Move | str], bytes] = {}
_process = [os.getpid()]  # asked for once: it is a system call


def _in_child() -> None:
    _process[0] = os.getpid()


os.register_at_fork(after_in_child=_in_child)


class Journal:
    """The journal of one queue directory, as this process writes it.

    `ours` gives the descriptor of `.watcher`, `spill` that of this process's own directory.
    """

    def __init__(self, ours: Callable[[], int], spill: Callable[[], int], layout: Layout) -> None:
        self.enabled = True
        self.trouble = ""
        self._ours = ours
        self._spill = spill
        self._layout = layout
        self._map: mmap.mmap | bytearray | None = None
        self._used = _HEADER
        self._lost = 0
        self._since = 0.0  # when the oldest line that waits was written
        self._lock = threading.Lock()

    def record(
        self, state: State, move: Move | str, inode: int, name: bytes, detail: str = ""
    ) -> None:
        """Put down that an entry is about to leave `state` by `move`."""
        if not self.enabled:
            return
        line = line_of(time.time_ns(), state, move, inode, name, detail)
        with self._lock:
            if self._map is None:
                self._map = self._open_spill()
            end = self._used + len(line)
            if end > SIZE and self._write():
                end = self._used + len(line)
            if end > SIZE:
                self._lost += 1
                return
            if self._used == _HEADER:
                self._since = time.monotonic()
            self._map[self._used : end] = line
            self._map[:_HEADER] = b"%08d" % end
            self._used = end
            if isinstance(self._map, bytearray):  # nothing that outlives us holds the line
                self._write()

    def flush(self, older: float = 0.0) -> None:
        """Append what has gathered, if the oldest line of it is older than so many seconds."""
        if self._used > _HEADER and time.monotonic() - self._since >= older:
            with self._lock:
                self._write()

    def _open_spill(self) -> mmap.mmap | bytearray:
        try:
            fd = os.open(SPILL, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._spill())
            try:
                os.posix_fallocate(fd, 0, SIZE)  # a map of what the disk refuses is SIGBUS
                return mmap.mmap(fd, SIZE)
            finally:
                os.close(fd)
        except (OSError, WatcherError):
            return bytearray(SIZE)

    def _write(self) -> bool:
        """Append the spill to the journal; we hold the lock."""
        if self._map is None:
            return True
        data = bytes(self._map[_HEADER : self._used])
        if self._lost:
            data += line_of(time.time_ns(), State.READY, "lost", 0, b"-", f"{self._lost} lines")
        if time.monotonic() - self._since > LATE:
            data = _mark(data) + data
        try:
            append(self._ours(), data, self._layout)
        except (OSError, WatcherError) as error:
            self.trouble = f"the journal cannot be written: {error}"
            return False
        self._used, self._lost, self.trouble = _HEADER, 0, ""
        self._map[:_HEADER] = b"%08d" % _HEADER
        if isinstance(self._map, bytearray):
            self._map = None  # perhaps there is room for a file again
        return True


def line_of(
    now_ns: int, state: State, move: Move | str, inode: int, name: bytes, detail: str = ""
) -> bytes:
    """Return a line of the journal. PURE, but for this process's number."""
    words = _words.get((state, move))
    if words is None:
        word = move.value if isinstance(move, Move) else move
        words = f"{state.value} {word.replace(' ', '_')}".encode()
        _words[state, move] = words
    if name.translate(None, _PLAIN):  # a third of the time that the search takes
        name = _ODD.sub(_quoted, name)
    seconds, microseconds = divmod(now_ns // 1000, 1_000_000)
    head = (seconds, microseconds, _process[0], words, inode, name)
    if not detail:
        return b"%d.%06d %d %s %d %s\n" % head
    text = detail.encode("utf-8", "backslashreplace")[:_LONGEST_DETAIL]
    return b"%d.%06d %d %s %d %s %s\n" % (*head, _ODD_IN_DETAIL.sub(_quoted, text))


def _quoted(odd: re.Match[bytes]) -> bytes:
    return b"%%%02X" % odd[0][0]


def _mark(lines: bytes) -> bytes:
    """Return the line that says that these, which follow it, are older than those before it."""
    count = lines.count(b"\n")
    return line_of(time.time_ns(), State.READY, "late", 0, b"-", f"{count} lines")


def append(ours: int, data: bytes, layout: Layout) -> None:
    """Append whole lines to the journal in `.watcher`, begun anew if it is large; raises OSError.

    A write that was cut short is made good by writing all of it again, from a new line on.
    """
    for _ in range(3):
        fd = os.open(NAME, _APPEND, 0o600, dir_fd=ours)
        try:
            if os.fstat(fd).st_size >= ROTATED and _rotate(ours, fd, layout):
                continue
            _write_whole(fd, data)
            return
        finally:
            os.close(fd)
    raise BlockingIOError(errno.EAGAIN, "others begin one file after the other")


def _write_whole(fd: int, lines: bytes) -> None:
    """Write lines; where the disk takes a part only, end the line that is torn, and raise."""
    written = os.write(fd, lines)
    if written < len(lines):
        with contextlib.suppress(OSError):
            os.write(fd, b"\n")
        raise OSError(errno.ENOSPC, "the disk took a part of it only")


def _rotate(ours: int, fd: int, layout: Layout) -> bool:
    """Begin a new file, if nobody else has or is about to; say whether to look again.

    The old one ends with what is still open: so that, however much that is, the new one is empty.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        newest = os.stat(NAME, dir_fd=ours).st_ino
    except FileNotFoundError:
        return True  # another has just done it, and nobody has written to the new one yet
    if newest != os.fstat(fd).st_ino:
        return True  # done by another
    for lines in _carried(ours, layout):
        _write_whole(fd, lines)  # whole lines: others may still be appending theirs
    for number in range(KEPT, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            older, newer = NAME + b".%d" % number, NAME + b".%d" % (number - 1)
            os.rename(newer, older, src_dir_fd=ours, dst_dir_fd=ours)
    os.rename(NAME, NAME + b".1", src_dir_fd=ours, dst_dir_fd=ours)
    return True


def _carried(ours: int, layout: Layout) -> Iterator[bytes]:
    """Yield a line for each entry that an operator or a timer is still to see to, many at once."""
    for state, place in STATE_DIRECTORIES.items():
        try:
            fd = os.open(place, DIRECTORY | os.O_NOFOLLOW, dir_fd=ours)
        except OSError:
            continue
        try:
            with os.scandir(fd) as items:
                while some := list(itertools.islice(items, _AT_ONCE)):
                    now = time.time_ns()
                    files = [(item.inode(), os.fsencode(item.name)) for item in some]
                    yield b"".join(
                        line_of(now, state, "carried", inode, name)
                        for inode, name in files
                        if _is_life(name, state, layout)
                    )
        finally:
            os.close(fd)


def _is_life(name: bytes, state: State, layout: Layout) -> bool:
    """Whether a file in the directory of `state` is what an entry is known by.

    Of a pair that is its message's; the lines tell of a `.db` only where it is alone, an orphan.
    """
    return is_stored(name, layout) and (state is State.ORPHAN or not is_metadata(name, layout))


def spill_over(directory: int, ours: int, layout: Layout) -> None:
    """Append what a process had not flushed, from its own directory; raises OSError."""
    data = spilled(directory)
    if data:
        if abs(time.time() - float(data[: data.index(b" ")])) > LATE:
            data = _mark(data) + data
        append(ours, data, layout)
        os.unlink(SPILL, dir_fd=directory)


def spilled(directory: int) -> bytes:
    """Return the lines in a process's spill; nothing when there is none that makes sense.

    Raises OSError when it cannot be read now: its lines are not to be thrown away.
    """
    try:
        fd = os.open(SPILL, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return b""
        raise
    try:
        data = os.pread(fd, SIZE, 0)
        used = int(data[:_HEADER])
    except ValueError:
        return b""
    finally:
        os.close(fd)
    lines = data[_HEADER : min(used, SIZE)]
    return lines[: lines.rfind(b"\n") + 1]
