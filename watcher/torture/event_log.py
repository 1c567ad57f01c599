r"""The event logs of a torture: one line for each event, in files outside of the queue.

    \nWHAT PROCESS PID NANOSECONDS NUMBER REST .

PROCESS is the number of the process that the torture started; NANOSECONDS is CLOCK_MONOTONIC, which
all processes share. scripts/chaos writes the same lines.
Guarantees: one write(2) for each line, with O_APPEND. A kill may cut a line short: then its end is
missing and readers skip it. Each line begins with the newline, so that the next line is whole.
Fails: OSError when a line cannot be written.
"""

from __future__ import annotations

import contextlib
import os
import time
import urllib.parse
from collections.abc import Iterator
from typing import NamedTuple

LOGS, PROCESS = "TORTURE_LOGS", "TORTURE_PROCESS"  # in the environment: a directory, a number
WRITERS, HANDLED = "writers", "handled"
FULL = "full"  # a file that exists while writers must wait
_FIELDS = 7


class Line(NamedTuple):
    """One event."""

    what: str  # begun, accepted; begin, done, retry, reject, torn
    process: int  # its number
    pid: int
    ns: int  # monotonic
    number: str  # of the entry; "-" if not known
    rest: str = "-"  # of a writer: PROTOCOL/NAME; of a handler: NAME


class EventLog:
    """One log, open for writing."""

    def __init__(self, directory: str, name: str, process: int, *, synced: bool = True) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(os.path.join(directory, name), flags, 0o600)
        self._process = process
        self._synced = synced

    def write(self, what: str, number: str, rest: str = "-") -> None:
        """Write one line; sync it if the log is `synced`."""
        shown = urllib.parse.quote(os.fsencode(rest), safe="/+") or "-"
        line = f"\n{what} {self._process} {os.getpid()} {time.monotonic_ns()} {number} {shown} ."
        os.write(self._fd, line.encode())
        if self._synced:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


@contextlib.contextmanager
def opened(name: str, *, synced: bool = True) -> Iterator[EventLog]:
    """Open a log in the directory, and for the process, that the environment names."""
    log = EventLog(os.environ[LOGS], name, int(os.environ[PROCESS]), synced=synced)
    try:
        yield log
    finally:
        log.close()


class EventLogReader:
    """Reads one log as it grows."""

    def __init__(self, directory: str, name: str) -> None:
        self._path = os.path.join(directory, name)
        self._offset = 0
        self.lines: list[Line] = []

    def read(self) -> list[Line]:
        """Read the new lines; return them."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        # The last line may be incomplete: the next call reads it again.
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
    """Yield the whole lines; skip those that a kill cut short."""
    for text in data.decode("ascii", "replace").split("\n"):
        fields = text.split(" ")
        if len(fields) != _FIELDS or fields[-1] != ".":
            continue
        what, process, pid, ns, number, rest, _end = fields
        try:
            yield Line(what, int(process), int(pid), int(ns), number, _unquoted(rest))
        except ValueError:
            continue


def _unquoted(rest: str) -> str:
    return os.fsdecode(urllib.parse.unquote_to_bytes(rest))
