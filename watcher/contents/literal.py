"""A reader of the ASCII form of Mailman 2.1.0 to 2.1.4: `key = repr(value)`, a line each.

Mailman executed these lines. Here a parser of our own reads what Python 2's repr writes of text,
numbers, None, booleans, tuples, lists and dicts, and nothing else: no name, no call, no operator.
Fails: Undecodable, with the reason and the line; no other exception, whatever the input.
"""

from __future__ import annotations

import re
from typing import Any

from watcher.contents.values import MAX_DIGITS, is_key, text2, unescaped
from watcher.errors import Undecodable

MAX_LINES = 10_000
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
    lines = data.split(b"\n")
    if len(lines) > MAX_LINES:
        raise Undecodable(f"refused: {len(lines)} lines of metadata")
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(b"#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise Undecodable(f"line {number} of the metadata is no `key = value`")
        try:
            found[match[1].decode("ascii")] = _Parser(match[2]).whole()
        except (Undecodable, ValueError, OverflowError, RecursionError) as error:
            raise Undecodable(f"line {number} of the metadata: {error}") from None
    return found


class _Parser:
    """A value in `source`: what it is made of, one token at a time."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.position = 0
        self.next()

    def next(self) -> None:
        """Look at the next token: `kind` and `text`; at the end, both are empty."""
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
        """Go past a mark if it is the next token."""
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
        while not self.take(_END[opened]):
            if not comma:
                self.need(b",")  # which explains what is missing
            items.append(self.value(depth))
            comma = self.take(b",")
        if opened == b"[":
            return items
        return items[0] if len(items) == 1 and not comma else tuple(items)

    def dict(self, depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        comma = True
        while not self.take(b"}"):
            if not comma:
                self.need(b",")
            key = self.value(depth)
            if not is_key(key, len(made)):
                raise Undecodable("refused: a key that is neither text nor number")
            self.need(b":")
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
        raise Undecodable("refused: a number that begins with 0")  # octal to Python 2
    return int(text)


def _string(text: bytes) -> str | bytes:
    if text[:1] not in b"uU":
        return text2(unescaped(text[1:-1]))
    inside = text[2:-1]
    if b"\\" not in inside:
        return inside.decode("latin-1")
    if _UNICODE.sub(b"", inside).count(b"\\"):
        raise Undecodable("an escape that Python 2 does not write")
    return "".join(_characters(inside))


def _characters(inside: bytes) -> list[str]:
    pieces: list[str] = []
    start = 0
    for match in _UNICODE.finditer(inside):
        pieces.append(inside[start : match.start()].decode("latin-1"))
        escape, start = match[1], match.end()
        if escape[:1] in b"uUx":
            pieces.append(chr(int(escape[1:], 16)))
        else:
            pieces.append(unescaped(match[0]).decode("latin-1"))
    pieces.append(inside[start:].decode("latin-1"))
    return pieces
