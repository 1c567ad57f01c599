"""Metadata as plain values: checked once it is read, written for Mailman, shown as JSON.

Guarantees: what `checked` lets through is a tree no deeper than `MAX_DEPTH` and not much larger
than the input, although a pickle may refer to one list a million times; so whoever walks it later
need not fear.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from watcher.contents.values import HEADER, Inert
from watcher.errors import Undecodable, Usage

MAX_DEPTH = 50
SPARE = 10_000  # values beyond what the input's size explains
PROTOCOL = 2  # the newest that Python 2 reads


def checked(value: dict[Any, Any], size: int) -> dict[str, object]:
    """Return metadata with its objects made plain; raise Undecodable.

    `size` is that of the input in bytes, a bound for how many values it may hold.
    """
    budget = [size + SPARE]
    return {_key(key): _plain(item, budget, 1) for key, item in value.items()}


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    return str(key)


def _plain(value: Any, budget: list[int], depth: int) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        budget[0] -= 1
        if budget[0] < 0:
            raise Undecodable("refused: metadata that refers to its own parts too often")
        return value
    budget[0] -= 1
    if depth > MAX_DEPTH or budget[0] < 0:
        raise Undecodable("refused: metadata nested too deeply, or into itself")
    if kind is list:
        return [_plain(item, budget, depth + 1) for item in value]
    if kind is tuple:
        return tuple([_plain(item, budget, depth + 1) for item in value])
    if kind is dict:
        return {key: _plain(item, budget, depth + 1) for key, item in value.items()}
    if kind in (set, frozenset):
        budget[0] -= len(value)
        return value
    if kind is Inert and value.kind == HEADER:
        from watcher.contents.message import header_text

        return header_text(value)
    if kind.__module__ == "datetime" or value is ...:
        return value
    raise Undecodable(f"refused: {getattr(value, 'kind', kind.__name__)} in the metadata")


_LEAVES = frozenset({str, bytes, int, float, bool, type(None), complex})


def write(message: bytes, metadata: Mapping[str, object]) -> bytes:
    """Return two pickles: the message as bytes, the metadata as primitives; raise Usage."""
    import pickle

    for key, value in metadata.items():
        if not isinstance(key, str):
            raise Usage(f"metadata key {key!r}: expected text")
        _check(value, key, 0)
    return _pickled_bytes(message) + pickle.dumps(dict(metadata), PROTOCOL)


def _pickled_bytes(data: bytes) -> bytes:
    """Pickle as Python 2's str, which Python 3's pickle has no way to write in protocol 2.

    Mailman 2.1 gets its str; Mailman 3 and everyone on Python 3 get it as _codecs.encode() of
    text, so bytes again.
    """
    import pickle

    return pickle.dumps(bytes(data), PROTOCOL)


def _check(value: object, key: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Usage(f"metadata {key!r}: nested too deeply")
    if isinstance(value, list | tuple):
        for item in value:
            _check(item, key, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise Usage(f"metadata {key!r}: expected text as the keys of a dict")
            _check(item, key, depth + 1)
    elif type(value) not in (str, bytes, int, float, bool, type(None)):
        raise Usage(
            f"metadata {key!r}: expected None, bool, int, float, str, bytes, or lists, tuples and"
            f" dicts of these; got {type(value).__name__}"
        )


def to_json(metadata: Mapping[str, object]) -> str:
    """Return one line of JSON; raises Undecodable for numbers no JSON writer can write."""
    try:
        return json.dumps({key: _jsonable(value) for key, value in metadata.items()})
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"metadata that JSON cannot hold: {error}") from None


def _jsonable(value: Any) -> Any:
    return _JSON.get(type(value), str)(value)


def _float(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": str(value)}


def _bytes(value: bytes) -> Any:
    return value.decode() if value.isascii() else {"$bytes_b64": base64.b64encode(value).decode()}


def _list(value: Iterable[Any]) -> list[Any]:
    return [_jsonable(item) for item in value]


def _sorted(value: Iterable[Any]) -> list[Any]:
    return sorted(_list(value), key=str)


def _object(value: dict[Any, Any]) -> Any:
    names = {key if isinstance(key, str) else str(_jsonable(key)) for key in value}
    if len(names) == len(value):
        return {
            key if isinstance(key, str) else str(_jsonable(key)): _jsonable(item)
            for key, item in value.items()
        }
    return {"$dict": [[_jsonable(key), _jsonable(item)] for key, item in value.items()]}


_JSON: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((str, int, bool, type(None)), lambda value: value),
    float: _float,
    bytes: _bytes,
    list: _list,
    tuple: _list,
    set: _sorted,
    frozenset: _sorted,
    dict: _object,
    dt.datetime: dt.datetime.isoformat,
    dt.timedelta: dt.timedelta.total_seconds,
}
