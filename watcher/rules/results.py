"""What a handler reported, why an entry was not claimed, and how an attempt ended. PURE.

    HandlerResult   what is to become of the entry (docs/design.md, "Handler results"), and why
    NotClaimed      an entry that was not claimed: why, and when to look again
    AttemptResult   how an attempt ended, and when to look at the entry again

Fails: never.
"""

from __future__ import annotations

import enum
import errno
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.errors import one_line
from watcher.rules.evidence import Proof, Shape

# The machine is short of something for all processes: no entry is the cause.
SHORT = (errno.EAGAIN, errno.EMFILE, errno.ENFILE)
LONGEST_REASON = 500  # characters; all that is known is in the note beside the entry


class Verdict(enum.Enum):
    """What is to become of the entry."""

    DONE = "done"
    RETRY = "retry"
    REJECT = "reject"
    CRASHED = "crashed"  # the process that had the entry in hand died
    STOPPED = "stopped"  # by `terminate`: the process is about to exit
    MISCONFIGURED = "misconfigured"  # the operator's mistake: the entry is not to blame


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """What a handler reported: the verdict, the reason, and how the handler ended.

    `remembered` is what the next attempt at the entry is to know (`Entry.remembered`), as JSON can
    hold it, 700 KB at most; None: what was remembered before.
    """

    verdict: Verdict
    reason: str = ""
    after: float | None = None  # seconds until the next attempt, where the handler said
    stderr: str = field(default="", compare=False)  # the end of what it wrote, or of the traceback
    exit_status: int | None = None  # negative: the signal that ended it
    attempted: bool = True  # False: no attempt was made, because the machine was short of something
    ran: bool = True  # whether the handler's own code began to run
    stdout: str = field(default="", compare=False)  # as `stderr`, if it was kept
    at_least: float = 0.0  # seconds before the next attempt; the policy's delay may be longer
    remembered: Mapping[str, object] | None = None
    move_to: bytes | None = None  # where its files go instead of being removed: an absolute path
    copied: bool = False  # whether durable copies of them are there already


HANDLED = HandlerResult(Verdict.DONE)


def from_exit_status(status: int, stderr: str = "", stdout: str = "") -> HandlerResult:
    """Return the result of an exit status (negative: a signal), as docs/design.md says."""
    if status == 0:
        printed = stderr or stdout
        return HandlerResult(Verdict.DONE, stderr=stderr, stdout=stdout) if printed else HANDLED
    last = stderr.strip().splitlines()[-1:] or [""]
    words = f"signal {-status}" if status < 0 else f"exit status {status}"
    reason = shortened(f"{words}: {last[0]}" if last[0] else words)
    return HandlerResult(_verdict(status), reason, None, stderr, status, stdout=stdout)


def crashed(status: int | None, stderr: str = "", said: str = "") -> HandlerResult:
    """Return the result for a worker process that died with `status` (negative: a signal).

    None: it hung up and still ran. Any status is a crash, also 0: the function did not return.
    `said` is added to the reason.
    """
    if status is None:
        words = "closed its connection and went on; killed"
    elif status < 0:
        words = f"killed by signal {-status}{_name_of(-status)}"
    else:
        words = f"exited with status {status}"
    reason = f"{words}: {said}" if said else words
    return HandlerResult(Verdict.CRASHED, shortened(reason), None, stderr, status)


def _name_of(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return ""


def shortened(text: str) -> str:
    """Return a text as one line of `LONGEST_REASON` characters at most."""
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


class Reason(enum.Enum):
    """Why an entry was not claimed."""

    GONE = "gone"
    BUSY = "claimed by another"
    YOUNG = "too young"
    WRITER = "being written"
    # IN_CREATE told of it, and it was not linked in; or it waits for a file beside it.
    UNPROVEN = "not known to be complete"
    FOREIGN = "not an entry"
    ERROR = "cannot be read"
    PINNED = "cannot be removed"


class Renamed(NamedTuple):
    """A file whose rename was seen, identified by both numbers.

    The kernel gives the inode number to another file as soon as this one is gone.
    """

    ino: int
    birth_ns: int


class NotClaimed(NamedTuple):
    """An entry that was not claimed: why, and in how many seconds to look at it again.

    `proof` is the proof for that look. If the refusal is WRITER and the proof is not NONE, the
    entry is ready as soon as its writer is gone; `renamed` says for which file this holds.
    """

    refusal: Reason
    why: str
    wait: float = 0.0
    shape: Shape = Shape.WHOLE
    proof: Proof = Proof.NONE
    renamed: Renamed | None = None


class AttemptEnd(enum.Enum):
    """How an attempt ended."""

    DONE = "done"
    RETRY = "left for a later try"
    DEFERRED = "deferred"
    REJECTED = "moved to dead/"
    ORPHANED = "moved to orphans/"
    REUNITED = "reunited with its other half"
    FOLLOWED = "moved after its message"
    MISCONFIGURED = "the handler cannot be run"
    STUCK = "the disk refuses"
    STOPPED = "stopped at once"
    RETURNS = "comes back whenever it is handled"
    KEPT = "finished with, and cannot be moved"
    GONE = Reason.GONE.value
    BUSY = Reason.BUSY.value
    YOUNG = Reason.YOUNG.value
    WRITER = Reason.WRITER.value
    UNPROVEN = Reason.UNPROVEN.value
    FOREIGN = Reason.FOREIGN.value
    ERROR = Reason.ERROR.value
    PINNED = Reason.PINNED.value


class AttemptResult(NamedTuple):
    """What became of an entry, why, and in how many seconds to look again, by which evidence.

    `proof` and `renamed` are those of a `NotClaimed`.
    """

    result: AttemptEnd
    why: str = ""
    wait: float | None = None
    shape: Shape = Shape.WHOLE
    name: bytes | None = None  # its location now, if it moved: in deferred/, or in the queue again
    proof: Proof = Proof.NONE
    renamed: Renamed | None = None


DONE = AttemptResult(AttemptEnd.DONE)
