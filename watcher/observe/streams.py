"""What else is printed on standard output and standard error, as lines of a JSON log.

A Python handler prints in this process, or in a worker process that inherits its streams; so do a C
library and a process that a handler left behind. While `as_lines` lasts, descriptors 1 and 2 are a
pipe, and a thread makes a line of the log of each line that comes out of it.

Guarantees: the thread sleeps in read(2) until something is printed. A line is cut after `LONGEST`
bytes. The thread reads on while the log has no reader, so no printing process waits longer than the
log does. At the end the descriptors are what they were, and what was printed until then is logged.
Fails: OSError if no descriptor is free.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

LONGEST = 4096  # bytes
_LAST = 1.0  # seconds for the thread to read the rest; a process left behind keeps the pipe open


@contextlib.contextmanager
def as_lines(log_line: Callable[[str], None]) -> Iterator[None]:
    """Call `log_line` with each line that is printed, from a thread."""
    reading, writing = os.pipe()
    saved = [os.dup(fd) for fd in (1, 2)]
    _flush()
    for fd in (1, 2):
        os.dup2(writing, fd)
    os.close(writing)
    reader = threading.Thread(target=_read, args=(reading, log_line), name="output", daemon=True)
    reader.start()
    try:
        yield
    finally:
        _flush()
        for fd, before in zip((1, 2), saved, strict=True):
            os.dup2(before, fd)
            os.close(before)
        reader.join(_LAST)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _read(reading: int, log_line: Callable[[str], None]) -> None:
    rest = b""
    with open(reading, "rb", buffering=0) as pipe:
        while data := pipe.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LONGEST:
                lines, rest = [*lines, rest], b""
            for line in filter(None, lines):
                log_line(line[:LONGEST].decode("utf-8", "backslashreplace"))
    if rest:
        log_line(rest.decode("utf-8", "backslashreplace"))
