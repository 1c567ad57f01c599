"""A reader of marshal, versions 0 to 2 (Python 1.5.2 to 2.7), for what a Mailman `.db` may hold.

The standard library's marshal is of another version, fails on genuine files, and is documented to
crash on hostile ones.
Guarantees: only None, booleans, numbers, text, bytes, tuples, lists, dicts and Ellipsis come out;
depth and sizes are bounded by the input and by `MAX_DEPTH`.
Fails: Undecodable, with the reason and the place; no other exception, whatever the input.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from watcher.contents.values import is_key, text2
from watcher.errors import Undecodable

MAX_DEPTH = 100
MAX_DIGITS = 4_000  # of 15 bits, in a long
_NULL = object()


class _Reader:
    """The place in the data, and the strings seen so far (`t` adds one, `R` refers to one)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.interned: list[str | bytes] = []

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise Undecodable(
                f"truncated: {count} bytes wanted at byte {self.position},"
                f" {len(self.data) - self.position} are there"
            )
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def signed(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "little", signed=True)

    def count(self) -> int:
        """Return a count of objects that the rest of the data can hold: each is a byte at least."""
        count = self.signed()
        if not 0 <= count <= len(self.data) - self.position:
            raise Undecodable(
                f"refused: {count} objects announced at byte {self.position},"
                f" {len(self.data) - self.position} bytes are left"
            )
        return count

    def value(self, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise Undecodable(f"refused: nested deeper than {MAX_DEPTH} at byte {self.position}")
        code = self.take(1)
        read = _CODES.get(code)
        if read is None:
            raise Undecodable(
                f"not a marshal of version 0 to 2: byte {self.position - 1} is {code!r}"
            )
        return read(self, depth + 1)

    def values(self, depth: int) -> list[Any]:
        items = [self.value(depth) for _ in range(self.count())]
        if any(item is _NULL for item in items):
            raise Undecodable(f"damaged: an end without a dict before byte {self.position}")
        return items


def read(data: bytes) -> Any:
    """Return the one value that `data` holds, and nothing after it; raises Undecodable."""
    reader = _Reader(data)
    try:
        value = reader.value()
    except (ValueError, OverflowError, RecursionError, struct.error) as error:
        raise Undecodable(f"damaged near byte {reader.position}: {error}") from None
    if value is _NULL:
        raise Undecodable("damaged: an end without a dict")
    if reader.position != len(data):
        raise Undecodable(f"damaged: {len(data) - reader.position} bytes after the end")
    return value


def _long(reader: _Reader, _depth: int) -> int:
    count = reader.signed()
    if abs(count) > MAX_DIGITS:
        raise Undecodable(f"refused: a number of {abs(count)} digits")
    value = 0
    for shift in range(abs(count)):
        digit = reader.signed(2)
        if digit < 0:
            raise Undecodable(f"damaged: a digit below zero at byte {reader.position - 2}")
        value |= digit << (15 * shift)
    return -value if count < 0 else value


def _interned(reader: _Reader, _depth: int) -> str | bytes:
    text = text2(reader.take(reader.signed()))
    reader.interned.append(text)
    return text


def _reference(reader: _Reader, _depth: int) -> str | bytes:
    index = reader.signed()
    if not 0 <= index < len(reader.interned):
        raise Undecodable(f"damaged: a reference to string {index} at byte {reader.position}")
    return reader.interned[index]


def _dict(reader: _Reader, depth: int) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    while (key := reader.value(depth)) is not _NULL:
        if not is_key(key, len(made)):
            raise Undecodable(f"refused: a key that is no text or number, byte {reader.position}")
        value = reader.value(depth)
        if value is _NULL:
            raise Undecodable(f"damaged: a key without its value at byte {reader.position}")
        made[key] = value
    return made


def _float_text(reader: _Reader, _depth: int) -> float:
    return float(reader.take(reader.take(1)[0]))


_CODES: dict[bytes, Callable[[_Reader, int], Any]] = {
    b"0": lambda _reader, _depth: _NULL,
    b"N": lambda _reader, _depth: None,
    b"T": lambda _reader, _depth: True,
    b"F": lambda _reader, _depth: False,
    b".": lambda _reader, _depth: ...,
    b"i": lambda reader, _depth: reader.signed(),
    b"I": lambda reader, _depth: reader.signed(8),
    b"l": _long,
    b"f": _float_text,
    b"g": lambda reader, _depth: struct.unpack("<d", reader.take(8))[0],
    b"x": lambda reader, depth: complex(_float_text(reader, depth), _float_text(reader, depth)),
    b"y": lambda reader, _depth: complex(*struct.unpack("<dd", reader.take(16))),
    b"s": lambda reader, _depth: text2(reader.take(reader.signed())),
    b"t": _interned,
    b"R": _reference,
    b"u": lambda reader, _depth: reader.take(reader.signed()).decode("utf-8", "surrogatepass"),
    b"(": lambda reader, depth: tuple(reader.values(depth)),
    b"[": lambda reader, depth: reader.values(depth),
    b"{": _dict,
}
