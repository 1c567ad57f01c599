"""From an inert message object to the message's bytes.

A message of Python 3 (Mailman 3) is built anew as an `email.message.Message` out of checked text
and flattened by the standard library, which gives what Mailman's own `as_bytes()` gives. A message
of Python 2 (Mailman 2.1) is written here: its headers as they are, not folded anew, and its body
by the rules of Python 2's generator, which Python 3's does not share.
Guarantees: only text and bytes of the object reach the message; the size of what is written is
bounded by `MAX_GROWTH` times the input's, however often an object refers to its parts.
Fails: Undecodable; no other exception, whatever the object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from watcher.contents.values import CHARSET, HEADER, MESSAGE, Inert
from watcher.errors import Undecodable

if TYPE_CHECKING:
    from email.generator import BytesGenerator
    from email.header import Header
    from email.message import Message

MAX_DEPTH = 60  # of parts within parts
MAX_PARTS = 10_000
_FROM = re.compile(rb"^From ", re.MULTILINE)


def render(value: Any) -> bytes:
    """Return the bytes of a message: plain text or bytes as they are, an object rendered."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if not isinstance(value, Inert) or value.kind != MESSAGE:
        raise Undecodable(f"not a message: the first pickle holds a {type(value).__name__}")
    try:
        _count_parts(value)
        return _flatten3(value) if "policy" in value.state else _Writer2(value).write()
    except Undecodable:
        raise
    except RecursionError:
        raise Undecodable("refused: a message nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - the email package raises what it likes
        raise Undecodable(f"damaged message: {type(error).__name__}: {error}") from None


def header_text(header: Inert) -> str:
    """Return the text of an inert email Header; raises Undecodable."""
    try:
        return str(_header(header))
    except Undecodable:
        raise
    except Exception as error:  # noqa: BLE001 - the email package raises what it likes
        raise Undecodable(f"damaged header: {type(error).__name__}: {error}") from None


def _count_parts(message: Inert) -> None:
    """Refuse a message whose parts refer to each other so that it would be endless."""
    waiting, parts = [(message, 0)], 0
    while waiting:
        part, depth = waiting.pop()
        parts += 1
        if parts > MAX_PARTS or depth > MAX_DEPTH:
            raise Undecodable("refused: a message of too many parts, or nested too deeply")
        waiting += [(child, depth + 1) for child in _parts(part)]


def _parts(message: Inert) -> list[Inert]:
    payload = message.state.get("_payload")
    if not isinstance(payload, list):
        return []
    for part in payload:
        if not isinstance(part, Inert) or part.kind != MESSAGE:
            raise Undecodable("damaged message: a part that is no message")
    return payload


def _headers(message: Inert) -> Iterator[tuple[Any, Any]]:
    headers = message.state.get("_headers", [])
    if not isinstance(headers, list):
        raise Undecodable("damaged message: its headers are no list")
    for item in headers:
        if not isinstance(item, tuple | list) or len(item) != 2:  # noqa: PLR2004
            raise Undecodable("damaged message: a header that is no pair")
        yield item[0], item[1]


def _text(value: Any, what: str) -> str:
    """Return text of Python 3 for text or bytes of either Python; bytes as surrogate escapes."""
    if isinstance(value, bytes):
        return value.decode("ascii", "surrogateescape")
    if isinstance(value, str):
        return value
    raise Undecodable(f"damaged message: {what} is no text")


# -- Python 3 -----------------------------------------------------------------------------------


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
    """Return the standard generator, but for inventing the same boundary each time.

    The standard one draws it; then every attempt would show a handler another message.
    """
    from email.generator import BytesGenerator

    class Stable(BytesGenerator):
        @classmethod
        def _make_boundary(cls, text: bytes | None = None) -> str:
            return _invented(text or b"").decode()

    return Stable


def _build3(source: Inert) -> Message:
    from email.message import Message

    message: Any = Message()
    for name, value in _headers(source):
        message._headers.append(  # noqa: SLF001 - appending keeps what __setitem__ would refuse
            (_text(name, "a header's name"), _value3(value))
        )
    parts = _parts(source)
    payload = source.state.get("_payload")
    if parts or isinstance(payload, list):
        message._payload = [_build3(part) for part in parts]  # noqa: SLF001
    elif payload is not None:
        message._payload = _text(payload, "the body")  # noqa: SLF001
    for key in ("preamble", "epilogue"):
        if source.state.get(key) is not None:
            setattr(message, key, _text(source.state[key], key))
    default = source.state.get("_default_type")
    if default is not None:
        message.set_default_type(_text(default, "the default type"))
    return message  # type: ignore[no-any-return]


def _value3(value: Any) -> str | Header:
    if isinstance(value, Inert) and value.kind == HEADER:
        return _header(value)
    return _text(value, "a header's value")


def _header(source: Inert) -> Header:
    """Build a Header out of an inert one's chunks of text and charset."""
    from email.header import Header

    state = source.state
    header: Any = Header(continuation_ws=_text(state.get("_continuation_ws", " "), "white space"))
    for key in ("_maxlinelen", "_headerlen"):
        if isinstance(state.get(key), int):
            setattr(header, key, state[key])
    chunks = state.get("_chunks", [])
    if not isinstance(chunks, list):
        raise Undecodable("damaged header: its chunks are no list")
    for chunk in chunks:
        if not isinstance(chunk, tuple | list) or len(chunk) != 2:  # noqa: PLR2004
            raise Undecodable("damaged header: a chunk that is no pair")
        text, charset = chunk
        header.append(
            text if isinstance(text, bytes) else _text(text, "a chunk"), _charset(charset)
        )
    return header  # type: ignore[no-any-return]


def _charset(source: Any) -> str:
    name = source.state.get("input_charset") if isinstance(source, Inert) else source
    if isinstance(source, Inert) and source.kind != CHARSET:
        raise Undecodable("damaged header: a charset that is none")
    return _text(name, "a charset's name")


# -- Python 2 -----------------------------------------------------------------------------------


class _Writer2:
    """Writes one message, or one part, as Python 2's generator did."""

    def __init__(self, message: Inert) -> None:
        self.message = message
        self.lines: list[bytes] = []

    def write(self) -> bytes:
        for name, value in _headers(self.message):
            self.lines.append(
                _bytes(_text(name, "a header's name")) + b": " + _value2(value) + b"\n"
            )
        self.lines.append(b"\n")
        self._body()
        return b"".join(self.lines)

    def _body(self) -> None:
        payload = self.message.state.get("_payload")
        main, sub, boundary = self._content_type()
        if not isinstance(payload, list):
            if payload is not None:
                self.lines.append(_mangled(_bytes(_text(payload, "the body"))))
        elif main == "message" and sub == "delivery-status":
            blocks = (_Writer2(part).write() for part in _parts(self.message))
            self.lines.append(b"\n".join(block.removesuffix(b"\n") for block in blocks))
        elif main == "message":
            self.lines += [_Writer2(part).write() for part in _parts(self.message)[:1]]
        else:
            self._multipart(boundary)

    def _content_type(self) -> tuple[str, str, str | None]:
        """Return main type, subtype and boundary, as the email package reads them."""
        from email.message import Message

        probe = Message()
        for name, value in _headers(self.message):
            if _text(name, "a header's name").lower() == "content-type":
                probe["Content-Type"] = _value2(value).decode("latin-1").replace("\n", " ")
                break
        else:
            default = self.message.state.get("_default_type")
            probe["Content-Type"] = default if isinstance(default, str) else "text/plain"
        return probe.get_content_maintype(), probe.get_content_subtype(), probe.get_boundary()

    def _multipart(self, boundary: str | None) -> None:
        state = self.message.state
        parts = [_Writer2(part).write() for part in _parts(self.message)]
        mark = _bytes(boundary) if boundary is not None else _invented(b"".join(parts))
        if boundary is None:
            self._announce(mark)
        old = _version(state) < (3,)  # Python 2.3's package: a line break only where none is
        if state.get("preamble") is not None:
            preamble = _mangled(_bytes(_text(state["preamble"], "preamble")))
            self.lines += [preamble, b"" if old and preamble[-1:] in b"\n" else b"\n"]
        self.lines.append(b"--" + mark + b"\n")
        self.lines.append((b"\n--" + mark + b"\n").join(parts))
        self.lines.append(b"\n--" + mark + b"--")
        epilogue = state.get("epilogue")
        if epilogue is None:
            self.lines.append(b"" if old else b"\n")
        else:
            text = _mangled(_bytes(_text(epilogue, "epilogue")))
            self.lines += [b"" if old and text.startswith(b"\n") else b"\n", text]

    def _announce(self, mark: bytes) -> None:
        """Add an invented boundary to the Content-Type header that has been written."""
        for index, line in enumerate(self.lines):
            if line.lower().startswith(b"content-type:"):
                self.lines[index] = line[:-1] + b'; boundary="' + mark + b'"\n'
                return
        self.lines.insert(
            len(self.lines) - 1, b'Content-Type: multipart/mixed; boundary="' + mark + b'"\n'
        )


def _version(state: dict[str, Any]) -> tuple[int, ...]:
    """Return the version of the email package that made an object; Mailman noted it."""
    version = state.get("__version__")
    if isinstance(version, tuple) and all(isinstance(number, int) for number in version):
        return version
    return (4,)


def _bytes(text: str) -> bytes:
    try:
        return text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def _mangled(text: bytes) -> bytes:
    return _FROM.sub(b">From ", text)


def _value2(value: Any) -> bytes:
    if isinstance(value, Inert) and value.kind == HEADER:
        return _bytes(_header(value).encode(maxlinelen=0))
    return _bytes(_text(value, "a header's value"))


def _invented(text: bytes) -> bytes:
    """Return a boundary that the text does not hold, the same each time; as Python's look."""
    import hashlib

    mark = text
    while True:
        mark = hashlib.sha256(mark).digest()
        boundary = b"=" * 15 + b"%019d" % (int.from_bytes(mark, "big") % 10**19) + b"=="
        if boundary not in text:
            return boundary
