"""Stage 0 for many: entries that are committed together share their syncs.

A sync costs a hundred times what the rest of a commit costs. So the files of a group are written
first, made durable by one syncfs(2) where that is as good as an fsync(2) of each, renamed, and the
directory is synced once.
Guarantees: promise 5 for each name that is returned; nothing of a group is there before all of it
is durable.
Fails: as `producer`; names that are there already are told.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping

from watcher import contents
from watcher.errors import WatcherError
from watcher.producer import check, new_name, open_queue, rename, sync_names, told, written

GROUP = 256  # entries that share their syncs: so many descriptors are open
FEW = 8  # of so few each is synced by itself: the file system may have more to write than ours
SYNCED_WHOLE = frozenset({"ext4", "xfs", "btrfs"})  # by syncfs(2), the device's cache included


def enqueue_many(
    queue_dir: str | bytes | os.PathLike[str],
    entries: Iterable[tuple[bytes, Mapping[str, object] | None]],
    *,
    raw: bool = False,
    suffix: str = ".pck",
) -> list[str]:
    """Commit many entries, each a message and its metadata, and return their names in order.

    As `enqueue`, some times as fast: entries share their syncs in groups of up to `GROUP`, and none
    of a group is there before all of it is written. All are on disk when this returns. What it
    raises, also where `entries` raised it, tells in `committed` which are on disk.
    """
    names: list[str] = []
    try:
        for group in in_groups(queue_dir, entries, raw=raw, suffix=suffix):
            names += group
    except Exception as error:
        setattr(error, "committed", tuple(names))  # noqa: B010 - any exception, the caller's too
        raise
    return names


def in_groups(
    queue_dir: str | bytes | os.PathLike[str],
    entries: Iterable[tuple[bytes, Mapping[str, object] | None]],
    *,
    raw: bool = False,
    suffix: str = ".pck",
) -> Iterator[list[str]]:
    """Do the same group by group: yield the names of each when it is on disk, then raise."""
    path = os.fsencode(queue_dir)
    directory = open_queue(path)
    waiting = iter(entries)
    try:
        while True:
            group = _Group(directory, path, suffix if raw else ".pck")
            failure: BaseException | None = None
            try:
                for message, metadata in itertools.islice(waiting, GROUP):
                    check(raw=raw, suffix=suffix, metadata=metadata)
                    data = message if raw else contents.write_pck(message, dict(metadata or {}))
                    group.write(new_name(message), data)
            except _Refused as refused:  # nothing of the group is to be there
                group.forget()
                raise told(refused.error, path) from None
            except Exception as error:  # noqa: BLE001 - the caller's: what came before it is good
                failure = error
            except BaseException:
                group.forget()
                raise
            full = len(group.names) == GROUP
            failure = group.commit() or failure
            if group.names:
                yield group.names
            if failure is not None:
                raise failure
            if not full:
                return
    finally:
        os.close(directory)


class _Refused(Exception):
    """The disk refused a file of a group."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class _Group:
    """Entries that share their syncs: all written, all synced, all renamed, one last sync."""

    def __init__(self, directory: int, path: bytes, ending: str) -> None:
        self.names: list[str] = []
        self._directory = directory
        self._path = path
        self._ending = ending
        self._open: list[int] = []
        self._renamed = 0

    def write(self, name: str, data: bytes) -> None:
        """Write one more, under a name that no watcher looks at; raises _Refused."""
        self.names.append(name)
        try:
            self._open.append(written(self._directory, self._scratch(name), data))
        except OSError as error:
            raise _Refused(error) from None

    def commit(self) -> WatcherError | None:
        """Make all of it durable, then visible, then durably visible.

        Returns what went wrong, if anything did; `names` are then those that are there.
        """
        if not self.names:
            return None
        failure = None
        try:
            self._sync()
            self._close()
            for number, name in enumerate(self.names):
                final = os.fsencode(name + self._ending)
                rename(self._directory, self._scratch(name), final)
                self._renamed = number + 1
        except OSError as error:
            failure = told(error, self._path)
            self.forget()
        if self.names:
            names = [name + self._ending for name in self.names]
            sync_names(self._directory, self._path, names)
        return failure

    def _sync(self) -> None:
        if len(self._open) < FEW or not _sync_file_system(self._directory):
            for fd in self._open:
                os.fsync(fd)

    def _scratch(self, name: str) -> bytes:
        return os.fsencode(name + self._ending + ".tmp")

    def _close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def forget(self) -> None:
        """Remove what was written and not renamed."""
        self._close()
        for name in self.names[self._renamed :]:
            with contextlib.suppress(OSError):
                os.unlink(self._scratch(name), dir_fd=self._directory)
        del self.names[self._renamed :]


def _sync_file_system(directory: int) -> bool:
    """Sync all of the file system that a directory lies on, if that is as good as fsync(2) of each.

    syncfs(2) tells of failed writes since Linux 5.8, and some file systems take it for a no-op.
    """
    from watcher.spool import mounts

    release = tuple(map(int, re.findall("[0-9]+", os.uname().release)[:2]))
    try:
        if release < (5, 8) or mounts.filesystem(directory) not in SYNCED_WHOLE:
            return False
    except OSError:  # it cannot be told now, with so many files open
        return False
    import ctypes

    if ctypes.CDLL(None, use_errno=True).syncfs(directory) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return True
