"""Handlers of the tests of threads: they compare an entry's name with its content."""

from __future__ import annotations

import os
import time

from watcher import Entry, Reject, Retry

CALLS = os.environ.get("COMPARING_CALLS", "")


def _say(line: bytes) -> None:
    fd = os.open(CALLS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def compare(entry: Entry) -> None:
    """Say which entry was given and what it held: `NAME CONTENT`."""
    time.sleep(0.002)
    _say(b"%s %s\n" % (os.fsencode(entry.name), entry.message))


def compare_and_fail(entry: Entry) -> None:
    """Do the same; of an entry whose number ends in 3 the first attempt fails, 7 is rejected."""
    message = entry.message
    _say(b"called %s\n" % os.fsencode(entry.name))
    time.sleep(0.001)
    if message.endswith(b"3") and entry.attempt == 1:
        raise Retry("not yet", after=0.05)
    if message.endswith(b"7"):
        raise Reject("no")
    if message != os.fsencode(entry.name):
        _say(b"MIXED %s %s\n" % (os.fsencode(entry.name), message))
    _say(b"%s %s\n" % (os.fsencode(entry.name), message))
