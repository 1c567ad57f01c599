"""Metadata as one line of JSON, for handlers.

    text, numbers, true, false, null      as they are; a float that JSON lacks: {"$float": "inf"}
    list, tuple; set                      an array; sorted
    dict                                  an object; {"$dict": [[key, value], ...]} where two keys
                                          would have the same name
    bytes                                 text where ASCII, else {"$bytes_b64": "..."}
    datetime; timedelta                   ISO 8601; seconds

Guarantees: one line of ASCII, at most `MAX_LENGTH` long, even if the metadata refers to one long
text many times.
Fails: Undecodable if it would be longer, or has a number of more digits than Python converts.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from watcher.errors import Undecodable

MAX_LENGTH = 16 << 20  # characters
WIDEST = 6  # characters of JSON for one that is not ASCII: \\u20ac


def to_json(metadata: Mapping[str, object]) -> str:
    """Return one line of JSON; raise Undecodable if it is too large."""
    line = _Line()
    try:
        text = json.dumps(line.dict(dict(metadata)))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Undecodable(f"metadata that JSON cannot hold: {error}") from None
    if len(text) > MAX_LENGTH:
        raise line.too_long()
    return text


class _Line:
    """Converts the values of one line, and counts the characters that are left for it."""

    def __init__(self) -> None:
        self.left = MAX_LENGTH

    def too_long(self) -> Undecodable:
        return Undecodable(f"refused: metadata of more than {MAX_LENGTH} characters of JSON")

    def pay(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise self.too_long()

    def value(self, value: Any) -> Any:
        self.pay(2)
        return _JSON.get(type(value), _Line.other)(self, value)

    def as_is(self, value: Any) -> Any:
        return value

    def other(self, value: object) -> str:
        return self.text(str(value))

    def text(self, value: str) -> str:
        self.pay(len(value) if value.isascii() else WIDEST * len(value))
        return value

    def number(self, value: int) -> int:
        self.pay(value.bit_length() // 4)
        return value

    def float(self, value: float) -> Any:
        return value if math.isfinite(value) else {"$float": str(value)}

    def bytes(self, value: bytes) -> Any:
        self.pay(2 * len(value))
        if value.isascii():
            return value.decode()
        return {"$bytes_b64": base64.b64encode(value).decode()}

    def list(self, value: Iterable[Any]) -> Any:
        return [self.value(item) for item in value]

    def sorted(self, value: Iterable[Any]) -> Any:
        return sorted(self.list(value), key=_rank)

    def dict(self, value: Mapping[Any, Any]) -> Any:
        named = {self.name(key): key for key in value}
        if len(named) == len(value):
            return {name: self.value(value[key]) for name, key in named.items()}
        return {"$dict": [[self.value(key), self.value(item)] for key, item in value.items()]}

    def name(self, key: Any) -> str:
        if type(key) is str:
            return self.text(key)
        shown = self.value(key)
        return shown if isinstance(shown, str) else str(shown)

    def time(self, value: dt.datetime) -> str:
        return value.isoformat()

    def seconds(self, value: dt.timedelta) -> Any:
        return value.total_seconds()


def _rank(value: Any) -> tuple[bool, Any, str]:
    """Return a sort key: numbers first, by size; then all else, by its text."""
    if isinstance(value, int | float):
        return False, value, ""
    return True, 0, str(value)


_JSON: dict[type, Callable[[_Line, Any], Any]] = {
    **dict.fromkeys((bool, type(None)), _Line.as_is),
    int: _Line.number,
    str: _Line.text,
    float: _Line.float,
    bytes: _Line.bytes,
    list: _Line.list,
    tuple: _Line.list,
    set: _Line.sorted,
    frozenset: _Line.sorted,
    dict: _Line.dict,
    dt.datetime: _Line.time,
    dt.timedelta: _Line.seconds,
}
