"""A reader of the ASCII form of Mailman 2.1.0 to 2.1.4: one line `key = repr(value)` for each key.

Mailman executed these lines. This parser reads what Python 2's repr writes for text, numbers, None,
booleans, tuples, lists and dicts, and nothing else: no name, no call, no operator.
`ast.literal_eval` cannot replace it. It takes 750 MB for 1.6 MB of short lists, and 15 s for 45,000
keys of one hash (1.2 MB). It raises MemoryError, which means a shortage, for a repeated "-".
Guarantees: `budget` and `MAX_SIZE` bound the memory, `MAX_VALUES` the time, to about 3 s.
Fails: Undecodable, with the reason and the line; no other exception, whatever the input.
"""

from __future__ import annotations

import io
import re
from typing import Any

from watcher.errors import Undecodable
from watcher.mailman.budget import DICT, ENTRY, LIST, SLOT, Budget
from watcher.mailman.values import MAX_DIGITS, is_key, text2, unescaped

MAX_SIZE = 8 << 20  # bytes; genuine files have a few thousand
MAX_LINES = 10_000
MAX_VALUES = 1_000_000  # twice what metadata may hold
MAX_DEPTH = 50
_LINE = re.compile(rb"([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_TOKEN = re.compile(
    rb"""[ \t]*(?:
        (?P<text>[uU]?(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"))
      | (?P<float>-?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?)
      | (?P<int>-?\d+)[lL]?
      | (?P<word>None|True|False)\b
      | (?P<mark>[][(){},:])
    )[ \t]*""",
    re.VERBOSE,
)
_WORDS = {b"None": None, b"True": True, b"False": False}
_UNICODE = re.compile(rb"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{2}|[^uUxN0-9])")
_END = {b"(": b")", b"[": b"]", b"{": b"}"}


def read(data: bytes) -> dict[str, object]:
    """Return the metadata that the lines hold; raise Undecodable."""
    found: dict[str, object] = {}
    if len(data) > MAX_SIZE:
        raise Undecodable(f"refused: {len(data)} bytes of metadata in the ASCII form")
    count = data.count(b"\n") + 1
    if count > MAX_LINES:
        raise Undecodable(f"refused: {count} lines of metadata")
    limits = _Limits(len(data))
    for number, line in enumerate(data.split(b"\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(b"#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise Undecodable(f"line {number} of the metadata is not `key = value`")
        try:
            found[match[1].decode("ascii")] = _Parser(match[2], limits).whole()
        except (Undecodable, ValueError, OverflowError, RecursionError) as error:
            raise Undecodable(f"line {number} of the metadata: {error}") from None
    return found


class _Limits(Budget):
    """The limits for all lines of a file together."""

    __slots__ = ("values",)

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.values = MAX_VALUES

    def value(self) -> None:
        """Count one more value."""
        self.values -= 1
        if self.values < 0:
            raise Undecodable(f"refused: more than {MAX_VALUES} values")


class _Parser:
    """Parses the value in `source`, one token at a time."""

    def __init__(self, source: bytes, limits: _Limits) -> None:
        self.source = source
        self.limits = limits
        self.position = 0
        self.next()

    def next(self) -> None:
        """Read the next token into `kind` and `text`; at the end, both are empty."""
        match = _TOKEN.match(self.source, self.position)
        if match is None:
            if self.position != len(self.source):
                raise Undecodable(f"no literal at column {self.position} of the value")
            self.kind, self.text = "", b""
            return
        self.kind = match.lastgroup or ""
        self.text = match[self.kind]
        self.position = match.end()

    def take(self, mark: bytes) -> bool:
        """Skip a mark if it is the next token; return whether it was."""
        if self.kind != "mark" or self.text != mark:
            return False
        self.next()
        return True

    def need(self, mark: bytes) -> None:
        if not self.take(mark):
            raise Undecodable(f"{mark.decode()} expected before column {self.position}")

    def whole(self) -> Any:
        value = self.value(0)
        if self.kind:
            raise Undecodable(f"more than one value before column {self.position}")
        return value

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise Undecodable(f"nested deeper than {MAX_DEPTH}")
        self.limits.value()
        kind, text = self.kind, self.text
        if kind == "mark" and text in _END:
            self.next()
            return self.dict(depth + 1) if text == b"{" else self.items(text, depth + 1)
        self.next()
        if kind == "text":
            return _string(text)
        if kind == "int":
            return _integer(text)
        if kind == "float":
            return _float(text)
        if kind == "word":
            return _WORDS[text]
        raise Undecodable(f"no value before column {self.position}")

    def items(self, opened: bytes, depth: int) -> Any:
        items: list[Any] = []
        comma = True
        self.limits.pay(LIST)
        while not self.take(_END[opened]):
            if not comma:
                self.need(b",")  # raises
            self.limits.pay(2 * SLOT)  # the tuple is made from a list: both exist for a moment
            items.append(self.value(depth))
            comma = self.take(b",")
        if opened == b"[":
            return items
        return items[0] if len(items) == 1 and not comma else tuple(items)

    def dict(self, depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        comma = True
        self.limits.pay(DICT + ENTRY)
        while not self.take(b"}"):
            if not comma:
                self.need(b",")
            key = self.value(depth)
            if not is_key(key, len(made)):
                raise Undecodable("refused: a key that is neither text nor number")
            self.need(b":")
            self.limits.pay(ENTRY)
            made[key] = self.value(depth)
            comma = self.take(b",")
        return made


def _float(text: bytes) -> float:
    if len(text) > MAX_DIGITS:
        raise Undecodable(f"refused: a number of {len(text)} digits")
    return float(text)


def _integer(text: bytes) -> int:
    if len(text) > MAX_DIGITS:
        raise Undecodable(f"refused: a number of {len(text)} digits")
    if text.lstrip(b"-")[:1] == b"0" and text.strip(b"-0"):
        raise Undecodable("refused: a number that begins with 0")  # Python 2 would read it as octal
    return int(text)


def _string(text: bytes) -> str | bytes:
    if text[:1] not in b"uU":
        return text2(unescaped(text[1:-1]))
    inside = text[2:-1]
    if b"\\" not in inside:
        return inside.decode("latin-1")
    return _characters(inside)


def _characters(inside: bytes) -> str:
    made = io.StringIO()  # a list of the pieces would take thirty times their length
    start = 0
    for match in _UNICODE.finditer(inside):
        made.write(_between(inside[start : match.start()]))
        escape, start = match[1], match.end()
        if escape[:1] in b"uUx":
            made.write(chr(int(escape[1:], 16)))
        else:
            made.write(unescaped(match[0]).decode("latin-1"))
    made.write(_between(inside[start:]))
    return made.getvalue()


def _between(piece: bytes) -> str:
    if b"\\" in piece:
        raise Undecodable("an escape that Python 2 does not write")
    return piece.decode("latin-1")
