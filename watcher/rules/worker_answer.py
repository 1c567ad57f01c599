r"""The answer line of a worker command, read (docs/worker-protocol.md). PURE.

    done [KEY]                    the entry is handled; a key that is not the entry's is no answer
    retry [SECONDS] [REASON]      try it again, after so many seconds or by the queue's policy
    reject [REASON]               no attempt can succeed

A worker runs foreign code on foreign data: what is none of these is no answer, and is never taken
for one.
Guarantees: a reason is one line of bounded length, whatever its bytes.
Fails: ValueError that quotes what is no answer.
"""

from __future__ import annotations

import re

from watcher.durations import LONGEST
from watcher.rules.results import HANDLED, HandlerResult, Verdict, shortened

MOST = 4096  # bytes of an answer, with its line end
SHOWN = 60  # bytes of what is no answer, in a message
_NUMBER = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,9})?")


def read_answer(line: bytes, key: str) -> HandlerResult:
    """Read an answer to the entry that has this key; raise ValueError."""
    word, _, rest = line.strip(b" \t\r").partition(b" ")
    rest = rest.strip()
    if word == b"done" and rest in (b"", key.encode()):
        return HANDLED
    if word == b"done":
        raise ValueError(f"{quoted(line)} does not name the key of the entry in hand")
    if word == b"reject":
        return HandlerResult(Verdict.REJECT, _reason(rest) or "rejected by the worker")
    if word != b"retry":
        raise ValueError(f"{quoted(line)} is no answer; expected done, retry or reject")
    first, _, others = rest.partition(b" ")
    after: float | None = None
    if _NUMBER.fullmatch(first):
        after, rest = float(first), others
        if after > LONGEST:
            raise ValueError(f"{quoted(line)} asks for more than {LONGEST:.0f} seconds")
    return HandlerResult(Verdict.RETRY, _reason(rest) or "the worker asks for a retry", after)


def quoted(data: bytes) -> str:
    """Return the beginning of what a worker wrote, as a message shows it."""
    text = data[:SHOWN].decode("utf-8", "backslashreplace")
    return f"{text!r}{'...' if len(data) > SHOWN else ''}"


def _reason(data: bytes) -> str:
    return shortened(data.decode("utf-8", "backslashreplace"))
