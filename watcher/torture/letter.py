"""A message that proves itself: its number, the digest and the length of all that follows. PURE.

Whoever finds the message anywhere (a handler, or we in a file of any state) can tell which entry it
is and whether all of it is there. What becomes of it is drawn from its number, so that every
attempt at it answers alike.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

HEAD = re.compile(rb"Subject: torture ([0-9]+\.[0-9]+) ([0-9a-f]{64}) ([0-9]+)\n\n")
KEY = "torture"  # of the metadata: the number again, so that two halves can be told to match


class Letter(NamedTuple):
    """What a writer was given."""

    number: str
    message: bytes
    metadata: dict[str, object]


def compose(number: str, body: bytes) -> Letter:
    """Return the message of this number."""
    digest = hashlib.sha256(body).hexdigest()
    head = f"Subject: torture {number} {digest} {len(body)}\n\n".encode()
    return Letter(number, head + body, {KEY: number, "listname": "torture"})


def number_in(data: bytes) -> str | None:
    """Return the number of the message that a file holds, in whatever format; None without one."""
    found = HEAD.search(data)
    return found[1].decode() if found else None


def whole(message: bytes, metadata: object) -> str | None:
    """Return the number of a message that is all there, with its own metadata; else None."""
    found = HEAD.match(message)
    if found is None:
        return None
    body = message[found.end() :]
    number = found[1].decode()
    said = metadata.get(KEY) if isinstance(metadata, dict) else None
    if isinstance(said, bytes):
        said = said.decode("ascii", "replace")
    right = len(body) == int(found[3]) and hashlib.sha256(body).hexdigest() == found[2].decode()
    return number if right and said == number else None


def wish(number: str, attempt: int) -> str:
    """Return what a handler is to answer: mostly done, now and then retry first, a few reject."""
    drawn = hashlib.sha256(number.encode()).digest()[0]
    if drawn < 10:  # noqa: PLR2004 - of 256: one in 25
        return "reject"
    return "retry" if drawn < 40 and attempt == 1 else "done"  # noqa: PLR2004 - one in 9


def slow(number: str) -> float:
    """Return for how many seconds a handler is to keep the entry."""
    drawn = hashlib.sha256(number.encode()).digest()[1]
    return 0.2 if drawn < 6 else drawn / 256 * 0.02  # noqa: PLR2004 - one in 40
