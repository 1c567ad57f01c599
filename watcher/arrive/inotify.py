"""Hints from the kernel: inotify(7), through pyinotify's watch manager and constants.

Guarantees: IN_MOVED_TO is the only event asked for besides those of the watch itself, and
IN_CLOSE_WRITE in legacy mode; so nothing but renames fills the kernel's queue. An overflow comes
out as EVERYTHING for every queue. The directory watched is the very one the spool has open.
Fails: `arm` raises WatchFailed with the limit that was hit.

pyinotify's own reader and its Notifier pipeline are not used: they cost ten times as much an
event, and one name that is not UTF-8 makes them drop the rest of a batch.
"""

from __future__ import annotations

import contextlib
import os
import struct
import warnings

from watcher.arrive.source import Hint, Seen
from watcher.errors import WatchFailed
from watcher.spool.layout import DEFERRED, display
from watcher.spool.spool import Spool

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports asyncore, deprecated since Python 3.11
    import pyinotify

READ = 1 << 18  # bytes: room for some thousands of events in one read
_HEADER = struct.Struct("iIII")
_SELF = pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF | pyinotify.IN_ONLYDIR
_ENDED = (
    pyinotify.IN_IGNORED | pyinotify.IN_UNMOUNT | pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF
)
_OVERFLOW = pyinotify.IN_Q_OVERFLOW
_MOVED_TO = pyinotify.IN_MOVED_TO
_CLOSE_WRITE = pyinotify.IN_CLOSE_WRITE
_ISDIR = pyinotify.IN_ISDIR


def _reason(error: Exception) -> str:
    """Return the kernel's words out of pyinotify's."""
    return str(error).rpartition("Errno=")[2]


class Inotify:
    """One inotify instance for all queues of the process (128 a user is the usual limit)."""

    def __init__(self) -> None:
        try:
            self._manager = pyinotify.WatchManager()
        except OSError as error:
            raise WatchFailed(
                f"no inotify instance to be had ({_reason(error)}):"
                " raise fs.inotify.max_user_instances"
            ) from None
        self._fd: int = self._manager.get_fd()
        os.set_blocking(self._fd, False)
        os.set_inheritable(self._fd, False)
        self._buffer = bytearray(READ)
        self._tags: dict[int, int] = {}  # watch descriptor -> tag
        self._deferred: dict[int, int] = {}  # the same, of watches on deferred/

    def fileno(self) -> int:
        """Return the inotify descriptor."""
        return self._fd

    def arm(self, tag: int, spool: Spool) -> None:
        """Watch the directory that the spool has open; raise WatchFailed."""
        mask = _MOVED_TO | _SELF | (_CLOSE_WRITE if spool.layout.legacy else 0)
        self._tags[self._add(spool.fd, spool.path, mask)] = tag

    def watches(self, tag: int) -> bool:
        """Whether the queue with this tag is watched."""
        return tag in self._tags.values()

    def arm_deferred(self, tag: int, spool: Spool, directory: int) -> None:
        """Watch the queue's `deferred/` too; to watch it again changes nothing."""
        path = spool.path + b"/.watcher/deferred"
        self._deferred[self._add(directory, path, _MOVED_TO | pyinotify.IN_ONLYDIR)] = tag

    def _add(self, fd: int, shown: bytes, mask: int) -> int:
        path = f"/proc/self/fd/{fd}"  # by descriptor: no name to encode, no race with it
        if not os.path.exists(path):
            path = os.fsdecode(shown)
        try:
            watch: int = self._manager.add_watch(path, mask, quiet=False)[path]
        except pyinotify.WatchManagerError as error:
            limit = "; raise fs.inotify.max_user_watches" if "ENOSPC" in str(error) else ""
            raise WatchFailed(
                f"{display(shown)}: cannot be watched ({_reason(error)}){limit}"
            ) from None
        return watch

    def disarm(self, tag: int) -> None:
        """Stop watching the queue with this tag."""
        for tags in (self._tags, self._deferred):
            for watch in [watch for watch, held in tags.items() if held == tag]:
                del tags[watch]
                with contextlib.suppress(pyinotify.WatchManagerError):  # the kernel took it away
                    self._manager.rm_watch(watch, quiet=False)

    def read(self) -> list[Hint]:
        """Read what the kernel has queued, in one call."""
        try:
            end = os.readv(self._fd, [self._buffer])  # a buffer of our own: none to allocate
        except BlockingIOError:
            return []
        return self._parse(bytes(memoryview(self._buffer)[:end]))

    def _parse(self, data: bytes) -> list[Hint]:
        hints: list[Hint] = []
        offset, end = 0, len(data)
        tags, unpack, header, renamed = self._tags, _HEADER.unpack_from, _HEADER.size, Seen.RENAMED
        while offset < end:
            watch, mask, _cookie, length = unpack(data, offset)
            offset += header
            name = data[offset : offset + length].rstrip(b"\0")
            offset += length
            tag = tags.get(watch)
            if mask == _MOVED_TO and tag is not None:
                hints.append(Hint(tag, renamed, name))
            elif mask & _OVERFLOW:
                hints.append(Hint(None, Seen.EVERYTHING))
            elif tag is None:
                hints += self._parse_deferred(watch, mask, name)
            elif mask & _MOVED_TO:
                if not mask & _ISDIR:
                    hints.append(Hint(tag, renamed, name))
            elif mask & _CLOSE_WRITE:
                hints.append(Hint(tag, Seen.CLOSED, name))
            elif mask & _ENDED:
                if mask & pyinotify.IN_IGNORED:
                    del tags[watch]
                    self._manager.del_watch(watch)
                hints.append(Hint(tag, Seen.GONE))
        return hints

    def _parse_deferred(self, watch: int, mask: int, name: bytes) -> list[Hint]:
        """Read an event of deferred/, or the last words of a watch that was taken away."""
        tag = self._deferred.get(watch)
        if tag is None:
            return []
        if mask & pyinotify.IN_IGNORED:
            del self._deferred[watch]
            self._manager.del_watch(watch)
        elif mask & _MOVED_TO and not mask & _ISDIR:
            return [Hint(tag, Seen.RENAMED, DEFERRED + name)]
        return []

    def close(self) -> None:
        """Close the descriptor, and the watches with it."""
        self._manager.close()
