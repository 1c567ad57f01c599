"""`move`: the files of an entry go to a directory, as they are and under their own names.

On the queue's file system the handler does nothing: the settlement moves the file by one rename,
as it moves files to an archive (`settle.archiving`), after it has checked that the file is the one
that was claimed. On another file system no rename leads there: the handler makes a durable copy,
and the settlement unlinks the file. A pair is always copied: a death between two renames would
leave its message there and its metadata here. The copy is written under a hidden name, synced, and
renamed; so what reads the directory sees whole files alone.

Guarantees: nothing is overwritten: a file whose name is taken gets a number (NAME~1.csv), both
files of a pair the same one. A copy has the file's bytes, mtime and permissions, and the owner
where this process may set it. Its extended attribute `user.watcher.key` is the entry's key: an
attempt after a crash finds the copy that the first one made, and makes no other. Only where the
file system has no such attributes, or the copy was taken away or renamed meanwhile, does a crash
leave two.
Fails: `run` never raises. A directory that is not there or not writable is MISCONFIGURED, a full
disk a RETRY (`rules.target_errors`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from typing import ClassVar

from watcher.errors import EntryEnded, WatcherError
from watcher.handle.copy_bytes import Stopped, copy_bytes
from watcher.handle.entry import Entry
from watcher.handle.handler_settings import HandlerSettings
from watcher.handle.target_directory import NO_LINKS, open_target
from watcher.rules.archived_names import archived_name
from watcher.rules.finding import OK, Check
from watcher.rules.names import TRIES, display, free_number
from watcher.rules.results import HandlerResult, Verdict, shortened
from watcher.rules.target_errors import result_of
from watcher.spool import mounts, state_files
from watcher.spool.dirs import exists
from watcher.spool.disk import DISK
from watcher.spool.part import Part

KEY = b"user.watcher.key"  # xattr(7)


class Move:
    """Moves the files of each entry to one directory."""

    def __init__(self, directory: str) -> None:
        self._directory = os.fsencode(directory)
        self._stop = threading.Event()

    def run(self, entry: Entry) -> HandlerResult:
        """Copy the files if they must be; never raises."""
        what = f"move to {display(self._directory)}"
        try:
            folder = open_target(self._directory)
            try:
                if len(entry.parts) == 1 and mounts.are_one(entry.parts[0].fd, folder):
                    return HandlerResult(Verdict.DONE, move_to=self._directory)
                _Copy(entry, folder, self._stop).make()
            finally:
                os.close(folder)
        except Stopped:
            return HandlerResult(Verdict.STOPPED, "stopped at once")
        except EntryEnded as error:
            return HandlerResult(Verdict.RETRY, str(error))
        except WatcherError as error:
            return HandlerResult(Verdict.MISCONFIGURED, shortened(str(error)))
        except OSError as error:
            return result_of(error, what)
        return HandlerResult(Verdict.DONE, move_to=self._directory, copied=True)

    def terminate(self) -> None:
        """End the copies that are being written."""
        self._stop.set()


class _Copy:
    """The copy of one entry's files."""

    def __init__(self, entry: Entry, folder: int, stop: threading.Event) -> None:
        self._parts, self._folder, self._stop = entry.parts, folder, stop
        self._key = entry.key.encode()
        # A later attempt at this file finds what this one left; an attempt at another does not.
        token = hashlib.sha256(b"%s %d" % (self._key, entry.parts[0].ino)).hexdigest()
        self._scratch = b".watcher-%s." % token[:32].encode()

    def make(self) -> None:
        """Make the copies that are not there yet, durably."""
        number, there = self._earlier()
        missing = self._parts[1:] if there else self._parts
        if there and missing and self._is_ours(missing[0], number):
            missing = ()
        try:
            for part in missing:
                self._write(part, self._scratch_name(part))
            if not there:
                number = self._commit_first(number)
                missing = missing[1:]
            for part in missing:
                self._commit(part, number)
        except BaseException:
            for part in self._parts:
                with contextlib.suppress(OSError):
                    os.unlink(self._scratch_name(part), dir_fd=self._folder)
            raise
        DISK.sync(self._folder)

    def _earlier(self) -> tuple[int, bool]:
        """Return the number of the copy of an earlier attempt, and True; or a free number."""
        first = self._parts[0]
        for number in range(TRIES):
            try:
                found = self._mark_of(archived_name(first.queue_name, number))
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise
                break  # no file here tells whose copy it is
            if found is None:
                return self._free(number), False
            if found == self._mark(first):
                return number, True
        return self._free(number), False

    def _free(self, first: int) -> int:
        names = [part.queue_name for part in self._parts]
        return free_number(
            lambda n: any(exists(archived_name(name, n), self._folder) for name in names), first
        )

    def _is_ours(self, part: Part, number: int) -> bool:
        return self._mark_of(archived_name(part.queue_name, number)) == self._mark(part)

    def _mark(self, part: Part) -> bytes:
        """Return what the attribute of a part's copy says: the key, and which file of a pair."""
        return self._key if part is self._parts[0] else self._key + b" 2"

    def _mark_of(self, name: bytes) -> bytes | None:
        """Return the key that a file carries, b"" if it has none; None if there is no such file.

        Raises ENOTSUP if the file system has no such attributes.
        """
        try:
            return os.getxattr(self._path(name), KEY, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return None
            if error.errno == errno.ENOTSUP:
                raise
            return b""  # another program's file, perhaps one that we may not read, or a link

    def _path(self, name: bytes) -> bytes:
        """Return a path by the open directory: the calls for attributes take no descriptor."""
        return b"/proc/self/fd/%d/%s" % (self._folder, name)

    def _scratch_name(self, part: Part) -> bytes:
        return self._scratch + (b"1.tmp" if part is self._parts[0] else b"2.tmp")

    def _write(self, part: Part, name: bytes) -> None:
        """Write a durable copy under a hidden name, in the place of one that a crash left."""
        fd = state_files.create_anew(name, self._folder, os.O_RDWR, mine=True)
        try:
            copy_bytes(part.fd, part.size, fd, self._stop)
            with contextlib.suppress(OSError):  # not every file system has them
                os.setxattr(fd, KEY, self._mark(part))
            _keep_status(part.fd, fd)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _commit_first(self, number: int) -> int:
        """Give the first copy its name; return the number that was free for it."""
        for _ in range(TRIES):
            try:
                self._commit(self._parts[0], number)
            except FileExistsError:
                number = self._free(number + 1)
            else:
                return number
        raise OSError(errno.EEXIST, "others take each name before it can be had")

    def _commit(self, part: Part, number: int) -> None:
        names = self._scratch_name(part), self._folder, archived_name(part.queue_name, number)
        try:
            DISK.move(*names, self._folder)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            DISK.archive(*names, self._folder)  # neither RENAME_NOREPLACE nor links: FAT by FUSE


def _keep_status(source: int, target: int) -> None:
    """Give a copy the owner, if this process may, the permissions and the mtime of its file."""
    status, now = os.fstat(source), os.fstat(target)
    if (status.st_uid, status.st_gid) != (now.st_uid, now.st_gid):
        try:
            os.fchown(target, status.st_uid, status.st_gid)
        except OSError:
            with contextlib.suppress(OSError):
                os.fchown(target, -1, status.st_gid)
    with contextlib.suppress(OSError):  # a file system without permissions
        os.fchmod(target, stat.S_IMODE(status.st_mode) & 0o777)
    with contextlib.suppress(OSError):
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


class MoveSettings(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ move = "/DIRECTORY" }`."""

    move: str

    EXAMPLE: ClassVar[str] = '{ move = "/DIRECTORY" }'
    COST: ClassVar[str] = (
        "One rename and one sync of the directory; to another file system, a synced copy."
    )

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        right = self.move.startswith("/") and self.moves_to() != "/"
        return (
            None
            if right and "\0" not in self.move
            else ("move", "the absolute path of a directory")
        )

    def moves_to(self) -> str:
        """Return the directory, in its normal form."""
        return "/" + os.path.normpath(self.move).lstrip("/")

    def load(self) -> Move:
        """Return the handler."""
        return Move(self.moves_to())

    def endless(self) -> str:
        """Return "": a copy ends with its file."""
        return ""

    def try_target(self) -> Iterator[Check]:
        """Say whether the directory can be written to and synced."""
        with contextlib.suppress(FileNotFoundError):  # the look at the queue names it
            yield from try_directory(os.fsencode(self.moves_to()))


def try_directory(path: bytes) -> Iterator[Check]:
    """Yield what is found about a directory that a handler writes to; raises as `open_target`."""
    fd = open_target(path)
    try:
        DISK.sync(fd)
    finally:
        os.close(fd)
    yield Check(OK, "handler", f"{display(path)}: writable, and can be synced")
