"""The contents of the entries of chaos: a token, and a body that is computed from the token. PURE.

A handler can tell from the bytes alone which entry they belong to and whether they are whole.
"""

from __future__ import annotations

import hashlib
import random

_LARGEST = 20_000  # bytes


def message_for(token: str) -> bytes:
    """Return the contents for a token; the same for each call."""
    size = random.Random(token).randrange(_LARGEST)
    block = hashlib.sha256(token.encode()).hexdigest().encode()
    body = (block * (size // len(block) + 1))[:size]
    return b"chaos %s %d\n" % (token.encode(), size) + body


def token_of(contents: bytes) -> tuple[str, bool]:
    """Return the token of the contents ("-" if none), and whether they are whole."""
    words = contents[:200].partition(b"\n")[0].split()
    if len(words) != len(message_for("").split(b"\n")[0].split()) + 1 or words[0] != b"chaos":
        return "-", False
    token = words[1].decode(errors="replace")
    return token, contents == message_for(token)
