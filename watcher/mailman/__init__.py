"""Decodes an entry's files: bytes in, message and metadata out. PURE, and safe on any input.

    budget                       how much memory the objects made from an input may take
    cursor                       a position in the bytes
    pickled, machine, objects    `.pck`: two pickles, Mailman 2.1 and 3, or the plain form
    values                       the allow-list, and what a pickle's objects become
    skim                         where a pickle ends
    marshalled                   `.db` of Mailman 2.0 to 2.1.4
    literal                      `.db` in its ASCII form, which Mailman executed
    message, header, generator2  a message object to its bytes
    plain                        metadata as plain values, and how `enqueue` writes entries
    jsonline                     metadata as JSON, for handlers

Guarantees: nothing found in a file is imported, called or executed. Whatever the input, reading it
takes at most three times its size plus 256 MiB of memory, and 2 s plus 1 s a MB of processor time.
Fails: `Undecodable`, with a reason for an operator. MemoryError, OSError and ImportError mean that
the machine is short of memory or of descriptors: they say nothing about the entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from watcher.errors import Undecodable

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SIZE = 256 << 20  # bytes, of an entry's file
MAX_DB = 32 << 20  # bytes, of a `.db`: more metadata than a handler can be given


class Contents(NamedTuple):
    """The decoded contents of an entry."""

    message: bytes
    metadata: dict[str, object]


def read_pck(data: bytes) -> Contents:
    """Read a `.pck` of two pickles, message and metadata; raise Undecodable if more follows."""
    from watcher.mailman import message, pickled
    from watcher.mailman.budget import Budget

    if not data:
        raise Undecodable("empty: nothing was ever written to it")
    budget = Budget(len(data))
    first, position = pickled.read(data, 0, budget)
    if position == len(data):
        raise Undecodable(
            "one pickle only: the metadata is missing"
            " (a Mailman 2.1.0 to 2.1.4 half? its .db belongs beside it, see --legacy)"
        )
    second, position = pickled.read(data, position, budget)
    if position != len(data):
        raise Undecodable(f"damaged: {len(data) - position} bytes after the second pickle")
    return Contents(message.render(first, len(data)), _metadata(second, len(data)))


def read_pck_message(data: bytes) -> bytes:
    """Read a `.pck` of one pickle, the message, whose metadata is in a `.db`; raise Undecodable."""
    from watcher.mailman import message, pickled

    if not data:
        raise Undecodable("empty: nothing was ever written to it")
    first, position = pickled.read(data)
    if position != len(data):
        raise Undecodable(f"damaged: {len(data) - position} bytes after the pickle")
    return message.render(first, len(data))


def pickles(data: bytes) -> int:
    """Return how many whole pickles the data holds, 2 also for more; raise Undecodable.

    Only their ends are searched for: no value is made.
    """
    from watcher.mailman import skim

    position = count = 0
    while position < len(data) and count < 2:  # noqa: PLR2004 - a whole entry has two
        position = skim.end(data, position)
        count += 1
    return count


def read_db(data: bytes) -> dict[str, object]:
    """Read a `.db`, marshal or ASCII; its first byte tells which. Raise Undecodable."""
    from watcher.mailman import literal, marshalled

    if not data:
        raise Undecodable("empty: no metadata was ever written to the .db")
    if len(data) > MAX_DB:
        raise Undecodable(f"refused: a .db of {len(data)} bytes")
    if data[:1] == b"{":
        found = _metadata(marshalled.read(data), len(data))
    else:
        found = _metadata(literal.read(data), len(data))
    received = found.get("received_time")
    if isinstance(received, str):  # Mailman wrote it as text, and read it as a number
        try:
            found["received_time"] = float(received)
        except ValueError:
            raise Undecodable("damaged: received_time is not a number") from None
    return found


def write_pck(message: bytes, metadata: Mapping[str, object]) -> bytes:
    """Return the plain form of an entry, which Mailman 2.1 and 3 also read; raise Usage."""
    from watcher.mailman import plain

    return plain.write(message, metadata)


def to_json(metadata: Mapping[str, object]) -> str:
    """Return metadata as one line of JSON for handlers; raise Undecodable if it is too large."""
    from watcher.mailman import jsonline

    return jsonline.to_json(metadata)


def _metadata(value: object, size: int) -> dict[str, object]:
    from watcher.mailman import plain

    if not isinstance(value, dict):
        raise Undecodable(f"no metadata: a {type(value).__name__} is where a dict belongs")
    return plain.checked(value, size)
