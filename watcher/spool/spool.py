"""One open queue directory: everything else works relative to its descriptor.

All workers of a queue share one `Spool`, also across a reload. It owns its descriptors: they are
closed with the last reference to it, and by nothing else.
Guarantees: `lock` is held while a state directory is opened or the process directory is made, so
that each is opened once. The open directories stay the same, whatever is renamed or mounted over
the path (`is_current` tells). A state directory is a real directory of this process's user (for
root: of the queue's owner), or nothing is put into it.
Fails: `Spool` raises NoSuch, NotPermitted or Unavailable; `make_state_dir`, `state_root` and
`inflight` these and CannotCreate; `stat` and `state_dir` also OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref

from watcher.errors import (
    CannotCreate,
    NoSpace,
    NoSuch,
    NotPermitted,
    Unavailable,
    WatcherError,
)
from watcher.rules.archived_names import ArchiveOptions, target_options
from watcher.rules.journal_keep import Keep
from watcher.rules.lifecycle import State
from watcher.rules.names import INFLIGHT, OURS, STATE_DIRECTORIES, Layout, Location, display
from watcher.spool import links, mounts, process_dir, removable, state_files
from watcher.spool.archive import Archive
from watcher.spool.dirs import DIRECTORY, stat_or_none
from watcher.spool.disk import DISK, Disk
from watcher.spool.journal import Journal
from watcher.spool.journal_home import JournalHome
from watcher.spool.journal_rotation import JournalFiles
from watcher.spool.ledger import Ledger
from watcher.spool.state_home import Outside, StateHome
from watcher.spool.system_directories import is_of_the_system

_ROOT = b"/"  # among the names of state directories: `.watcher` itself


class Spool:
    """An open queue directory; closed when the last claim that refers to it is gone."""

    def __init__(
        self, path: bytes, layout: Layout, disk: Disk = DISK, outside: Outside | None = None
    ) -> None:
        self.path = os.path.abspath(path)
        self.layout = layout
        self.disk = disk
        self.lock = threading.RLock()  # for `_ours`, `_past` and `process_dir`
        self._ours: dict[bytes, int] = {}
        # Descriptors of state directories that were removed or replaced.
        self._past: set[int] = set()
        self.process_dir: process_dir.ProcessDirectory | None = None  # made by `process_dir_for`
        self.ledger = Ledger()
        self.archive: Archive | None = None  # where done files go; None: they are removed
        self.target: Archive | None = None  # where those go of which the handler `move` says so
        self.own_names = frozenset({OURS})  # names in the queue directory that are no entries'
        own = weakref.ref(self)  # a reference would be a cycle, and delay the closing
        self.fd = -1
        try:
            self.fd = os.open(self.path, DIRECTORY)
            self.filesystem = mounts.filesystem(self.fd)
        except OSError as error:
            raise as_watcher_error(error, self.path, "the queue directory") from None
        self.home = StateHome(self.fd, self.path, outside)
        self.journal_home = JournalHome(self.fd, self.path, layout, self.lock)
        files = self.journal_home.files  # no reference to this spool
        self.journal = Journal(lambda: _ours(own), lambda: _inflight(own), layout, files)
        status = os.fstat(self.fd)
        self.identity = (status.st_dev, status.st_ino)
        if is_of_the_system(status):
            raise NotPermitted(
                f"{display(self.path)}: a directory of the system: its files would be handled and"
                " removed; make a directory of its own for the queue"
            )
        self.euid = os.geteuid()
        if self.euid == 0:
            self._refuse_foreign_links(status.st_uid)
        self.unwritten = ""  # why a note could not be written lately (`notes.write`)
        self.sticky = removable.is_sticky_for_us(status)  # then `take` refuses files of other users
        # A granted lease proves: no writer.
        self.leases = self.filesystem not in mounts.LEASES_BLIND
        # A refused lease proves: a writer.
        self.asks = self.leases or self.filesystem in mounts.LEASES_LOCAL
        self.write_to_lock = self.filesystem in mounts.LOCK_BY_RECORD

    def __del__(self) -> None:
        """Close the descriptors: a claim keeps its spool open when the watch is armed anew."""
        for fd in (*self._ours.values(), *self._past, self.fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def _refuse_foreign_links(self, owner: int) -> None:
        """Raise NotPermitted if a user's symbolic link leads root to another user's directory."""
        try:
            link = links.foreign(self.path, owner)
        except OSError as error:
            raise as_watcher_error(error, self.path, "the queue directory") from None
        if link is not None or not self.is_current():
            raise NotPermitted(
                f"{display(self.path)}: {display(link or self.path)} is a symbolic link of a user"
                f" to a directory of user {owner}: name that directory itself"
            )

    def use_archive(self, options: ArchiveOptions | None, target: bytes | None = None) -> None:
        """Move done files there from now on; None: remove them.

        `target` is the directory of the queue's handler `move`.
        """
        if target is None:
            self.target = None
        elif self.target is None or self.target.options.directory != target:
            self.target = Archive(target_options(target))
        if options is None:
            self.archive, self.own_names = None, frozenset({OURS})
        elif self.archive is None or self.archive.options != options:
            self.archive = Archive(options)
            own = options.own_name
            self.own_names = frozenset({OURS} if own is None else {OURS, own})

    def archive_at(self, target: bytes) -> Archive:
        """Return the directory that a handler `move` names.

        It may be that of the settings before a reload.
        """
        kept = self.target
        if kept is not None and kept.options.directory == target:
            return kept
        return Archive(target_options(target))

    @property
    def archives(self) -> tuple[Archive, ...]:
        """The directories that done files are moved to."""
        return tuple(each for each in (self.archive, self.target) if each is not None)

    def check_archives(self) -> None:
        """Raise WatcherError if no entry could be moved there now."""
        for archive in self.archives:
            archive.check(self)

    def use_journal(
        self, enabled: bool, outside: Outside | None, keep: Keep, *, may_make: bool = False
    ) -> None:
        """Write the journal there from now on, or none; `may_make`: the directory may be made."""
        self.journal.enabled = enabled
        self.journal_home.use(outside, keep, may_make=may_make)

    def journal_files(self) -> JournalFiles:
        """Return where the files of the journal are; raises OSError."""
        return self.journal_home.files(self.state_root())

    def is_current(self) -> bool:
        """Whether the path still leads to the open directory."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.identity

    def writable(self) -> bool:
        """Whether entries can be removed and moved here; reads the directory's mode again."""
        self.sticky = removable.is_sticky_for_us(os.fstat(self.fd))
        return os.access(self.path, os.W_OK | os.X_OK) and not removable.pinned(self.fd)

    def stat(self, name: bytes, directory: int | None = None) -> os.stat_result | None:
        """Return the status of a name in the queue or in a state directory; None if not there."""
        return stat_or_none(name, self.fd if directory is None else directory)

    def stat_at(self, location: bytes) -> os.stat_result | None:
        """Look at the file of an entry by its location, as `Location` formats it."""
        state, name = Location.parse(location)
        if state is State.READY:
            return self.stat(name)
        directory = self.state_dir(state)
        return None if directory is None else self.stat(name, directory)

    def make_state_dir(self, state: State) -> int:
        """Return the descriptor of the directory of `state`, made if need be."""
        return self._our(STATE_DIRECTORIES[state])

    def state_root(self) -> int:
        """Return the descriptor of `.watcher`, made if need be."""
        try:
            return self._kept(self.home.name, self.home.parent(self.disk), root=True)
        except OSError as error:
            raise as_watcher_error(error, self.home.path, "our own directory") from None

    def inflight(self) -> int:
        """Return the descriptor of `inflight/`, made if need be."""
        return self._our(INFLIGHT)

    def share_inflight(self, other: Spool) -> None:
        """Have `inflight/` open together with another spool of this process and this directory.

        A lock on it is then one lock for both; it ends with the last of the two.
        """
        if (other.identity, other.home.path) != (self.identity, self.home.path):
            return
        with contextlib.suppress(OSError, WatcherError), self.lock:
            if INFLIGHT not in self._ours:
                self._ours[INFLIGHT] = os.dup(other.inflight())

    def state_dir(self, state: State) -> int | None:
        """Return the descriptor of the directory of `state`; None if it does not exist."""
        name = STATE_DIRECTORIES[state]
        return self._our(name) if self.has(name) else None

    def has(self, name: bytes) -> bool:
        """Whether `.watcher` has a directory of this name; raises NotPermitted."""
        try:
            return self.home.stat(name) is not None
        except PermissionError as error:  # it is another user's
            raise as_watcher_error(error, self.home.path, "our own directory") from None

    def _our(self, name: bytes) -> int:
        return self._kept(name, self.state_root())

    def _kept(self, name: bytes, parent: int, *, root: bool = False) -> int:
        """Return the descriptor of a directory in `.watcher`, opened again if it was replaced."""
        key = _ROOT if root else name
        with self.lock:
            fd = self._ours.get(key)
            if fd is not None:
                kept = os.fstat(fd)
                with contextlib.suppress(OSError):
                    now = os.stat(name, dir_fd=parent, follow_symlinks=False)
                    if (now.st_dev, now.st_ino) == (kept.st_dev, kept.st_ino):
                        return fd
                self._past.add(self._ours.pop(key))  # another thread may still use it
            self._ours[key] = self._open_our(name, parent, root)
            return self._ours[key]

    def _open_our(self, name: bytes, parent: int, root: bool) -> int:
        shown = self.home.path if root else os.path.join(self.home.path, name)
        try:
            if root:
                return self.home.make(self.disk)
            self.disk.make_directory(name, parent)
            return state_files.open_directory(name, parent)
        except state_files.Odd as error:
            raise NotPermitted(f"{display(shown)}: {error.strerror}") from None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise CannotCreate(
                    f"{display(shown)}: in the way of our own directory; move it away"
                ) from None
            raise as_watcher_error(error, shown, "our own directory") from None


def _ours(own: weakref.ref[Spool]) -> int:
    spool = own()
    if spool is None:
        raise Unavailable("the queue directory is closed")
    return spool.state_root()


def _inflight(own: weakref.ref[Spool]) -> int:
    spool = own()
    if spool is None:
        raise Unavailable("the queue directory is closed")
    return process_dir.process_dir_for(spool).fd


def as_watcher_error(error: OSError, path: bytes, what: str) -> WatcherError:
    """Return the error that tells an operator what to do about the kernel's OSError."""
    shown = f"{display(path)}: {what}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        reason = "does not exist" if error.errno == errno.ENOENT else "is not a directory"
        return NoSuch(f"{shown} {reason}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(f"{shown} cannot be used: {error.strerror}; check owner and mode")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{shown} cannot be made: {error.strerror}; free some space")
    return Unavailable(f"{shown} cannot be used: {error.strerror}")
