"""What came of an attempt: the results of design section 7, and what an exit status means. PURE."""

from __future__ import annotations

import enum
import errno
import os
import signal
from dataclasses import dataclass
from typing import Protocol

from watcher.entry import Entry
from watcher.errors import one_line

# Want of what the machine is short of for everybody: it is no entry's fault, whatever it holds.
SHORT = (errno.EAGAIN, errno.EMFILE, errno.ENFILE)
LONGEST_REASON = 500  # characters; all that is known is in the note beside the entry


class Verdict(enum.Enum):
    """What is to become of the entry."""

    DONE = "done"
    RETRY = "retry"
    REJECT = "reject"
    CRASHED = "crashed"  # the process that had the entry in hand died
    STOPPED = "stopped"  # by `abandon`: nobody is to blame, and nothing is to be done about it
    MISCONFIGURED = "misconfigured"  # the operator's mistake: the entry is not to blame


@dataclass(frozen=True, slots=True)
class Outcome:
    """A handler's word, and what is known of how it came about."""

    verdict: Verdict
    reason: str = ""
    after: float | None = None  # seconds until the next attempt, where the handler said
    stderr: str = ""  # the end of what it wrote, or of the traceback
    exit_status: int | None = None  # negative: the signal that ended it
    given: bool = True  # False: the machine was short of something, and no attempt was made


class Retry(Exception):
    """Raised by a python handler: try again, after `after` seconds if given."""

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Reject(Exception):
    """Raised by a python handler: no attempt can succeed; the text says why."""


class Handler(Protocol):
    """What does the work."""

    def run(self, entry: Entry) -> Outcome:
        """Handle one entry; never raises. Called from several threads at once."""

    def abandon(self) -> None:
        """End what is running, from another thread: the process is about to exit.

        What did not succeed by then is STOPPED, and its entry stays where it is.
        """


DONE = Outcome(Verdict.DONE)


def from_exit_status(status: int, stderr: str = "") -> Outcome:
    """Read an exit status (negative: a signal) by the table of design section 7."""
    if status == 0:
        return DONE
    last = stderr.strip().splitlines()[-1:] or [""]
    words = f"signal {-status}" if status < 0 else f"exit status {status}"
    reason = shortened(f"{words}: {last[0]}" if last[0] else words)
    return Outcome(_verdict(status), reason, None, stderr, status)


def crashed(status: int | None, stderr: str = "", said: str = "") -> Outcome:
    """Say how a worker process died: by its exit status (negative: a signal), None if it did not.

    Any status is a crash, 0 too: the function did not return. `said` is what more is known.
    """
    if status is None:
        words = "hung up and went on without us; killed"
    elif status < 0:
        words = f"killed by signal {-status}{_name_of(-status)}"
    else:
        words = f"exited with status {status}"
    reason = f"{words}: {said}" if said else words
    return Outcome(Verdict.CRASHED, shortened(reason), None, stderr, status)


def _name_of(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return ""


def shortened(text: str) -> str:
    """Make a reason of what a handler said: one line, and not a long one."""
    line = one_line(text[: LONGEST_REASON + 1].strip())
    return line if len(line) <= LONGEST_REASON else line[:LONGEST_REASON] + "..."


def _verdict(status: int) -> Verdict:
    if status in (os.EX_CONFIG, 126, 127):  # the shell's "cannot execute" and "not found"
        return Verdict.MISCONFIGURED
    if status in (os.EX_OSERR, os.EX_TEMPFAIL):
        return Verdict.RETRY
    if os.EX_USAGE <= status <= os.EX_NOPERM:
        return Verdict.REJECT
    return Verdict.RETRY
