"""Stage 0: put an entry into a queue, durably.

Guarantees (promise 5): when `enqueue` returns, the entry survives a power failure. Its file was
written and synced under a `.tmp` name, which is no entry's, and renamed to a name that no other
file has; then the directory was synced, or what a drop box has instead (`spool.drop_box`). Before
the rename no entry is visible, after it the whole entry is. Mailman 2.1 and 3 can read the file.
Fails: WatcherError; its text says what, where and what to do. No file is left behind. After a
failed sync of the directory the entry may be there or not, and the text says so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from watcher import mailman
from watcher.errors import (
    CannotCreate,
    NoSuch,
    NotPermitted,
    TryAgain,
    Unavailable,
    Usage,
    WatcherError,
)
from watcher.rules.names import wrong_suffix
from watcher.spool import drop_box
from watcher.spool.disk import give
from watcher.spool.new_markers import make_markers

PIECE = 1 << 20  # bytes of a message that is read while it is written

_last_time = [0]  # microseconds
_lock = [threading.Lock()]


def _in_child() -> None:
    """Make a new lock: a thread that exists in the parent only may hold the old one."""
    _lock[0] = threading.Lock()


os.register_at_fork(after_in_child=_in_child)


def prepare() -> None:
    """Import the modules that a commit may need, so that no fork happens during an import.

    `watcher.__getattr__` calls this at the first use of `watcher.enqueue`. The command does not
    fork, and imports each module when it needs it.
    """
    import ctypes
    import hashlib
    import pickle

    from watcher.mailman import pickled, plain
    from watcher.spool import mounts, queue_file

    del ctypes, hashlib, pickle, mounts, pickled, plain, queue_file


class Source(Protocol):
    """A stream from which a raw message is read in pieces: an open file or a pipe."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; b"" at the end."""


def enqueue(
    queue_dir: str | bytes | os.PathLike[str],
    message: bytes | Source,
    metadata: Mapping[str, object] | None = None,
    *,
    raw: bool = False,
    suffix: str = ".pck",
    max_size: int = mailman.MAX_SIZE,
) -> str:
    """Commit one entry and return its name; the entry is durable when this returns.

    The name of a raw entry is its file's whole name.
    `metadata` values are None, bool, int, float, str, bytes, and lists, tuples and dicts of these.
    With `raw` the file holds only the message, and its name ends in `suffix`; `message` may then be
    a file open for reading, of any size, which is copied in pieces. A raw queue that records a
    marker gets one beside the entry.
    Without `raw`, an entry of more than `max_size` bytes is refused: the queue's daemon reads no
    more.
    Raises NoSuch, NotPermitted, CannotCreate, TryAgain, Unavailable or Usage.
    """
    check(raw=raw, suffix=suffix, metadata=metadata)
    data = form(message, metadata, raw=raw, max_size=max_size)
    name = new_name(data)
    path = os.fsencode(queue_dir)
    template = template_of(path) if raw else b""
    directory = open_queue(path)
    try:
        final = os.fsencode(name + (suffix if raw else ".pck"))
        _commit(directory, path, final, data)
        if template:
            _, failure = mark(directory, path, [final], template)
            if failure is not None:
                raise failure
    finally:
        os.close(directory)
    return name + suffix if raw else name


def template_of(path: bytes) -> bytes:
    """Return the template of the queue's markers, as the queue records it; b"" if it has none."""
    from watcher.spool import queue_file

    try:
        record = queue_file.read(path)
    except WatcherError:  # this user may not read it
        return b""
    return b"" if record is None else os.fsencode(record.marker)


def check(*, raw: bool, suffix: str, metadata: Mapping[str, object] | None) -> None:
    """Raise Usage if the options contradict each other."""
    if raw and metadata:
        raise Usage("a raw entry has no metadata: leave it out, or use the Mailman format")
    if not raw and suffix != ".pck":
        raise Usage(f"suffix {suffix!r}: goes with raw only; Mailman's entries end in .pck")
    if raw and (wrong := wrong_suffix(suffix)):
        raise Usage(f'suffix {suffix!r}: expected an ending like ".csv", not ".tmp": {wrong}')


def form(
    message: bytes | Source, metadata: Mapping[str, object] | None, *, raw: bool, max_size: int
) -> bytes | Source:
    """Return the contents of the entry's file; raises Usage."""
    if not isinstance(message, bytes | bytearray | memoryview):
        if raw and callable(getattr(message, "read", None)):
            return message
        wanted = "bytes, or with `raw` a file open for reading in binary"
        raise Usage(f"a message is expected to be {wanted}; got {type(message).__name__}")
    if raw:
        return message
    data = mailman.write_pck(message, dict(metadata or {}))
    if len(data) > max_size:
        raise Usage(
            f"an entry of {len(data)} bytes is more than the {max_size} that its daemon reads"
            " (max_size); only the raw format has no limit"
        )
    return data


