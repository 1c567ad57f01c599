"""Bounds the memory of the objects made from an input: each is charged with its real size.

Guarantees: the objects made of an input of n bytes take at most n bytes for text (one byte for one
byte) and an allowance of n + min(32 n + 1 MiB, 96 MiB). With the input itself and the decoder's own
data, that is at most three times the input's size and 256 MiB. It is enough for all that `enqueue`
may write: `plain.MAX_VALUES` values at most.
Fails: Undecodable, before the object that exceeds the allowance is made.

The sizes are those of CPython on a 64-bit machine. They include the garbage collector's header and
the slot that refers to the object.
"""

from __future__ import annotations

import re
import sys

from watcher.errors import Undecodable

GROWTH = 32  # bytes of objects for each byte of input: a pickle has an empty list in three bytes
SPARE = 1 << 20  # bytes of objects that any input may have
MOST = 96 << 20  # bytes of objects that no input may exceed

LIST = 56 + 16 + 8
TUPLE = 40 + 16 + 8
SLOT = 8  # of a list or tuple
DICT = 64 + 16 + 8
ENTRY = 100  # of a dict or set, also of one that has just grown
SET = 216 + 16 + 8
INERT = 152  # an `Inert` and its empty state

LARGE = 4096  # bytes; the size of a longer text is computed before it is made
_CONTINUATION = bytes(range(0x80, 0xC0))
_WIDE = re.compile(rb"[\xc4-\xff]")  # the first byte of a character that takes two bytes in memory
_WIDEST = re.compile(rb"[\xf0-\xff]")  # of one that takes four


class Budget:
    """The memory that objects made of an input of `size` bytes may still take."""

    __slots__ = ("allowance", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.allowance = size + min(GROWTH * size + SPARE, MOST)

    def pay(self, cost: int) -> None:
        """Charge an object of `cost` bytes; raise Undecodable if the allowance is used up."""
        self.allowance -= cost
        if self.allowance < 0:
            raise Undecodable(f"refused: more objects than {self.size} bytes explain")

    def unicode(self, data: bytes) -> str:
        """Decode UTF-8, lone surrogates included; raise Undecodable or UnicodeDecodeError.

        The memory that the text takes beyond the length of `data` is charged.
        """
        if data.isascii():
            return data.decode("ascii")
        if len(data) < LARGE:
            text = data.decode("utf-8", "surrogatepass")
            self.pay(max(0, sys.getsizeof(text) - len(data)))
            return text
        width = 4 if _WIDEST.search(data) else 2 if _WIDE.search(data) else 1
        self.pay(max(0, width * len(data.translate(None, _CONTINUATION)) - len(data)))
        return data.decode("utf-8", "surrogatepass")

    def raw_unicode_escape(self, data: bytes) -> str:
        """Decode a text of a pickle of protocol 0; charge and raise as `unicode`."""
        self.pay((3 if b"\\U" in data else 1 if b"\\u" in data else 0) * len(data))
        return data.decode("raw-unicode-escape")
