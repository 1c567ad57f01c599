"""The envelope of a message: its sender and recipients, and which addresses are no addresses. PURE.

    from, to     the sender is                           the recipients are
    -----------  --------------------------------------  ------------------------------------------
    not given    metadata: `envsender` beside `recips`,  metadata: `recips` (Mailman 2.0, 2.1) or
                 `sender` beside `recipients`            `recipients` (Mailman 3)
    "headers"    the header Sender, else From            the headers To, Cc and Bcc
    an address   it; "<>" is no sender                   it, or each of a list

Everything in a message and in its metadata is hostile: an address that could be another command, or
an option of a program behind the server, is never sent.
Fails: NoEnvelope says what is missing, and how it can be given.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from watcher.rules.mail_address import HEADERS, NO_SENDER, wrong_with

LARGEST_HEAD = 128 << 10  # bytes of the headers in which addresses are looked for
LARGEST = 600_000  # bytes of all recipients in a note, which has 1 MB at most
_BETWEEN = 10  # bytes of a note between two recipients
_SENDER_BESIDE = {"recipients": "sender", "recips": "envsender"}
_END = re.compile(rb"(\r?\n)\r?\n|(\r)\r|\A\r?\n")
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|\Z)")


class NoEnvelope(ValueError):
    """A message has no usable sender, or no recipient."""


class Envelope(NamedTuple):
    """The sender ("": none), the recipients, and those that are no addresses, with the reason."""

    sender: str
    recipients: tuple[str, ...]
    wrong: Mapping[str, str]


def envelope(
    sender: str | None,
    recipients: str | Sequence[str] | None,
    metadata: Mapping[str, object],
    message: bytes,
) -> Envelope:
    """Return the envelope of a message, by what is configured; raise NoEnvelope."""
    from_headers = HEADERS in (sender, recipients)
    headers = _addresses_in(message) if from_headers else {}
    found = _sender(sender, metadata, headers)
    if found and (why := wrong_with(found)):
        raise NoEnvelope(f"its sender is no address: {why}")
    wanted = list(dict.fromkeys(_recipients(recipients, metadata, headers)))
    if not wanted:
        raise NoEnvelope("it has no recipients")
    if sum(len(json.dumps(each)) + _BETWEEN for each in wanted) > LARGEST:
        raise NoEnvelope(f"it has too many recipients: more than {LARGEST:,} bytes of them")
    wrong = {each: why for each in wanted if (why := wrong_with(each))}
    return Envelope(found, tuple(each for each in wanted if each not in wrong), wrong)


def without_bcc(message: bytes) -> bytes:
    """Return a message without its Bcc headers: the other recipients must not read them."""
    head, end = _split(message)
    kept = b"".join(text for name, text in _fields(head) if name != b"bcc")
    return kept + message[end:]


def _sender(
    sender: str | None, metadata: Mapping[str, object], headers: Mapping[bytes, list[str]]
) -> str:
    if sender == HEADERS:
        found = (headers.get(b"sender") or headers.get(b"from") or [""])[0]
        if not found:
            raise NoEnvelope("it has no sender in its headers")
        return found
    if sender is not None:
        return "" if sender == NO_SENDER else sender
    for key, beside in _SENDER_BESIDE.items():
        if key in metadata and beside in metadata and metadata[beside] is not None:
            known = _text(metadata[beside])
            return "" if known == NO_SENDER else known
    raise NoEnvelope("its metadata has no envelope sender; set `from`")


def _recipients(
    recipients: str | Sequence[str] | None,
    metadata: Mapping[str, object],
    headers: Mapping[bytes, list[str]],
) -> list[str]:
    if recipients == HEADERS:
        return [each for name in (b"to", b"cc", b"bcc") for each in headers.get(name, ())]
    if recipients is not None:
        return [recipients] if isinstance(recipients, str) else list(recipients)
    for key in _SENDER_BESIDE:
        if key not in metadata:
            continue
        found = metadata[key]
        if isinstance(found, set | frozenset):
            return sorted(map(_text, found))
        if isinstance(found, list | tuple):
            return [_text(each) for each in found]
        if isinstance(found, str | bytes):
            return [_text(found)]
        raise NoEnvelope(f"its metadata has no list of recipients in `{key}`")
    raise NoEnvelope("its metadata has no recipients; set `to`")


def _text(address: object) -> str:
    """Return an address of the metadata as text; one that is none stays one that is refused."""
    if isinstance(address, bytes):
        return address.decode("utf-8", "surrogateescape")
    return address if isinstance(address, str) else f"\0{address!r:.100}"


def _addresses_in(message: bytes) -> dict[bytes, list[str]]:
    """Return the addresses in the headers that name senders and recipients."""
    head, _ = _split(message)
    if len(head) > LARGEST_HEAD:
        raise NoEnvelope(f"its headers have more than {LARGEST_HEAD:,} bytes")
    found: dict[bytes, list[str]] = {}
    for name, text in _fields(head):
        if name in (b"from", b"sender", b"to", b"cc", b"bcc"):
            value = text.partition(b":")[2].decode("utf-8", "surrogateescape")
            found.setdefault(name, []).extend(_parse(value))
    return found


def _parse(value: str) -> Iterator[str]:
    unfolded = " ".join(value.split())
    try:
        parsed = email.utils.getaddresses([unfolded])
    except (RecursionError, ValueError, IndexError):
        raise NoEnvelope("a header of addresses is nested too deeply") from None
    return (address for _, address in parsed if address)


def _split(message: bytes) -> tuple[bytes, int]:
    """Return the headers with their last line's end, and where the rest begins."""
    found = _END.search(message)
    if found is None:
        return message, len(message)
    if found.start() == 0:
        return b"", 0
    line = len(found[1] or found[2])
    return message[: found.start() + line], found.start() + line


def _fields(head: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Yield each header's name in small letters, and its text with all its lines."""
    name, text = b"", b""
    for found in _LINE.finditer(head):
        line = found[0]
        if not line:
            continue
        if text and line[:1] in b" \t":
            text += line
            continue
        if text:
            yield name, text
        name, text = line.partition(b":")[0].strip().lower(), line
    if text:
        yield name, text
