"""The directories of one round: a queue, the staged files of its writer, one entry's bytes.

All on one file system, below the benchmark's own directory, and removed after the round.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import sys
from array import array
from collections.abc import Iterator
from typing import IO, NamedTuple

from bench import writer
from watcher import mailman

MESSAGE = (
    b"From: ann@example.com\r\nTo: test@example.com\r\nSubject: a letter of usual size\r\n"
    b"Message-ID: <1@example.com>\r\n\r\n" + b"Some words, and then some more of them.\r\n" * 40
)
METADATA = {"listid": "test.example.com", "recipients": ["ann@example.com"]}
_numbers = itertools.count(1)
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602  # linux/fs.h, for 64 bits
_TOPDIR = 0x00020000


class Room(NamedTuple):
    """One round's directories."""

    path: str
    queue: str
    stage: str
    payload: str

    def waiting(self) -> int:
        """Return how many entries are still in the queue."""
        return sum(name.endswith(".pck") for name in os.listdir(self.queue))

    def left(self) -> int:
        """Return how many entries are left, also those that a peer claimed, and deferred ones."""
        found = self.waiting() + sum(name.endswith(".bak") for name in os.listdir(self.queue))
        with contextlib.suppress(FileNotFoundError):
            found += sum(
                name.endswith(".pck") for name in os.listdir(f"{self.queue}/.watcher/deferred")
            )
        return found

    def fill(self, count: int) -> None:
        """Make a backlog of `count` entries."""
        subprocess.run(
            [sys.executable, writer.__file__, "fill", self.queue, self.payload, str(count)],
            check=True,
        )


def spread_out(base: str) -> None:
    """Have ext4 put each room into another part of the disk (as `chattr +T` does).

    Without a journal, ext4 does not use the inode of a removed file again for some minutes, and
    skips such inodes one by one. So a new room in the same part of the disk is filled ten times as
    slowly.
    """
    directory = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = array("l", [0])
        fcntl.ioctl(directory, _GETFLAGS, flags)
        flags[0] |= _TOPDIR
        fcntl.ioctl(directory, _SETFLAGS, flags)
    except OSError:  # another file system does not have this flag
        return
    finally:
        os.close(directory)


@contextlib.contextmanager
def room(base: str) -> Iterator[Room]:
    """Make the directories of a round, and remove them afterwards."""
    path = os.path.join(base, f"room-{os.getpid()}-{next(_numbers)}")
    made = Room(path, f"{path}/queue", f"{path}/stage", f"{path}/payload.pck")
    os.makedirs(made.queue)
    os.makedirs(made.stage)
    with open(made.payload, "wb") as file:
        file.write(mailman.write_pck(MESSAGE, METADATA))
    try:
        yield made
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Writer:
    """A writer process: it stages its files, and renames them after `go`.

    With `inside` it writes each one in the queue, under a temporary name, just before its rename.
    """

    def __init__(
        self, room: Room, count: int, rate: float = 0.0, first: int = 0, *, inside: bool = False
    ) -> None:
        self.count = count
        stage = room.queue if inside else room.stage
        self._process = subprocess.Popen(
            [
                *(sys.executable, writer.__file__, room.queue, stage, room.payload),
                *(str(count), str(rate), str(first)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._expect(b"ready")

    def go(self) -> None:
        """Begin to rename."""
        into: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        into.write(b"go\n")
        into.flush()

    def wait(self) -> None:
        """Wait for the last rename."""
        self._expect(b"written")
        self._process.communicate()

    def _expect(self, word: bytes) -> None:
        out: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        line = out.readline().strip()
        if line != word:
            raise RuntimeError(f"the writer said {line!r} instead of {word!r}")
