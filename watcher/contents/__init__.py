"""What is in an entry's files: bytes in, message and metadata out. PURE, and safe on anything.

    pickled, machine, objects    `.pck`: two pickles, Mailman 2.1 and 3, or the plain form
    values                       the allow-list, and what a pickle's objects become
    skim                         where a pickle ends
    marshalled                   `.db` of Mailman 2.0 to 2.1.4
    literal                      `.db` in its ASCII form, which Mailman executed and we only read
    message, header, generator2  a message object to its bytes
    plain                        metadata as plain values, and what we write ourselves
    jsonline                     metadata as JSON, for handlers

Guarantees: nothing that is read is imported, called or executed; the work is bounded by the size
of the input.
Fails: `Undecodable`, with a reason for an operator, and no other exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from watcher.errors import Undecodable

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SIZE = 256 << 20  # bytes, of an entry's file


class Contents(NamedTuple):
    """What an entry holds."""

    message: bytes
    metadata: dict[str, object]


def read_pck(data: bytes) -> Contents:
    """Read a `.pck` of two pickles, the message and the metadata, and nothing after them."""
    from watcher.contents import message, pickled

    if not data:
        raise Undecodable("empty: nothing was ever written to it")
    first, position = pickled.read(data)
    if position == len(data):
        raise Undecodable(
            "one pickle only: the metadata is missing"
            " (a Mailman 2.1.0 to 2.1.4 half? its .db belongs beside it, see --legacy)"
        )
    second, position = pickled.read(data, position)
    if position != len(data):
        raise Undecodable(f"damaged: {len(data) - position} bytes after the second pickle")
    return Contents(message.render(first, len(data)), _metadata(second, len(data)))


def read_pck_message(data: bytes) -> bytes:
    """Read a `.pck` of one pickle, the message; its metadata is in a `.db`."""
    from watcher.contents import message, pickled

    if not data:
        raise Undecodable("empty: nothing was ever written to it")
    first, position = pickled.read(data)
    if position != len(data):
        raise Undecodable(f"damaged: {len(data) - position} bytes after the pickle")
    return message.render(first, len(data))


def pickles(data: bytes) -> int:
    """Return how many whole pickles the data holds, 2 standing for more; raise Undecodable.

    Only where they end is looked for, so that nothing is made of their values.
    """
    from watcher.contents import skim

    position = count = 0
    while position < len(data) and count < 2:  # noqa: PLR2004 - a whole entry has two
        position = skim.end(data, position)
        count += 1
    return count


def read_db(data: bytes) -> dict[str, object]:
    """Read a `.db`, marshal or ASCII, told apart by what is in it."""
    from watcher.contents import literal, marshalled

    if not data:
        raise Undecodable("empty: no metadata was ever written to the .db")
    if data[:1] == b"{":
        found = _metadata(marshalled.read(data), len(data))
    else:
        found = _metadata(literal.read(data), len(data))
    received = found.get("received_time")
    if isinstance(received, str):  # Mailman stored this one as text, and read it as a number
        try:
            found["received_time"] = float(received)
        except ValueError:
            raise Undecodable("damaged: received_time is no number") from None
    return found


def write_pck(message: bytes, metadata: Mapping[str, object]) -> bytes:
    """Return the plain form of an entry, which Mailman 2.1 and 3 read as well; raise Usage."""
    from watcher.contents import plain

    return plain.write(message, metadata)


def to_json(metadata: Mapping[str, object]) -> str:
    """Return metadata as one line of JSON for handlers; raise Undecodable if it is too large."""
    from watcher.contents import jsonline

    return jsonline.to_json(metadata)


def _metadata(value: object, size: int) -> dict[str, object]:
    from watcher.contents import plain

    if not isinstance(value, dict):
        raise Undecodable(f"no metadata: a {type(value).__name__} is where a dict belongs")
    return plain.checked(value, size)
