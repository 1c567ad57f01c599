"""Metadata as plain values: checked once it is read, and written so that Mailman can read it.

Guarantees: what `checked` lets through is a tree no deeper than `MAX_DEPTH` and no larger than the
input explains, although a pickle may refer to one list a million times; so whoever walks it later
need not fear. What `write` writes, `checked` lets through.
Fails: Undecodable for what was read, Usage for what a caller wants written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from watcher.contents.values import HEADER, MAX_DIGITS, Inert
from watcher.errors import Undecodable, Usage

MAX_DEPTH = 50
MAX_VALUES = 500_000
SPARE = 10_000  # values beyond what the input's size explains
PROTOCOL = 2  # the newest that Python 2 reads
HEADER_COST = 16  # values that a character of a Header object counts as: decoding is slow


def checked(value: dict[Any, Any], size: int) -> dict[str, object]:
    """Return metadata with its objects made plain; raise Undecodable.

    `size` is that of the input in bytes, a bound for how many values it may hold.
    """
    tree = _Tree(min(size + SPARE, MAX_VALUES))
    found: dict[str, object] = {}
    for key, item in value.items():
        name = key if type(key) is str else _key(key)
        if name in found:
            raise Undecodable(f"refused: two metadata keys that both read {name[:80]!a}")
        found[name] = item if type(item) in _LEAVES else tree.plain(item, 1)
    return found


def _key(key: object) -> str:
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    return str(key)


class _Tree:
    """One walk over a value, and how many more values it may meet."""

    __slots__ = ("headers", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.headers: dict[int, str] = {}

    def plain(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Undecodable("refused: metadata of too many values, or that refers to itself")
        kind = type(value)
        if kind in _LEAVES:
            return value
        if depth > MAX_DEPTH:
            raise Undecodable("refused: metadata nested too deeply, or into itself")
        if kind is list or kind is tuple:
            # a generator would be refused a frame of its own for each level; a list costs less
            return kind([self.plain(item, depth + 1) for item in value])
        if kind is dict:
            return {key: self.plain(item, depth + 1) for key, item in value.items()}
        if kind in (set, frozenset):
            self.left -= len(value)
            return value
        if kind is Inert and value.kind == HEADER:
            return self.header(value)
        if kind.__module__ == "datetime" or value is ...:
            return value
        raise Undecodable(f"refused: {getattr(value, 'kind', kind.__name__)} in the metadata")

    def header(self, value: Inert) -> str:
        from watcher.contents.header import header_text

        text = self.headers.get(id(value))
        if text is None:
            text = self.headers[id(value)] = header_text(value)
            self.left -= HEADER_COST * len(text)
        return text


_LEAVES = frozenset({str, bytes, int, float, bool, type(None), complex})


def write(message: bytes, metadata: Mapping[str, object]) -> bytes:
    """Return two pickles: the message as bytes, the metadata as primitives; raise Usage.

    Python 3 writes bytes in protocol 2 as `_codecs.encode(text, "latin1")`. That comes out as str
    under Python 2 (Mailman 2.1) and as bytes under Python 3 (Mailman 3), as each wants it.
    """
    import pickle

    left = [MAX_VALUES]
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise Usage(f"metadata key {key!r}: expected text")
        _check(value, key, 1, left)
    written = pickle.dumps(dict(metadata), PROTOCOL)
    try:
        checked(dict(metadata), len(written))
    except Undecodable as error:
        raise Usage(f"metadata that could not be read again: {error}") from None
    return pickle.dumps(bytes(message), PROTOCOL) + written


def _check(value: object, key: str, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if depth > MAX_DEPTH + 1 or left[0] < 0:
        raise Usage(f"metadata {key!r}: nested too deeply, or too many values")
    kind = type(value)
    if kind is list or kind is tuple:
        for item in value:  # type: ignore[attr-defined]
            _check(item, key, depth + 1, left)
    elif kind is dict:
        for name, item in value.items():  # type: ignore[attr-defined]
            if type(name) is not str:
                raise Usage(f"metadata {key!r}: expected text as the keys of a dict")
            _check(item, key, depth + 1, left)
    elif kind is int:
        if value.bit_length() >= MAX_DIGITS * 8:  # type: ignore[attr-defined]
            raise Usage(f"metadata {key!r}: a number of more than {MAX_DIGITS} bytes")
    elif kind not in (str, bytes, float, bool, type(None)):
        raise Usage(
            f"metadata {key!r}: expected None, bool, int, float, str, bytes, or lists, tuples and"
            f" dicts of these; got {kind.__name__}"
        )
