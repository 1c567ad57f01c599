r"""The books of a torture: one line a thing that happened, in files outside of the queue.

    \nWHAT WHO PID NANOSECONDS NUMBER REST .

WHO is the number of the process that the storm started, NANOSECONDS those of CLOCK_MONOTONIC, which
all processes share. Guarantees: one write(2) a line, O_APPEND, synced; a line that a kill cut short
lacks its end and does not count: it begins with the newline, so it cannot spoil the next one.
Fails: OSError when it cannot be written; a reader leaves out what is no line.
"""

from __future__ import annotations

import os
import time
import urllib.parse
from collections.abc import Iterator
from typing import NamedTuple

WRITERS, HANDLED = "writers", "handled"
FULL = "full"  # a file that is there while writers are to wait
_FIELDS = 7


class Line(NamedTuple):
    """One thing that happened."""

    what: str  # begun, accepted; begin, done, retry, reject, torn
    who: int
    pid: int
    ns: int
    number: str  # of the entry, "-" where it cannot be told
    rest: str = "-"  # of a writer: PROTOCOL/NAME; of a handler: NAME


class Book:
    """One file of the books, open for writing lines."""

    def __init__(self, directory: str, name: str, who: int) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(os.path.join(directory, name), flags, 0o600)
        self._who = who

    def write(self, what: str, number: str, rest: str = "-") -> None:
        """Write one line, durably."""
        shown = urllib.parse.quote(os.fsencode(rest), safe="/+") or "-"
        line = f"\n{what} {self._who} {os.getpid()} {time.monotonic_ns()} {number} {shown} ."
        os.write(self._fd, line.encode())
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Reader:
    """Reads one file of the books as it grows."""

    def __init__(self, directory: str, name: str) -> None:
        self._path = os.path.join(directory, name)
        self._offset = 0
        self.lines: list[Line] = []

    def read(self) -> list[Line]:
        """Read the lines that are new; return them."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        # The last line may still be growing: it is read again with what comes after it.
        whole, newline, last = data.rpartition(b"\n")
        if last.endswith(b" ."):
            whole, last = data, b""
        elif not newline:
            return []
        self._offset += len(data) - len(last) - (1 if last else 0)
        news = list(parse(whole))
        self.lines += news
        return news


def parse(data: bytes) -> Iterator[Line]:
    """Read lines; what a kill cut short is left out."""
    for text in data.decode("ascii", "replace").split("\n"):
        fields = text.split(" ")
        if len(fields) != _FIELDS or fields[-1] != ".":
            continue
        what, who, pid, ns, number, rest, _end = fields
        try:
            yield Line(what, int(who), int(pid), int(ns), number, _unquoted(rest))
        except ValueError:
            continue


def _unquoted(rest: str) -> str:
    return os.fsdecode(urllib.parse.unquote_to_bytes(rest))
