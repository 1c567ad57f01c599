"""From an inert message object to the message's bytes.

A message of Python 3 (Mailman 3) is built anew as an `email.message.Message` out of checked text
and flattened by the standard library, which gives what Mailman's own `as_bytes()` gives. One of
Python 2 (Mailman 2.1) is written by `generator2`.
Guarantees: only text and bytes of the object reach the message; what is written is bounded by
`GROWTH` times the input's size, however often an object refers to its parts.
Fails: Undecodable; no other exception, whatever the object, but where the machine is short of
memory or descriptors: that says nothing about the message, and must not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from watcher.contents.header import as_text, chunks_of, header_of, is_header
from watcher.contents.values import MESSAGE, Inert
from watcher.errors import Undecodable

if TYPE_CHECKING:
    from email.generator import BytesGenerator
    from email.header import Header
    from email.message import Message

MAX_DEPTH = 60  # of parts within parts
MAX_PARTS = 10_000
MAX_TYPE = 8_192  # characters of a Content-Type, which the email package takes apart slowly
GROWTH = 4  # times the input's size that the message may have
SPARE = 1 << 16  # and so much more, so that small inputs need not count
PART_COST, HEADER_COST = 100, 8  # bytes that a part and a header count as, beside their text
SLOWNESS = 16  # bytes that a character of a Header object counts as: encoding is slow


def render(value: Any, size: int) -> bytes:
    """Return the bytes of a message: plain text or bytes as they are, an object rendered.

    `size` is the input's in bytes, a bound for what may come out.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _encoded(value)
    if not isinstance(value, Inert) or value.kind != MESSAGE:
        raise Undecodable(f"not a message: the first pickle holds a {type(value).__name__}")
    try:
        _measure(value, GROWTH * size + SPARE)
        if "policy" in value.state:
            return _flatten3(value)
        from watcher.contents.generator2 import written

        return written(value)
    except (Undecodable, OSError, ImportError, MemoryError):
        raise
    except RecursionError:
        raise Undecodable("refused: a message nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - the email package raises what it likes
        raise Undecodable(f"damaged message: {type(error).__name__}: {error!a:.200}") from None


def _encoded(text: str) -> bytes:
    """Return text as bytes; what was bytes that are no text comes back as it was."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise Undecodable(f"damaged message: no character at {error.start}") from None


def _measure(message: Inert, allowance: int) -> None:
    """Refuse a message whose parts refer to each other so that it would be endless or huge."""
    waiting, parts = [(message, 0)], 0
    while waiting:
        part, depth = waiting.pop()
        parts += 1
        if parts > MAX_PARTS or depth > MAX_DEPTH:
            raise Undecodable("refused: a message of too many parts, or nested too deeply")
        for cost in _costs(part):
            allowance -= cost
            if allowance < 0:
                raise Undecodable("refused: a message that repeats its own parts too often")
        waiting += [(child, depth + 1) for child in parts_of(part)]


def _costs(part: Inert) -> Iterator[int]:
    for key in ("_payload", "preamble", "epilogue"):
        text = part.state.get(key)
        if isinstance(text, str | bytes):
            yield len(text)
        elif isinstance(text, list):
            yield PART_COST * len(text)
    for name, value in headers_of(part):
        yield HEADER_COST + len(as_text(name, "a header's name"))
        if is_header(value):
            yield SLOWNESS * sum(len(text) for text, _ in chunks_of(value))
            continue
        length = len(as_text(value, "a header's value"))
        if length > MAX_TYPE and as_text(name, "a header's name").lower() == "content-type":
            raise Undecodable(f"refused: a Content-Type of {length} characters")
        yield length


def parts_of(message: Inert) -> list[Inert]:
    """Return the parts that a message or a part is made of."""
    payload = message.state.get("_payload")
    if not isinstance(payload, list):
        return []
    for part in payload:
        if not isinstance(part, Inert) or part.kind != MESSAGE:
            raise Undecodable("damaged message: a part that is no message")
    return payload


def headers_of(message: Inert) -> Iterator[tuple[Any, Any]]:
    """Yield name and value of each header as the pickle has them."""
    headers = message.state.get("_headers", [])
    if not isinstance(headers, list):
        raise Undecodable("damaged message: its headers are no list")
    for item in headers:
        if not isinstance(item, tuple | list) or len(item) != 2:  # noqa: PLR2004
            raise Undecodable("damaged message: a header that is no pair")
        yield item[0], item[1]


def invented(text: bytes) -> bytes:
    """Return a boundary that the text does not hold, the same each time; as Python's look.

    Python's own draws it; then every attempt would show a handler another message.
    """
    import hashlib

    mark = text
    while True:
        mark = hashlib.sha256(mark).digest()
        boundary = b"=" * 15 + b"%019d" % (int.from_bytes(mark, "big") % 10**19) + b"=="
        if boundary not in text:
            return boundary


def _flatten3(message: Inert) -> bytes:
    from email.policy import compat32
    from io import BytesIO

    # what was stored is to come out, also where later Pythons would refuse to write it
    policy = compat32
    if hasattr(policy, "verify_generated_headers"):
        policy = policy.clone(verify_generated_headers=False)
    out = BytesIO()
    _generator()(out, mangle_from_=False, policy=policy).flatten(_build3(message))
    return out.getvalue()


def _generator() -> type[BytesGenerator]:
    """Return the standard generator, but for inventing the same boundary each time."""
    from email.generator import BytesGenerator

    class Stable(BytesGenerator):
        @classmethod
        def _make_boundary(cls, text: bytes | None = None) -> str:
            return invented(text or b"").decode()

    return Stable


def _build3(source: Inert) -> Message:
    from email.message import Message

    message: Any = Message()
    for name, value in headers_of(source):
        message._headers.append(  # noqa: SLF001 - appending keeps what __setitem__ would refuse
            (as_text(name, "a header's name"), _value3(value))
        )
    payload = source.state.get("_payload")
    if isinstance(payload, list):
        message._payload = [_build3(part) for part in parts_of(source)]  # noqa: SLF001
    elif payload is not None:
        message._payload = as_text(payload, "the body")  # noqa: SLF001
    for key in ("preamble", "epilogue"):
        if source.state.get(key) is not None:
            setattr(message, key, as_text(source.state[key], key))
    default = source.state.get("_default_type")
    if default is not None:
        message.set_default_type(as_text(default, "the default type"))
    return message  # type: ignore[no-any-return]


def _value3(value: Any) -> str | Header:
    return header_of(value) if is_header(value) else as_text(value, "a header's value")
