"""The detail of a journal line about the end of an attempt: how it is written and read. PURE.

    attempt=3 took=12ms wait=30512ms exit=75 next=60000ms: exit status 75: no connection

    attempt   its number since the entry was committed or requeued; the first is 1
    took      how long the handler had the entry; left out if its process died
    wait      how long the entry had been where it was before: since its commit, or since the
              attempt before; left out with `took`
    exit      the handler's exit status, negative for a signal; left out if it has none, and for 0
    next      in how long the next attempt is due
    the text  the reason; for a done entry, where its file goes

Guarantees: what this version writes is read back. The detail of a line that an earlier version
wrote, or that is about something else, is all text.
Fails: never.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Filled in with `%` for each entry that is done: no Python function is called on the hot path, and
# whole milliseconds take a third of the time of a fraction.
ATTEMPT = b"attempt=%d took=%dms wait=%dms"
LONGEST_REASON = 200  # characters; the note beside the entry has all of it
_LIMIT = 10**15  # ms
_DETAIL = re.compile(
    rb"attempt=([0-9]{1,10})(?: took=([0-9]{1,15})ms)?(?: wait=([0-9]{1,15})ms)?"
    rb"(?: exit=(-?[0-9]{1,10}))?(?: next=([0-9]{1,15})ms)?(?:: (.*))?",
    re.DOTALL,
)


class AttemptDetail(NamedTuple):
    """What a line says of an attempt; None: it does not say. Durations in seconds."""

    attempt: int | None = None
    took: float | None = None
    wait: float | None = None
    exit_status: int | None = None
    next_in: float | None = None
    text: str = ""


def format_detail(detail: AttemptDetail) -> str:
    """Return the detail of a line."""
    words = [f"attempt={detail.attempt or 1}"]
    words += [
        f"{key}={min(max(0, round(seconds * 1000)), _LIMIT - 1)}ms"
        for key, seconds in (("took", detail.took), ("wait", detail.wait))
        if seconds is not None
    ]
    if detail.exit_status:
        words.append(f"exit={detail.exit_status}")
    if detail.next_in is not None:
        words.append(f"next={min(max(0, round(detail.next_in * 1000)), _LIMIT - 1)}ms")
    return " ".join(words) + (f": {detail.text}" if detail.text else "")


def parse_detail(detail: bytes) -> AttemptDetail:
    """Return what the detail of a line says."""
    found = _DETAIL.fullmatch(detail)
    if found is None:
        return AttemptDetail(text=detail.decode("utf-8", "backslashreplace"))
    attempt, took, wait, status, following, text = found.groups()
    return AttemptDetail(
        int(attempt),
        _seconds(took),
        _seconds(wait),
        None if status is None else int(status),
        _seconds(following),
        (text or b"").decode("utf-8", "backslashreplace"),
    )


def _seconds(milliseconds: bytes | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000
