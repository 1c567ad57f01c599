"""Stage 0 for many: entries that are committed together share their syncs.

A sync costs a hundred times as much as the rest of a commit. So the files of a group are written
first, then made durable by one syncfs(2) if that is as good as an fsync(2) of each file, then
renamed; the directory is synced once.
Guarantees: promise 5 for each name that is returned. No entry of a group is visible before all of
its files are durable.
Fails: as `commit_one`; the error says which entries were committed before it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping

from watcher import mailman
from watcher.commit_one import (
    Source,
    as_watcher_error,
    check,
    form,
    mark,
    new_name,
    open_queue,
    rename,
    sync_names,
    template_of,
    written,
)
from watcher.errors import WatcherError
from watcher.spool import drop_box
from watcher.spool.whole_sync import sync_file_system

GROUP = 256  # entries that share their syncs; each needs an open descriptor
FEW = 8  # fewer files are synced one by one: syncfs(2) also writes the data of other programs


def enqueue_many(
    queue_dir: str | bytes | os.PathLike[str],
    entries: Iterable[tuple[bytes | Source, Mapping[str, object] | None]],
    *,
    raw: bool = False,
    suffix: str = ".pck",
    max_size: int = mailman.MAX_SIZE,
) -> list[str]:
    """Commit many entries, each a message and its metadata, and return their names in order.

    Like `enqueue`, but several times as fast: up to `GROUP` entries share their syncs, and no entry
    of a group is visible before all of its files are written. All entries are durable when this
    returns. An exception, also one that `entries` raised, has the names of the durable entries in
    its attribute `committed`.
    """
    names: list[str] = []
    try:
        for group in in_groups(queue_dir, entries, raw=raw, suffix=suffix, max_size=max_size):
            names += group
    except Exception as error:
        setattr(error, "committed", tuple(names))  # noqa: B010 - on any exception, also the caller's
        raise
    return names


def in_groups(
    queue_dir: str | bytes | os.PathLike[str],
    entries: Iterable[tuple[bytes | Source, Mapping[str, object] | None]],
    *,
    raw: bool = False,
    suffix: str = ".pck",
    max_size: int = mailman.MAX_SIZE,
    marker: str | None = None,
) -> Iterator[list[str]]:
    """Commit group by group: yield the names of each group when it is durable, then raise.

    `marker` is the template of the queue's markers, "" for none; None: as the queue records it.
    """
    path = os.fsencode(queue_dir)
    if marker is None:
        marker = os.fsdecode(template_of(path)) if raw else ""
    directory = open_queue(path)
    waiting = iter(entries)
    try:
        while True:
            group = _Group(directory, path, suffix if raw else ".pck", os.fsencode(marker))
            failure: BaseException | None = None
            try:
                for message, metadata in itertools.islice(waiting, GROUP):
                    check(raw=raw, suffix=suffix, metadata=metadata)
                    data = form(message, metadata, raw=raw, max_size=max_size)
                    group.write(new_name(data), data)
            except _Refused as refused:  # no entry of the group may be visible
                group.forget()
                raise as_watcher_error(refused.error, path) from None
            except Exception as error:  # noqa: BLE001 - the caller's: the entries before it are committed
                failure = error
            except BaseException:
                group.forget()
                raise
            full = len(group.names) == GROUP
            failure = group.commit() or failure
            if group.names:
                yield [name + suffix for name in group.names] if raw else group.names
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
    """Entries that share their syncs: written, synced, renamed; then one sync of the names."""

    def __init__(self, directory: int, path: bytes, ending: str, marker: bytes) -> None:
        self.names: list[str] = []
        self._directory = directory
        self._path = path
        self._ending = ending
        self._marker = marker
        self._open: list[int] = []
        self._renamed = 0

    def write(self, name: str, data: bytes | Source) -> None:
        """Write the file of one more entry under a `.tmp` name; raises _Refused.

        If `data` cannot be read, its exception is raised and the file is removed.
        """
        self.names.append(name)
        try:
            self._open.append(written(self._directory, self._scratch(name), data))
        except OSError as error:
            raise _Refused(error) from None
        except Exception:
            self.names.pop()
            with contextlib.suppress(OSError):
                os.unlink(self._scratch(name), dir_fd=self._directory)
            raise

    def commit(self) -> WatcherError | None:
        """Make the files durable, rename them, and make the names durable.

        Returns the error if there was one; `names` then holds the entries that were committed.
        """
        if not self.names:
            return None
        failure, files = None, []
        try:
            self._sync()
            self._close()
            files = drop_box.keep_open(self._directory, map(self._scratch, self.names))
            for number, name in enumerate(self.names):
                final = os.fsencode(name + self._ending)
                rename(self._directory, self._scratch(name), final)
                self._renamed = number + 1
        except OSError as error:
            failure = as_watcher_error(error, self._path)
            self.forget()
        try:
            if self.names:
                names = [name + self._ending for name in self.names]
                sync_names(self._directory, self._path, names, files)
        finally:
            drop_box.close(files)
        return self._mark() or failure if self._marker else failure

    def _mark(self) -> WatcherError | None:
        """Give each entry its marker; those that got none are not committed."""
        entries = [os.fsencode(name + self._ending) for name in self.names]
        count, failure = mark(self._directory, self._path, entries, self._marker)
        del self.names[count:]
        return failure

    def _sync(self) -> None:
        if len(self._open) < FEW or not sync_file_system(self._open[0]):
            for fd in self._open:
                os.fsync(fd)

    def _scratch(self, name: str) -> bytes:
        return os.fsencode(name + self._ending + ".tmp")

    def _close(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def forget(self) -> None:
        """Remove the files that were written and not renamed."""
        self._close()
        for name in self.names[self._renamed :]:
            with contextlib.suppress(OSError):
                os.unlink(self._scratch(name), dir_fd=self._directory)
        del self.names[self._renamed :]
