"""Metadata as plain values: checked after it is read, and written so that Mailman can read it.

Guarantees: `checked` returns a tree that is at most `MAX_DEPTH` deep. The input's size bounds the
tree's size, although a pickle may refer to one list a million times. So later code can walk it
safely. `checked` accepts what `write` writes.
Fails: `checked` raises Undecodable; `write` raises Usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from watcher.errors import Undecodable, Usage
from watcher.mailman.values import HEADER, MAX_DIGITS, MAX_KEY, Inert

MAX_DEPTH = 50
MAX_VALUES = 500_000
SPARE = 10_000  # values that any input may have
SMALL = 32_000  # bytes; larger metadata is read back after it was written
PROTOCOL = 2  # the newest that Python 2 reads
HEADER_COST = 16  # how many values a character of a Header object counts for: decoding is slow


def checked(value: dict[Any, Any], size: int) -> dict[str, object]:
    """Return metadata with its objects made plain; raise Undecodable.

    `size` is the size of the input in bytes; it bounds the number of values.
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
    try:
        text = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
    except ValueError:  # more digits than this interpreter converts (sys.set_int_max_str_digits)
        raise Undecodable("refused: a metadata key that is a number of too many digits") from None
    if len(text) > MAX_KEY:
        raise Undecodable(f"refused: a metadata key of {len(text)} characters")
    return text


class _Tree:
    """One walk over a value, and how many more values it may visit."""

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
            # a list, because a generator takes one more frame for each level
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
        from watcher.mailman.header import header_text

        text = self.headers.get(id(value))
        if text is None:
            text = self.headers[id(value)] = header_text(value)
            chunks = value.state.get("_chunks", ())
            self.left -= HEADER_COST * (len(text) + len(chunks))
        return text


_LEAVES = frozenset({str, bytes, int, float, bool, type(None), complex})


def write(message: bytes, metadata: Mapping[str, object]) -> bytes:
    """Return two pickles: the message as bytes, the metadata as primitives; raise Usage.

    The reader accepts what is written. It accepts all small metadata of exactly these types with
    short keys and numbers; larger metadata is read back to see that it does.

    Python 3 writes bytes in protocol 2 as `_codecs.encode(text, "latin1")`. Python 2
    (Mailman 2.1) reads that as str and Python 3 (Mailman 3) as bytes, and each needs that.
    """
    import pickle

    left = [MAX_VALUES]
    for key, value in metadata.items():
        _check_key(key, f"metadata key {key!a:.200}")
        _check(value, key, 1, left)
    written = pickle.dumps(dict(metadata), PROTOCOL)
    try:
        checked(_read_back(written) if len(written) > SMALL else dict(metadata), len(written))
    except Undecodable as error:
        raise Usage(f"metadata that could not be read again: {error}") from None
    return pickle.dumps(bytes(message), PROTOCOL) + written


def _read_back(written: bytes) -> Any:
    from watcher.mailman import pickled

    return pickled.read(written)[0]


def _check_key(key: object, where: str) -> None:
    if type(key) is not str:  # an enum's member would be an object, which the reader refuses
        raise Usage(f"{where}: expected text, and not a class derived from it")
    if len(key) > MAX_KEY:
        raise Usage(f"{where}: more than {MAX_KEY} characters")


def _check(value: object, key: str, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if depth > MAX_DEPTH + 1 or left[0] < 0:
        raise Usage(f"metadata {key!a:.200}: nested too deeply, or too many values")
    kind = type(value)
    if kind is list or kind is tuple:
        for item in value:  # type: ignore[attr-defined]
            _check(item, key, depth + 1, left)
    elif kind is dict:
        for name, item in value.items():  # type: ignore[attr-defined]
            _check_key(name, f"metadata {key!a:.200}, a key of a dict in it")
            _check(item, key, depth + 1, left)
    elif kind is int:
        if value.bit_length() >= MAX_DIGITS * 8:  # type: ignore[attr-defined]
            raise Usage(f"metadata {key!a:.200}: a number of more than {MAX_DIGITS} bytes")
    elif kind not in (str, bytes, float, bool, type(None)):
        raise Usage(
            f"metadata {key!a:.200}: expected None, bool, int, float, str, bytes, or lists, tuples"
            f" and dicts of these; got {kind.__name__}"
        )
