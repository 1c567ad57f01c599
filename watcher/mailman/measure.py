"""Computes the cost of rendering a message object before anything is rendered.

Guarantees: it refuses a message that is more than `EXTRA` bytes larger than its input, one that
takes more than about a second plus a second a MB of input, and one whose parts contain each other.
The costs were measured on the standard library's email package; some of its steps take quadratic
time.
Fails: Undecodable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from watcher.errors import Undecodable
from watcher.mailman.header import as_text, chunks_of, is_charset, is_header
from watcher.mailman.values import MESSAGE, Inert

MAX_DEPTH = 60  # of parts within parts
MAX_PARTS = 10_000
MAX_TYPE = 8_192  # characters of a Content-Type
MAX_HEADER = 1 << 20  # characters of one header
EXTRA = 64 << 20  # bytes that a message may have beyond its input's size

# Costs are in units of about 250 ns; each byte of the input allows GROWTH units.
GROWTH = 4
SPARE = 1 << 20  # units that any input may use: a quarter of a second
PART, HEADER, CHUNK = 100, 80, 32
FOLDED = 4  # for a character of a header that is folded again
ENCODED = 16  # for a character of a Header object
# These steps take quadratic time: the product of two counts is divided by these numbers.
LINES = 256  # lines of a header without white space in front, times all characters after them
PARAMETERS = 128  # semicolons of a Content-Type, times all characters before them
UNFOLDED = 8  # characters of a Header object that becomes one line, times those before them

_BARE = re.compile(r"[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029](?=[^ \t])")
_BOUNDARY_CHARSET = re.compile(r"boundary\*[0-9*]*\s*=\s*\"?([^'\";]*)'", re.IGNORECASE)


def measured(message: Inert, size: int) -> None:
    """Raise Undecodable for a message that is endless, too large or too slow to write.

    `size` is the size of its input in bytes.
    """
    allowance, room = GROWTH * size + SPARE, size + EXTRA
    folded = "policy" in message.state
    waiting, parts = [(message, 0)], 0
    while waiting:
        part, depth = waiting.pop()
        parts += 1
        if parts > MAX_PARTS or depth > MAX_DEPTH:
            raise Undecodable("refused: a message of too many parts, or nested too deeply")
        for length, cost in _costs(part, folded=folded):
            room -= length
            allowance -= cost
            if allowance < 0 or room < 0:
                raise Undecodable(
                    "refused: a message that repeats its own parts too often, or takes too long"
                )
        waiting += [(child, depth + 1) for child in parts_of(part)]


def _costs(part: Inert, *, folded: bool) -> Iterator[tuple[int, int]]:
    """Yield for each piece of a part its length in the message (bytes) and its cost (units)."""
    for key in ("_payload", "preamble", "epilogue"):
        text = part.state.get(key)
        if isinstance(text, str | bytes):
            yield len(text), len(text)
        elif isinstance(text, list):
            yield 0, PART * len(text)
    default = part.state.get("_default_type")
    if isinstance(default, str):
        yield 0, _of_type(default)
    for name, value in headers_of(part):
        called = as_text(name, "a header's name")
        yield len(called), HEADER + len(called)
        if is_header(value):
            chunks = chunks_of(value)
            texts = [as_text(text, "a chunk") for text, _ in chunks]
            yield sum(map(len, texts)), CHUNK * len(chunks) + _of_object(texts, folded=folded)
            if called.lower() == "content-type":
                yield 0, _of_type("".join(texts))
            continue
        text = as_text(value, "a header's value")
        yield len(text), _of_header(text) if folded else len(text)
        if called.lower() == "content-type":
            yield 0, _of_type(text)


def _of_header(text: str) -> int:
    if len(text) > MAX_HEADER:
        raise Undecodable(f"refused: a header of {len(text)} characters")
    return FOLDED * len(text) + len(_BARE.findall(text)) * len(text) // LINES


def _of_object(texts: list[str], *, folded: bool) -> int:
    length = sum(map(len, texts))
    if not folded:
        return ENCODED * length + length * length // UNFOLDED
    bare = sum(len(_BARE.findall(text)) for text in texts)
    return ENCODED * length + bare * length // LINES


def _of_type(text: str) -> int:
    if len(text) > MAX_TYPE:
        raise Undecodable(f"refused: a Content-Type of {len(text)} characters")
    for charset in _BOUNDARY_CHARSET.findall(text):
        if charset and not is_charset(charset):
            raise Undecodable(f"refused: {charset[:40]!a} is not a charset of mail")
    return len(text) + text.count(";") * len(text) // PARAMETERS


def parts_of(message: Inert) -> list[Inert]:
    """Return the parts of a message or of a part; raise Undecodable."""
    payload = message.state.get("_payload")
    if not isinstance(payload, list):
        return []
    for part in payload:
        if not isinstance(part, Inert) or part.kind != MESSAGE:
            raise Undecodable("damaged message: a part that is not a message")
    return payload


def headers_of(message: Inert) -> Iterator[tuple[Any, Any]]:
    """Yield name and value of each header as the pickle has them; raise Undecodable."""
    headers = message.state.get("_headers", [])
    if not isinstance(headers, list):
        raise Undecodable("damaged message: its headers are not a list")
    for item in headers:
        if not isinstance(item, tuple | list) or len(item) != 2:  # noqa: PLR2004
            raise Undecodable("damaged message: a header that is not a pair")
        yield item[0], item[1]
