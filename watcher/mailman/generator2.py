"""Writes a message object of Python 2 by the rules of Python 2's generator, as Mailman 2.1 did.

Headers are not folded again. Bodies are written byte for byte, except that a line that begins with
`From ` gets a `>`. Python 3's generator has other rules for headers, bodies, the boundary and blank
lines, so a subclass of it that writes the same bytes is longer than this module.
Guarantees: `message.render` has bounded the length before; nothing of an object but its text and
bytes is used.
Fails: Undecodable, or what the email package raises, which `message.render` explains.
"""

from __future__ import annotations

from typing import Any

from watcher.mailman.boundary import invented
from watcher.mailman.header import as_text, header_of, is_header
from watcher.mailman.measure import headers_of, parts_of
from watcher.mailman.values import Inert


def written(message: Inert) -> bytes:
    """Return the bytes of a message or a part of it, which `message.render` has measured."""
    return _Writer(message).write()


class _Writer:
    """Writes one message, or one part."""

    def __init__(self, message: Inert) -> None:
        self.message = message
        self.lines: list[bytes] = []

    def write(self) -> bytes:
        for name, value in headers_of(self.message):
            named = _bytes(as_text(name, "a header's name"))
            self.lines.append(named + b": " + _value(value) + b"\n")
        self.lines.append(b"\n")
        self._body()
        return b"".join(self.lines)

    def _body(self) -> None:
        payload = self.message.state.get("_payload")
        main, sub, boundary = self._content_type()
        if not isinstance(payload, list):
            if payload is not None:
                self.lines.append(_mangled(_bytes(as_text(payload, "the body"))))
        elif main == "message" and sub == "delivery-status":
            blocks = (written(part) for part in parts_of(self.message))
            self.lines.append(b"\n".join(block.removesuffix(b"\n") for block in blocks))
        elif main == "message":
            self.lines += [written(part) for part in parts_of(self.message)[:1]]
        else:
            self._multipart(boundary)

    def _content_type(self) -> tuple[str, str, str | None]:
        """Return main type, subtype and boundary, as the email package reads them."""
        from email.message import Message

        probe = Message()
        for name, value in headers_of(self.message):
            if as_text(name, "a header's name").lower() == "content-type":
                probe["Content-Type"] = _value(value).decode("latin-1").replace("\n", " ")
                break
        else:
            default = self.message.state.get("_default_type")
            probe["Content-Type"] = default if isinstance(default, str) else "text/plain"
        return probe.get_content_maintype(), probe.get_content_subtype(), probe.get_boundary()

    def _multipart(self, boundary: str | None) -> None:
        state = self.message.state
        parts = [written(part) for part in parts_of(self.message)]
        mark = _bytes(boundary) if boundary is not None else invented(b"".join(parts))
        if boundary is None:
            self._announce(mark)
        old = _version(state) < (3,)  # Python 2.3's package adds a line break only if there is none
        if state.get("preamble") is not None:
            preamble = _mangled(_bytes(as_text(state["preamble"], "preamble")))
            self.lines += [preamble, b"" if old and preamble[-1:] in b"\n" else b"\n"]
        self.lines.append(b"--" + mark + b"\n")
        self.lines.append((b"\n--" + mark + b"\n").join(parts))
        self.lines.append(b"\n--" + mark + b"--")
        epilogue = state.get("epilogue")
        if epilogue is None:
            self.lines.append(b"" if old else b"\n")
        else:
            text = _mangled(_bytes(as_text(epilogue, "epilogue")))
            self.lines += [b"" if old and text.startswith(b"\n") else b"\n", text]

    def _announce(self, mark: bytes) -> None:
        """Add an invented boundary to the Content-Type header that has been written."""
        quoted = b'boundary="' + mark + b'"\n'
        for index, line in enumerate(self.lines):
            if line.lower().startswith(b"content-type:"):
                self.lines[index] = line[:-1] + b"; " + quoted
                return
        self.lines.insert(len(self.lines) - 1, b"Content-Type: multipart/mixed; " + quoted)


def _version(state: dict[str, Any]) -> tuple[int, ...]:
    """Return the version of the email package that made an object, as Mailman stored it."""
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
    if text.startswith(b"From "):
        text = b">" + text
    return text.replace(b"\nFrom ", b"\n>From ")


def _value(value: Any) -> bytes:
    if is_header(value):
        return _bytes(header_of(value).encode(maxlinelen=0))
    return _bytes(as_text(value, "a header's value"))
