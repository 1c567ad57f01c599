"""The copies of messages in the directory of a `watcher work`, which is a queue of its own.

Each message that this process has in hand has a copy there, under the entry's own name, so that a
handler finds the file that the writer made. A second message of the same name waits until the first
one is over, so entries of one name are handled in the order of the stream.

Guarantees: the directory has nothing else: what an earlier process left is removed at the start,
because the server delivers it again. A directory that this program did not make is refused. A
message that is withdrawn, or whose copy another program removed, is never begun, and no attempt
loses its copy to either.
Fails: BadConfiguration for a directory that cannot be used; `add` raises OSError. A write that
fails leaves no file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from collections import deque
from collections.abc import Callable
from pathlib import PurePath

from watcher.config.work_settings import MARK
from watcher.errors import BadConfiguration
from watcher.jetstream.delivered import Delivery
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


class _Line:
    """The messages of one name, oldest first; the first one has the copy."""

    def __init__(self) -> None:
        self.messages: deque[Delivery] = deque()
        self.begun = False  # whether an attempt at the first one is made
        self.written = False  # whether the copy of the first one is there


class Copies:
    """The messages that have a copy, or wait for one, by the name of the copy."""

    def __init__(self, path: str, is_entry: Callable[[bytes], bool]) -> None:
        self._path = os.fsencode(path)
        self._is_entry = is_entry
        self._lock = threading.Lock()  # for the next one; the loop's thread and workers use it
        self._lines: dict[bytes, _Line] = {}

    def add(self, delivery: Delivery) -> None:
        """Write the copy of a message, unless another one of its name is there.

        A message whose copy cannot be written has no place in the line of its name.
        """
        name = self._name_of(delivery)
        with self._lock:
            line = self._lines.setdefault(name, _Line())
            line.messages.append(delivery)
            if len(line.messages) > 1:
                return
        try:
            self._write(name, delivery)
        except OSError:
            self._leave_line(name, delivery)
            raise

    def of(self, name: bytes) -> Delivery | None:
        """Return the message whose copy has this name; None if it is no copy."""
        with self._lock:
            line = self._lines.get(name)
            return line.messages[0] if line is not None else None

    def begin(self, name: bytes) -> Delivery | None:
        """Return the message of a copy, which stays until `let_go`; None if it is no copy."""
        with self._lock:
            line = self._lines.get(name)
            if line is None:
                return None
            line.begun = True
            return line.messages[0]

    def let_go(self, name: bytes) -> list[Delivery]:
        """End an attempt; write the next copy of the name if the message of this one is over.

        Returns the messages whose copies cannot be written: they are not in the line any more.
        """
        with self._lock:
            line = self._lines.get(name)
            if line is None:
                return []
            line.begun = False
            following = self._next(name, line) if line.messages[0].over else None
        unwritten: list[Delivery] = []
        while following is not None:
            try:
                self._write(name, following)
            except OSError:
                unwritten.append(following)
                following = self._leave_line(name, following)
            else:
                break
        return unwritten

    def withdraw(self, most: int) -> list[Delivery]:
        """Take out up to `most` messages that no attempt is made at, the latest of each name first.

        Their copies are removed. Returns them in the order of the stream.
        """
        found: list[Delivery] = []
        with self._lock:
            for name, line in reversed(list(self._lines.items())):
                while len(line.messages) > line.begun and len(found) < most:
                    found.append(line.messages.pop())
                if not line.messages:
                    del self._lines[name]
                    with contextlib.suppress(OSError):  # it is cleared at the end, at the latest
                        os.unlink(os.path.join(self._path, name))
        return sorted(found, key=lambda delivery: delivery.sequence)

    def take_gone(self) -> list[Delivery]:
        """Take out the messages whose copy is gone, and those that wait behind them.

        An attempt has its copy open: what becomes of that message, its end says.
        """
        found: list[Delivery] = []
        with self._lock:
            there = self._listed()
            for name, line in list(self._lines.items()):
                if line.written and not line.begun and name not in there:
                    found.extend(line.messages)
                    del self._lines[name]
        return found

    def _listed(self) -> set[bytes]:
        try:
            return set(os.listdir(self._path))
        except FileNotFoundError:
            return set()
        except OSError:  # of what cannot be known, nothing is gone
            return set(self._lines)

    def _leave_line(self, name: bytes, delivery: Delivery) -> Delivery | None:
        """Remove the first message of a name, unless it was taken out; return the next one."""
        with self._lock:
            line = self._lines.get(name)
            if line is None or line.messages[0] is not delivery:
                return None
            return self._next(name, line)

    def _next(self, name: bytes, line: _Line) -> Delivery | None:
        """Remove the first message of a line; return the next one. The caller holds the lock."""
        line.messages.popleft()
        line.written = False
        if line.messages:
            return line.messages[0]
        del self._lines[name]
        return None

    def _name_of(self, delivery: Delivery) -> bytes:
        name = os.fsencode(delivery.name)
        usable = len(name) <= NAME_MAX and self._is_entry(name)
        return name if usable else b"%d" % delivery.sequence

    def _write(self, name: bytes, delivery: Delivery) -> None:
        """Write the copy of the first message of a name, unless it is withdrawn meanwhile."""
        scratch = os.path.join(self._path, os.fsencode(f"{_SCRATCH}{delivery.sequence}"))
        written = False
        try:
            _write_file(scratch, delivery.payload)
            with self._lock:  # `withdraw` comes before, or removes the copy after
                line = self._lines.get(name)
                if line is not None and line.messages[0] is delivery:
                    os.rename(scratch, os.path.join(self._path, name))
                    line.written = written = True
        finally:
            if not written:  # a full disk needs the room
                with contextlib.suppress(OSError):
                    os.unlink(scratch)


def _write_file(path: bytes, contents: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        view = memoryview(contents)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def described(delivery: Delivery) -> str:
    """Return a message for a line of the log."""
    return display(os.fsencode(delivery.name))
