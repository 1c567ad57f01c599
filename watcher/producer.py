"""Stage 0: put an entry into a queue, durably.

Guarantees (promise 5): when `enqueue` returns, the entry survives a power failure: its file was
written and synced under a name no watcher looks at, renamed to one that nothing has, and the
directory synced. Before the rename nothing is there; after it everything is. What Mailman 2.1 and
3 read, `enqueue` writes.
Fails: WatcherError naming what, where and what to do; nothing of ours is left behind, except that
after a failed sync of the directory the entry may be there or not (the text says so).
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Mapping, Sequence

from watcher import contents
from watcher.errors import (
    CannotCreate,
    NoSuch,
    NotPermitted,
    TryAgain,
    Unavailable,
    Usage,
    WatcherError,
)

_last_time = [0]  # microseconds
_lock = threading.Lock()


def enqueue(
    queue_dir: str | bytes | os.PathLike[str],
    message: bytes,
    metadata: Mapping[str, object] | None = None,
    *,
    raw: bool = False,
    suffix: str = ".pck",
) -> str:
    """Commit one entry and return its name; it is on disk when this returns.

    `metadata` values are None, bool, int, float, str, bytes, and lists, tuples and dicts of these.
    With `raw` the file holds the message and nothing else, and its name ends in `suffix`.
    Raises NoSuch, NotPermitted, CannotCreate, TryAgain or Usage.
    """
    check(raw=raw, suffix=suffix, metadata=metadata)
    data = message if raw else contents.write_pck(message, dict(metadata or {}))
    name = new_name(message)
    path = os.fsencode(queue_dir)
    directory = open_queue(path)
    try:
        _commit(directory, path, os.fsencode(name + (suffix if raw else ".pck")), data)
    finally:
        os.close(directory)
    return name


def check(*, raw: bool, suffix: str, metadata: Mapping[str, object] | None) -> None:
    """Refuse options that do not go together; raises Usage."""
    if raw and metadata:
        raise Usage("a raw entry has no metadata: leave it out, or use the Mailman format")
    if not raw and suffix != ".pck":
        raise Usage(f"suffix {suffix!r}: goes with raw only; Mailman's entries end in .pck")
    if raw and (suffix.endswith(".tmp") or "/" in suffix or "\0" in suffix):
        raise Usage(
            f'suffix {suffix!r}: expected an ending like ".csv", not ".tmp": no watcher'
            " looks at those"
        )


def open_queue(path: bytes) -> int:
    """Open the queue directory; raises WatcherError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise told(error, path) from None


def _commit(directory: int, path: bytes, name: bytes, data: bytes) -> None:
    scratch = name + b".tmp"
    try:
        _write(directory, scratch, data)
        rename(directory, scratch, name)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(scratch, dir_fd=directory)
        if isinstance(error, OSError):
            raise told(error, path) from None
        raise
    sync_names(directory, path, [os.fsdecode(name)])


def rename(directory: int, scratch: bytes, name: bytes) -> None:
    """Make an entry of a file that is whole: the commit."""
    os.rename(scratch, name, src_dir_fd=directory, dst_dir_fd=directory)


def sync_names(directory: int, path: bytes, names: Sequence[str]) -> None:
    """Make the names durable; raises Unavailable."""
    try:
        os.fsync(directory)
    except OSError as error:
        what = f"the entry {names[0]}" if len(names) == 1 else f"{len(names)} entries"
        raise Unavailable(
            f"{os.fsdecode(path)}: the directory cannot be synced ({error.strerror}): {what}"
            " may be there and may not survive a power failure"
        ) from None


def _write(directory: int, name: bytes, data: bytes) -> None:
    fd = written(directory, name, data)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def written(directory: int, name: bytes, data: bytes) -> int:
    """Write a file that is not there yet; return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o660, dir_fd=directory)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def new_name(message: bytes) -> str:
    """Return T+H as Mailman names its entries: when, and a digest no other entry shares.

    T never goes back within a process, so that sorting the names of one writer gives its order.
    """
    import hashlib

    with _lock:
        now = _last_time[0] = max(time.time_ns() // 1000, _last_time[0] + 1)
    unique = b"%d %d " % (now, os.getpid()) + os.urandom(16)
    digest = hashlib.sha1(unique + message, usedforsecurity=False).hexdigest()
    return f"{now // 1_000_000}.{now % 1_000_000:06d}+{digest}"


def told(error: OSError, path: bytes) -> WatcherError:
    """Say what the kernel refused, where, and what to do."""
    shown, reason = os.fsdecode(path), error.strerror
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NoSuch(f"{shown}: no such queue directory; make it first: mkdir -p")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(f"{shown}: no entry can be put here: {reason}; check owner and mode")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return TryAgain(f"{shown}: no entry was put here: {reason}; free some, then try again")
    return CannotCreate(f"{shown}: no entry was put here: {reason}")
