"""The names of a pair's two files: from the name of one to the name of the other. PURE.

    NAME.msg + NAME.db    the message and its metadata, Mailman 2.0
    NAME.pck + NAME.db    Mailman 2.1.0 to 2.1.4

A `.db` is always the metadata; its message is either a `.msg` or a `.pck`. Names may be numbered
(NAME~1) or stamped: both files of a pair have the same stem. Not for the raw format, where such
names mean nothing.
"""

from __future__ import annotations

MESSAGE_SUFFIXES = (b".pck", b".msg")
METADATA_SUFFIX = b".db"
SUFFIXES = (b".pck", b".msg", b".db")  # files of one stem with these are one entry


def pair_stem(name: bytes) -> bytes:
    """Return the part of a file's name that both files of its pair share."""
    return name[:-4] if name.endswith(MESSAGE_SUFFIXES) else name.removesuffix(METADATA_SUFFIX)


def metadata_name(name: bytes) -> bytes:
    """Return the name of the metadata's file of the pair to which `name` belongs."""
    return pair_stem(name) + METADATA_SUFFIX


def message_names(name: bytes) -> tuple[bytes, bytes]:
    """Return the names that the message's file may have in the pair to which `name` belongs."""
    stem = pair_stem(name)
    return stem + b".msg", stem + b".pck"


def other_half_names(half: bytes) -> tuple[bytes, ...]:
    """Return the names that the other file of a pair may have, given the name of one file."""
    return message_names(half) if half.endswith(METADATA_SUFFIX) else (metadata_name(half),)


def names_of_entry(stem: bytes) -> list[bytes]:
    """Return every name that a file of an entry of this stem may have in Mailman's format."""
    return [stem + suffix for suffix in SUFFIXES]
