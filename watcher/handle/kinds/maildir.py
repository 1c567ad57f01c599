"""`maildir`: an entry's message becomes a new message of a Maildir.

The message is written to tmp/, synced, and renamed to new/, which is synced, too: a reader sees
whole messages alone, and what counts as handled survives a power failure. The bytes are the
message's: no line is changed or added. The name is the same at every attempt at an entry
(`rules.maildir_name`), so an attempt after a crash finds in new/ or in cur/ what the first one
delivered, with whatever flags, and delivers no second message. It cannot know of one that a reader
has removed, or has moved to another folder, by then: this entry is delivered again.

Guarantees: nothing in the Maildir is overwritten; the file has mode 0600, and belongs to the
Maildir's owner if this process is root. A link in the place of tmp, new or cur is not followed.
Fails: `run` never raises. A directory that is missing or not writable is MISCONFIGURED, a full
disk or quota a RETRY (`rules.target_errors`); a message that cannot be decoded is a REJECT.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import ClassVar

from watcher.errors import NoSuch, Undecodable, WatcherError
from watcher.handle.copy_bytes import Stopped, copy_bytes, write_all
from watcher.handle.entry import Entry
from watcher.handle.handler_settings import HandlerSettings
from watcher.handle.target_directory import NO_LINKS, open_below, open_target
from watcher.rules.finding import OK, Check
from watcher.rules.maildir_name import may_be_in, may_be_second, unique_name, without_flags
from watcher.rules.names import display
from watcher.rules.option import Option, flag
from watcher.rules.results import HANDLED, HandlerResult, Verdict, shortened
from watcher.rules.target_errors import result_of
from watcher.spool import state_files
from watcher.spool.birth import birth_ns
from watcher.spool.dirs import DIRECTORY, exists, names_in, open_dir
from watcher.spool.disk import DISK, give


class Folders:
    """The open directories of a Maildir. `close` closes them."""

    def __init__(self, path: bytes, *, create: bool) -> None:
        with contextlib.ExitStack() as opened:
            self._root = self._open_root(path, create=create)
            opened.callback(os.close, self._root)
            self.tmp, self.new, self.cur = (
                self._open(path, name, opened, create=create) for name in (b"tmp", b"new", b"cur")
            )
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the directories."""
        self._opened.close()

    @staticmethod
    def _open_root(path: bytes, *, create: bool) -> int:
        try:
            return open_target(path, writable=False)
        except FileNotFoundError:
            if not create:
                raise NoSuch(f"maildir {display(path)}: does not exist; {_MAKE}") from None
        above, name = os.path.split(path)
        parent = os.open(above, DIRECTORY)
        try:
            _make(name, parent)
        finally:
            os.close(parent)
        return open_target(path, writable=False)

    def _open(self, path: bytes, name: bytes, opened: contextlib.ExitStack, *, create: bool) -> int:
        try:
            fd = self._open_now(name)
        except FileNotFoundError:
            if not create:
                where = f"maildir {display(path)}: {display(name)}/"
                raise NoSuch(f"{where} does not exist; {_MAKE}") from None
            _make(name, self._root)
            fd = self._open_now(name)
        opened.callback(os.close, fd)
        return fd

    def _open_now(self, name: bytes) -> int:
        # Of cur/ only the names are read.
        return open_dir(name, self._root) if name == b"cur" else open_below(name, self._root)


_MAKE = "make it (maildirmake), or set create = true"