def open_queue(path: bytes) -> int:
    """Open the queue directory; raises WatcherError."""
    try:
        return drop_box.open_to_commit(path)
    except OSError as error:
        raise as_watcher_error(error, path) from None


def _commit(directory: int, path: bytes, name: bytes, data: bytes | Source) -> None:
    scratch = name + b".tmp"
    files: list[int] = []
    try:
        _write(directory, scratch, data)
        files = drop_box.keep_open(directory, [scratch])
        rename(directory, scratch, name)
    except BaseException as error:
        drop_box.close(files)
        with contextlib.suppress(OSError):
            os.unlink(scratch, dir_fd=directory)
        if isinstance(error, OSError):
            raise as_watcher_error(error, path) from None
        raise
    try:
        sync_names(directory, path, [os.fsdecode(name)], files)
    finally:
        drop_box.close(files)


def mark(
    directory: int, path: bytes, entries: Sequence[bytes], template: bytes
) -> tuple[int, WatcherError | None]:
    """Make the markers of committed entries, durably; return how many, and the error if one failed.

    An entry that got no marker is removed: no process took it.
    """
    made, error = make_markers(directory, entries, template)
    failure = None if error is None else as_watcher_error(error, path)
    if made:
        files = drop_box.keep_open(directory, made)
        try:
            sync_names(directory, path, [os.fsdecode(name) for name in made], files)
        finally:
            drop_box.close(files)
    return len(made), failure


def rename(directory: int, scratch: bytes, name: bytes) -> None:
    """Give a complete file its entry's name: this is the commit."""
    os.rename(scratch, name, src_dir_fd=directory, dst_dir_fd=directory)


def sync_names(
    directory: int, path: bytes, names: Sequence[str], files: Sequence[int] = ()
) -> None:
    """Make the names durable, in a drop box through their open `files`; raises Unavailable."""
    try:
        if files:
            drop_box.sync_names(files)
            return
        os.fsync(directory)
    except OSError as error:
        what = f"the entry {names[0]}" if len(names) == 1 else f"{len(names)} entries"
        raise Unavailable(
            f"{os.fsdecode(path)}: the directory cannot be synced ({error.strerror}): {what}"
            " may be there and may not survive a power failure"
        ) from None


def _write(directory: int, name: bytes, data: bytes | Source) -> None:
    fd = written(directory, name, data)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def written(directory: int, name: bytes, data: bytes | Source) -> int:
    """Create and write a file; return its descriptor.

    Raises OSError if the queue's disk refuses, NoSuch if `data` cannot be read.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o660, dir_fd=directory)
    try:
        give(fd, directory)
        for piece in _pieces(data):
            view = memoryview(piece).cast("B")
            while view:
                view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def _pieces(data: bytes | Source) -> Iterator[bytes]:
    if isinstance(data, bytes | bytearray | memoryview):
        yield data
        return
    while True:
        try:
            piece = data.read(PIECE)
        except OSError as error:
            raise NoSuch(f"the message cannot be read: {error.strerror}") from None
        if not isinstance(piece, bytes):
            raise Usage("a message is expected to be read as bytes: open its file in binary")
        if not piece:
            return
        yield piece


def new_name(data: bytes | Source) -> str:
    """Return T+H, as Mailman names its entries: a time and a digest that no other entry has.

    H is computed from the time, the process number and random bytes of the kernel, and from the
    beginning of the message if it is in memory.

    T increases with each call in a process, so the sorted names of one process are in the order of
    its commits.
    """
    import hashlib

    with _lock[0]:
        now = _last_time[0] = max(time.time_ns() // 1000, _last_time[0] + 1)
    unique = b"%d %d " % (now, os.getpid()) + os.urandom(16)
    digest = hashlib.sha1(unique, usedforsecurity=False)
    if isinstance(data, bytes | bytearray | memoryview):
        digest.update(memoryview(data)[:PIECE])
    return f"{now // 1_000_000}.{now % 1_000_000:06d}+{digest.hexdigest()}"


def as_watcher_error(error: OSError, path: bytes) -> WatcherError:
    """Return the error to raise for an OSError: what the kernel refused, where, and what to do."""
    shown, reason = os.fsdecode(path), error.strerror
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NoSuch(f"{shown}: the queue directory does not exist; make it first: mkdir -p")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(f"{shown}: no entry can be put here: {reason}; check owner and mode")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return TryAgain(f"{shown}: no entry was put here: {reason}; free some, then try again")
    return CannotCreate(f"{shown}: no entry was put here: {reason}")
