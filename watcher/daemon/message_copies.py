"""The copies of messages in the directory of a `watcher work`, which is a queue of its own.

Each message that this process has in hand has a copy there, under the entry's own name, so that a
handler finds the file that the writer made. A second message of the same name waits until the first
one is over, so entries of one name are handled in the order of the stream.

Guarantees: the directory has nothing else: what an earlier process left is removed at the start,
because the server delivers it again. A directory that this program did not make is refused.
Fails: BadConfiguration for a directory that cannot be used; `add` raises OSError.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections import deque
from collections.abc import Callable
from pathlib import PurePath

from watcher.config.work_settings import MARK
from watcher.errors import BadConfiguration
from watcher.jetstream.deliveries import Delivery
from watcher.rules.names import NAME_MAX, OURS, display
from watcher.spool.paused import NAME as PAUSED

_SCRATCH = ".copy-"


def prepare(path: str) -> None:
    """Make the directory of copies, or empty it; raise BadConfiguration."""
    try:
        if (why := _of_others(path)) is None:
            os.makedirs(path, mode=0o700, exist_ok=True)
            why = _of_others(path)
        found = set() if why else set(os.listdir(path))
    except OSError as error:
        raise BadConfiguration(f"{path}: cannot be made or read: {error.strerror}") from None
    if why is not None:
        raise BadConfiguration(f"{why}: name another `directory`")
    if found - {os.fsdecode(OURS)} and MARK not in found:
        raise BadConfiguration(
            f"{path}: has files that `watcher work` did not make, and would remove: name another"
            " `directory`"
        )
    try:
        os.close(os.open(os.path.join(path, MARK), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise BadConfiguration(f"{path}: nothing can be put there: {error.strerror}") from None


def _of_others(path: str) -> str | None:
    """Return why other users may put another directory or other files there, or None.

    What is emptied here, and handled, must not be theirs: /tmp/watcher-1000 may be anyone's.
    """
    there = os.path.realpath(path)
    for place in (there, *map(str, PurePath(there).parents)):
        try:
            status = os.stat(place)
        except FileNotFoundError:
            continue
        if status.st_uid not in (0, os.geteuid()):
            return f"{place}: belongs to another user"
        sticky = status.st_mode & stat.S_ISVTX and place != there
        if status.st_mode & stat.S_IWOTH and not sticky:
            return f"{place}: every user may change what is in it"
    return None


def clear(path: str) -> None:
    """Remove the copies, and all but an operator's pause; raises OSError."""
    ours = os.fsdecode(OURS)
    paused = os.path.isfile(os.path.join(path, ours, os.fsdecode(PAUSED)))
    for name in os.listdir(path):
        if name == MARK or (name == ours and paused):
            continue
        _remove(os.path.join(path, name))
    for name in os.listdir(os.path.join(path, ours)) if paused else ():
        if name != os.fsdecode(PAUSED):
            _remove(os.path.join(path, ours, name))


def _remove(there: str) -> None:
    if os.path.isdir(there) and not os.path.islink(there):
        shutil.rmtree(there)
    else:
        os.unlink(there)


class Copies:
    """The messages that have a copy, or wait for one, by the name of the copy."""

    def __init__(self, path: str, is_entry: Callable[[bytes], bool]) -> None:
        self._path = os.fsencode(path)
        self._is_entry = is_entry
        self._lock = threading.Lock()  # for the next one; the loop's thread and workers use it
        self._by_name: dict[bytes, deque[Delivery]] = {}

    def add(self, delivery: Delivery) -> None:
        """Write the copy of a message, unless another one of its name is there.

        A message whose copy cannot be written has no place in the line of its name.
        """
        name = self._name_of(delivery)
        with self._lock:
            waiting = self._by_name.setdefault(name, deque())
            waiting.append(delivery)
            if len(waiting) > 1:
                return
        try:
            self._write(name, delivery)
        except OSError:
            self._leave_line(name)
            raise

    def of(self, name: bytes) -> Delivery | None:
        """Return the message whose copy has this name; None if it is no copy."""
        with self._lock:
            waiting = self._by_name.get(name)
            return waiting[0] if waiting else None

    def settled(self, name: bytes) -> list[Delivery]:
        """Write the next copy of a name if the message of the last one is over.

        Returns the messages whose copies cannot be written: they are not in the line any more.
        """
        current = self.of(name)
        if current is None or not current.over:
            return []
        unwritten = []
        while (following := self._leave_line(name)) is not None:
            try:
                self._write(name, following)
            except OSError:
                unwritten.append(following)
            else:
                break
        return unwritten

    def _leave_line(self, name: bytes) -> Delivery | None:
        """Remove the first message of a name; return the next one."""
        with self._lock:
            waiting = self._by_name[name]
            waiting.popleft()
            if waiting:
                return waiting[0]
            del self._by_name[name]
            return None

    def _name_of(self, delivery: Delivery) -> bytes:
        name = os.fsencode(delivery.name)
        usable = len(name) <= NAME_MAX and self._is_entry(name)
        return name if usable else b"%d" % delivery.sequence

    def _write(self, name: bytes, delivery: Delivery) -> None:
        scratch = os.path.join(self._path, os.fsencode(f"{_SCRATCH}{delivery.sequence}"))
        fd = os.open(
            scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            view = memoryview(delivery.payload)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        os.rename(scratch, os.path.join(self._path, name))


def described(delivery: Delivery) -> str:
    """Return a message for a line of the log."""
    return display(os.fsencode(delivery.name))
