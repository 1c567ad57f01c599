"""A step, its message over a pipe, and the kernel's own calls."""

from __future__ import annotations

import marshal
import os
import re
import stat
import struct
from typing import Any, NamedTuple

ENDED = "ended "  # begins the event of a writer that ended or was killed
WAIT = "wait for "
GONE = "gone "  # an event that counts only while an actor waits for it
FREE = 1 << 30  # steps: more than any actor makes
_SCRATCH = re.compile(rb"\.[0-9]+\.[0-9a-f]+\.tmp$")
_LENGTH = struct.Struct("I")

# The kernel's, kept before an actor's are put in their place.
_CALLS = (
    *("open", "close", "stat", "lstat", "fstat", "read", "pread", "write", "pwrite", "ftruncate"),
    *("rename", "link", "unlink", "mkdir", "rmdir", "scandir", "listdir", "dup", "urandom"),
)
REAL: dict[str, Any] = {name: getattr(os, name) for name in _CALLS}


class Step(NamedTuple):
    """One step that was made."""

    call: str
    outcome: str
    changed: bool = False  # whether others can tell that it was made
    inodes: tuple[int, ...] = ()  # the files that it saw or changed
    born: bool = False  # whether it made the file
    event: str = ""  # what inotify(7) would say of it in the queue's directory
    word: tuple[str, ...] = ()  # a handler's: see `Stepper.handle`


class Blocked(Exception):
    """The call has to wait for another actor."""


class Pending(NamedTuple):
    """The pending call of an actor: its paths below the queue, and its open files."""

    call: str
    paths: tuple[str, ...]
    looks: bool = False  # whether no other actor can observe it
    inodes: tuple[int, ...] = ()


def send(channel: int, message: object) -> None:
    """Send one message over a pipe."""
    data = marshal.dumps(message)
    REAL["write"](channel, _LENGTH.pack(len(data)) + data)


def receive(channel: int) -> Any:
    """Receive one message; raise EOFError when the other end is gone."""
    head = REAL["read"](channel, _LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    left, pieces = _LENGTH.unpack(head)[0], []
    while left:
        piece = REAL["read"](channel, left)
        if not piece:
            raise EOFError
        pieces.append(piece)
        left -= len(piece)
    return marshal.loads(b"".join(pieces))


def shown(name: bytes) -> str:
    """Return a name for people; a note's scratch name without its random part."""
    return _SCRATCH.sub(b".SCRATCH.tmp", name).decode("utf-8", "backslashreplace")


def status_told(status: os.stat_result, where: str) -> str:
    if stat.S_ISDIR(status.st_mode):
        return "directory"
    size = "" if "/" in where else f"{status.st_size} bytes, "  # notes hold times
    return f"{size}{status.st_nlink} names"


def moved(target: str) -> str:
    return "" if "/" in target else f"moved {target}"


def created(target: str) -> str:
    return "" if "/" in target else f"created {target}"


def gone(source: str) -> str:
    return "" if "/" in source else f"{GONE}{source}"


def inode_of(path: Any, directory: int | None) -> int:
    try:
        return REAL["stat"](path, dir_fd=directory, follow_symlinks=False).st_ino
    except OSError:
        return 0
