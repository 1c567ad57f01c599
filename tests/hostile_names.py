"""File names that a careless program stumbles over."""

from __future__ import annotations

HOSTILE = [
    b"\xff\xfe+caf\xe9.pck",
    b"n" * 251 + b".pck",
    b"two\nlines.pck",
    b"-rf.pck",
    b"noplus.pck",
    b"abc+def.pck",
]
