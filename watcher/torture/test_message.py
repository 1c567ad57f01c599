"""A test message: it begins with its number and the digest and length of its body. PURE.

A reader of the message (a handler, or the torture in a file of any state) can tell which entry it
is and whether it is whole. The answer of the handler is computed from the number, so that every
attempt gives the same one.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

HEAD = re.compile(rb"Subject: torture ([0-9]+\.[0-9]+) ([0-9a-f]{64}) ([0-9]+)\n\n")
KEY = "torture"  # in the metadata: the number again; both files of a pair must have it


class Message(NamedTuple):
    """What a writer commits."""

    number: str
    message: bytes
    metadata: dict[str, object]


def compose(number: str, body: bytes) -> Message:
    """Return the message of this number."""
    digest = hashlib.sha256(body).hexdigest()
    head = f"Subject: torture {number} {digest} {len(body)}\n\n".encode()
    return Message(number, head + body, {KEY: number, "listname": "torture"})


def number_in(data: bytes) -> str | None:
    """Return the number of the message in a file, in any format; None if there is none."""
    found = HEAD.search(data)
    return found[1].decode() if found else None


def whole(message: bytes, metadata: object) -> str | None:
    """Return the number of a message that is whole and has its own metadata; else None."""
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


def answer_for(number: str, attempt: int) -> str:
    """Return the answer of the handler: `done`, sometimes `retry` first, sometimes `reject`."""
    drawn = hashlib.sha256(number.encode()).digest()[0]
    if drawn < 10:  # noqa: PLR2004 - of 256: one in 25
        return "reject"
    return "retry" if drawn < 40 and attempt == 1 else "done"  # noqa: PLR2004 - one in 9


def seconds_for(number: str) -> float:
    """Return for how many seconds the handler keeps the entry."""
    drawn = hashlib.sha256(number.encode()).digest()[1]
    return 0.2 if drawn < 6 else drawn / 256 * 0.02  # noqa: PLR2004 - one in 40