def _make(name: bytes, parent: int) -> None:
    """Make a directory, durably; one that root makes belongs to the owner of the one above it."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return  # another worker was quicker
    fd = state_files.open_just_made(name, parent)
    try:
        give(fd, parent)
    finally:
        os.close(fd)
    os.fsync(parent)


class Maildir:
    """Delivers the message of each entry to one Maildir."""

    def __init__(self, path: str, *, create: bool = False) -> None:
        self._path = os.fsencode(path)
        self._create = create
        self._stop = threading.Event()
        self._began_ns = time.time_ns()
        self._flagged = _Flagged()

    def run(self, entry: Entry) -> HandlerResult:
        """Deliver the message; never raises."""
        try:
            folders = Folders(self._path, create=self._create)
            try:
                self._deliver(entry, folders)
            finally:
                folders.close()
        except Stopped:
            return HandlerResult(Verdict.STOPPED, "stopped at once")
        except Undecodable as error:
            return HandlerResult(Verdict.REJECT, str(error), ran=False)
        except WatcherError as error:
            return HandlerResult(Verdict.MISCONFIGURED, shortened(str(error)))
        except OSError as error:
            return result_of(error, f"maildir {display(self._path)}")
        return HANDLED

    def terminate(self) -> None:
        """End the messages that are being written."""
        self._stop.set()

    def _deliver(self, entry: Entry, folders: Folders) -> None:
        part = entry.parts[0]
        message = None if entry.plain else entry.message
        size = part.size if message is None else len(message)
        host = os.fsencode(socket.gethostname())
        name = unique_name(part.mtime_ns, entry.key, host, size)
        if exists(name, folders.new) or self._is_read(name, entry, folders):
            DISK.sync(folders.new)  # the process that delivered it may have died before its sync
            DISK.sync(folders.cur)
            return
        try:
            self._write(entry, message, name, folders.tmp)
            before = _version(folders.new)
            _commit(name, folders)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folders.tmp)
            raise
        self._flagged.on_delivery(folders.new, before)
        DISK.sync(folders.new)

    def _is_read(self, name: bytes, entry: Entry, folders: Folders) -> bool:
        """Whether a reader has given the message of an earlier attempt flags in its name.

        It then lies in cur/; Dovecot leaves it in new/ as long as no client opens the folder.
        """
        born_ns = birth_ns(entry.parts[0].fd)
        if not may_be_second(entry.attempt, entry.crashes, born_ns, self._began_ns):
            self._flagged.forget()
            return False
        return any(
            name in self._flagged.names(folder)
            for folder in (folders.new, folders.cur)
            if may_be_in(os.fstat(folder).st_mtime_ns, born_ns)
        )

    def _write(self, entry: Entry, message: bytes | None, name: bytes, tmp: int) -> None:
        """Write the message to tmp/, in the place of what a crash left there."""
        fd = state_files.create_anew(name, tmp)
        try:
            if message is None:
                copy_bytes(entry.parts[0].fd, entry.parts[0].size, fd, self._stop)
            else:
                write_all(fd, message)
            os.fsync(fd)
        finally:
            os.close(fd)


_Version = tuple[int, int]  # a directory's inode number and mtime: which changes it has had


def _version(folder: int) -> _Version:
    status = os.fstat(folder)
    return status.st_ino, status.st_mtime_ns


class _Flagged:
    """Which messages in new/ and in cur/ have flags in their names.

    A backlog would else list the same directories for each entry. What is known of a directory is
    replaced whole, so workers need no lock: at worst two of them list it.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[_Version, frozenset[bytes]]] = {}  # by inode number

    def names(self, folder: int) -> frozenset[bytes]:
        """Return the names without their flags; list the directory if it has changed."""
        version = _version(folder)  # before the listing: a later change is seen the next time
        known = self._known.get(version[0])
        if known is None or known[0] != version:
            names = frozenset(without_flags(name) for name in names_in(folder) if b":" in name)
            known = self._known[version[0]] = version, names
        return known[1]

    def on_delivery(self, folder: int, before: _Version) -> None:
        """Take that this handler, and nothing else since `before`, has put a message there."""
        known = self._known.get(before[0])
        if known is not None and known[0] == before:
            self._known[before[0]] = _version(folder), known[1]

    def forget(self) -> None:
        """Free the memory: entries that come now need no list."""
        if self._known:
            self._known = {}


def _commit(name: bytes, folders: Folders) -> None:
    """Rename the message from tmp/ to new/."""
    try:
        DISK.move(name, folders.tmp, name, folders.new)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        DISK.move_aside(name, folders.tmp, folders.new)  # the name is free: it has the key


class MaildirSettings(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ maildir = "/home/user/Maildir", create = true }`."""

    maildir: str
    create: bool = False

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "create": Option(
            flag, "true or false", "false", "make the Maildir, or its tmp, new and cur, if missing"
        )
    }
    EXAMPLE: ClassVar[str] = '{ maildir = "/home/user/Maildir" }'
    COST: ClassVar[str] = "One file is written and synced, and one directory is synced."

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if self.maildir.startswith("/") and "\0" not in self.maildir and self._path() != "/":
            return None
        return "maildir", "the absolute path of a Maildir"

    def load(self) -> Maildir:
        """Return the handler."""
        return Maildir(self._path(), create=self.create)

    def endless(self) -> str:
        """Return "": a message ends with its file."""
        return ""

    def try_target(self) -> Iterator[Check]:
        """Say whether the Maildir is complete, and can be written to and synced."""
        path = os.fsencode(self._path())
        try:
            folders = Folders(path, create=False)
        except NoSuch as error:
            if not self.create or not os.path.isdir(os.path.dirname(path)):
                raise
            yield Check(OK, "handler", f"{error}: made with the first entry")
            return
        try:
            DISK.sync(folders.new)
        finally:
            folders.close()
        what = f"{display(path)}: complete, writable, and can be synced"
        yield Check(OK, "handler", what)

    def _path(self) -> str:
        return "/" + os.path.normpath(self.maildir).lstrip("/")
