"""A reader of marshal, versions 0 to 2 (Python 1.5.2 to 2.7): the values that a `.db` may hold.

The standard library's marshal reads another version and fails on genuine files, and its
documentation says that hostile ones may crash it.
Guarantees: it makes only None, booleans, numbers, text, bytes, tuples, lists, dicts and Ellipsis.
The input and `MAX_DEPTH` bound depth and sizes, `budget` the memory, `MAX_VALUES` the time, to
about 2 s.
Fails: Undecodable, with the reason and the place; no other exception, whatever the input.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from watcher.errors import Undecodable
from watcher.mailman.budget import (
    DICT,
    ENTRY,
    LIST,
    SLOT,
    TUPLE,
    Budget,
)
from watcher.mailman.cursor import Cursor
from watcher.mailman.values import MAX_DIGITS, is_key, text2

MAX_DEPTH = 100
MAX_VALUES = 1_500_000  # with keys and the ends of dicts: three times what metadata may hold
_NULL = object()


class _Reader(Cursor):
    """A cursor, and the strings read so far: `t` adds one, `R` refers to one."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left = MAX_VALUES
        self.budget = Budget(len(data))
        self.interned: list[str | bytes] = []

    def signed(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "little", signed=True)

    def count(self) -> int:
        """Return a count of objects; each takes a byte of the rest of the data at least."""
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
        self.left -= 1
        if self.left < 0:
            raise Undecodable(f"refused: more than {MAX_VALUES} values")
        code = self.take(1)
        read = _CODES.get(code)
        if read is None:
            raise Undecodable(
                f"not a marshal of version 0 to 2: byte {self.position - 1} is {code!r}"
            )
        return read(self, depth + 1)

    def values(self, depth: int) -> list[Any]:
        count = self.count()
        self.budget.pay(SLOT * count)
        items = [self.value(depth) for _ in range(count)]
        if any(item is _NULL for item in items):
            raise Undecodable(f"damaged: an end without a dict before byte {self.position}")
        return items


def read(data: bytes) -> Any:
    """Return the one value that `data` holds; raise Undecodable if anything follows it."""
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
    if abs(count) * 15 > MAX_DIGITS * 8:
        raise Undecodable(f"refused: a number of {abs(count) * 15 // 8} bytes")
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
    reader.budget.pay(DICT + ENTRY)
    while (key := reader.value(depth)) is not _NULL:
        if not is_key(key, len(made)):
            raise Undecodable(
                f"refused: a key that is neither text nor number, byte {reader.position}"
            )
        value = reader.value(depth)
        if value is _NULL:
            raise Undecodable(f"damaged: a key without its value at byte {reader.position}")
        reader.budget.pay(ENTRY)
        made[key] = value
    return made


def _list(reader: _Reader, depth: int) -> list[Any]:
    reader.budget.pay(LIST)
    return reader.values(depth)


def _tuple(reader: _Reader, depth: int) -> tuple[Any, ...]:
    reader.budget.pay(TUPLE)
    return tuple(reader.values(depth))


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
    b"u": lambda reader, _depth: reader.budget.unicode(reader.take(reader.signed())),
    b"(": _tuple,
    b"[": _list,
    b"{": _dict,
}
