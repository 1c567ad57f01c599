"""Renders an inert message object as the message's bytes.

For a message of Python 3 (Mailman 3) it builds an `email.message.Message` from checked text and the
standard library flattens it: the result is that of Mailman's own `as_bytes()`. `generator2` writes
a message of Python 2 (Mailman 2.1).
Guarantees: only text and bytes of the object reach the message. `measure` bounds its length and the
time to write it, however often an object refers to its parts.
Fails: Undecodable; MemoryError, OSError or ImportError if the machine is short of memory or of
descriptors, which says nothing about the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from watcher.errors import Undecodable
from watcher.mailman.boundary import invented
from watcher.mailman.header import as_text, header_of, is_header
from watcher.mailman.measure import headers_of, measured, parts_of
from watcher.mailman.values import MESSAGE, Inert

if TYPE_CHECKING:
    from email.generator import BytesGenerator
    from email.header import Header
    from email.message import Message


def render(value: Any, size: int) -> bytes:
    """Return the bytes of a message: of text, of bytes, or of an inert object; raise Undecodable.

    `size` is the size of the input in bytes; it bounds the result.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _encoded(value)
    if not isinstance(value, Inert) or value.kind != MESSAGE:
        raise Undecodable(f"not a message: the first pickle holds a {type(value).__name__}")
    try:
        measured(value, size)
        if "policy" in value.state:
            return _flatten3(value)
        from watcher.mailman.generator2 import written

        return written(value)
    except (Undecodable, OSError, ImportError, MemoryError):
        raise
    except RecursionError:
        raise Undecodable("refused: a message nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - the email package raises what it likes
        raise Undecodable(f"damaged message: {type(error).__name__}: {error!a:.200}") from None


def _encoded(text: str) -> bytes:
    """Return text as bytes; surrogate escapes become the bytes that they stand for."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise Undecodable(f"damaged message: not a character at {error.start}") from None


def _flatten3(message: Inert) -> bytes:
    from email.policy import compat32
    from io import BytesIO

    # The stored headers come out, also those that later versions of Python refuse to write.
    policy = compat32
    if hasattr(policy, "verify_generated_headers"):
        policy = policy.clone(verify_generated_headers=False)
    out = BytesIO()
    _generator()(out, mangle_from_=False, policy=policy).flatten(_build3(message))
    return out.getvalue()


def _generator() -> type[BytesGenerator]:
    """Return the standard generator with two changes.

    It invents the same boundary each time. It does not make a list of the lines of a body: for
    short lines, the list takes twenty times the body's memory.
    """
    from email.generator import BytesGenerator

    class Stable(BytesGenerator):
        @classmethod
        def _make_boundary(cls, text: bytes | None = None) -> str:
            return invented(text or b"").decode()

        def _write_lines(self, lines: str) -> None:
            self.write(lines.replace("\r\n", "\n").replace("\r", "\n"))

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
