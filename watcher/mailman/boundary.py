"""Invents a boundary for a multipart message that has none. PURE.

Guarantees: the boundary is not in the text, and the same text gets the same one.
Fails: never.
"""

from __future__ import annotations

import hashlib


def invented(text: bytes) -> bytes:
    """Return a boundary that the text does not contain, in the form of Python's boundaries.

    It is the same for the same text. Python's own is random: each attempt would give the handler
    another message.
    """
    mark = text
    while True:
        mark = hashlib.sha256(mark).digest()
        boundary = b"=" * 15 + b"%019d" % (int.from_bytes(mark, "big") % 10**19) + b"=="
        if boundary not in text:
            return boundary
