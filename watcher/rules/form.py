"""The form of an entry: its files, and how message and metadata are read from them. PURE."""

from __future__ import annotations

import enum


class Form(enum.StrEnum):
    """The form of an entry; each value is the word for people."""

    PCK = "pck"  # one `.pck` that holds both
    PAIR = "pair"  # a `.msg` and a `.db`
    PCK_DB = "pck+db"  # a `.pck` that holds the message, and a `.db` (Mailman 2.1.0 to 2.1.4)
    RAW = "raw"  # one file that is the message
    HALF = "half"  # one file of a pair: no handler gets it
