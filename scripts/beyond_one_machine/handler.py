"""The handler of the workers: records each call, and uses the key, so that its effect happens once.

A call is one line of the file that CALLS names. The effect is a file named by the key, which comes
whole by link(2): a second call with the same key finds it. Neither is synced: what SIGKILL ends is
a process, and the kernel keeps what the process wrote.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from watcher.handle.handler import Reject

if TYPE_CHECKING:
    from watcher.handle.entry import Entry

CALLS, EFFECTS, WORKER = "MACHINES_CALLS", "MACHINES_EFFECTS", "MACHINES_WORKER"
WORKING = 0.002  # seconds, between the start of a call and its effect
REJECTED = "reject"  # an entry whose name begins so is no innocent: it is rejected


class Call(NamedTuple):
    """One call of a handler; it began at that moment, in seconds since the epoch."""

    time: float
    worker: str
    entry: str
    key: str
    attempt: int
    digest: str
    end: str  # effect, known (by its key), rejected, or begun: the line is of the call's start


def handle(entry: Entry) -> None:
    """Handle one entry."""
    digest = hashlib.sha256(entry.message).hexdigest()
    call = Call(
        time.time(), os.environ[WORKER], entry.name, entry.key, entry.attempt, digest, "begun"
    )
    _write(call)
    time.sleep(WORKING)
    if entry.name.startswith(REJECTED):
        _write(call._replace(end="rejected"))
        raise Reject("its name says so")
    _write(call._replace(end="effect" if _make_effect(entry, digest) else "known"))


def _make_effect(entry: Entry, digest: str) -> bool:
    """Make the file of a key; return False if it is there."""
    path = os.path.join(os.environ[EFFECTS], entry.key.replace("/", "%2F"))
    scratch = f"{path}.{os.getpid()}.{threading.get_native_id()}"
    with open(scratch, "w", encoding="utf-8") as file:
        file.write(f"{entry.name} {digest}")
    try:
        os.link(scratch, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(scratch)
    return True


def _write(call: Call) -> None:
    fd = os.open(os.environ[CALLS], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, ("\t".join(map(str, call)) + "\n").encode())
    finally:
        os.close(fd)


def read(path: str) -> list[Call]:
    """Return the calls' lines, the oldest first."""
    found = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            moment, worker, entry, key, attempt, digest, end = line.rstrip("\n").split("\t")
            found.append(Call(float(moment), worker, entry, key, int(attempt), digest, end))
    return found
