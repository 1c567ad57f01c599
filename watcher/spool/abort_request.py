"""An operator's word that one attempt is aborted: `inflight/PID.RANDOM/.abort.INODE.CTIME_NS`.

`watcher abort` writes it into the directory of the process that has the entry in hand, before it
ends the handler's processes. The worker looks for it after a handler that did not succeed, and then
it is the reason of the failure. The two numbers are those of the ledger's slot: a move changes the
ctime, so the file counts for this one attempt.
Guarantees: an attempt that succeeds costs no system call for this. The name alone counts; the
contents tell the operator's name, and whether the entry is to be held.
Fails: `write` raises OSError; `take` never.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from watcher.errors import one_line
from watcher.rules.results import HandlerResult, Verdict
from watcher.spool import state_files

LARGEST = 1024  # bytes
LONGEST = 200  # characters of a user's name
HOLD_WITHIN = 60.0  # seconds until the next attempt, in which the command holds the entry


class AbortRequest(NamedTuple):
    """Which operator aborted an attempt, and whether the entry is to be held afterwards."""

    user: str = ""
    hold: bool = False

    def result(self, outcome: HandlerResult) -> HandlerResult:
        """Return the result of the attempt, whose handler ended without success."""
        reason = f"aborted by the operator {self.user}".rstrip()
        after = HOLD_WITHIN if self.hold else None
        return HandlerResult(
            Verdict.RETRY,
            reason,
            after,
            outcome.stderr,
            outcome.exit_status,
            remembered=outcome.remembered,
        )


def _name(inode: int, ctime_ns: int) -> bytes:
    return b".abort.%d.%d" % (inode, ctime_ns)


def write(directory: int, inode: int, ctime_ns: int, request: AbortRequest) -> None:
    """Write the request into a process directory; one that is there already stays."""
    import json

    data = json.dumps({"user": request.user[:LONGEST], "hold": request.hold}).encode()
    with contextlib.suppress(FileExistsError):
        fd = state_files.create(_name(inode, ctime_ns), directory, os.O_WRONLY)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


def withdraw(directory: int, inode: int, ctime_ns: int) -> None:
    """Remove a request that no worker took."""
    with contextlib.suppress(OSError):
        os.unlink(_name(inode, ctime_ns), dir_fd=directory)


def take(directory: int, inode: int, ctime_ns: int) -> AbortRequest | None:
    """Return the request about an attempt, and remove it; None if there is none."""
    try:
        data = state_files.read(_name(inode, ctime_ns), directory, LARGEST)
    except OSError:
        return None
    withdraw(directory, inode, ctime_ns)
    return _decode(data)


def _decode(data: bytes) -> AbortRequest:
    import json

    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return AbortRequest()
    user = found.get("user")
    shown = one_line(user[:LONGEST]) if isinstance(user, str) else ""
    return AbortRequest(shown, found.get("hold") is True)
