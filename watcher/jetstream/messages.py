"""An entry as a message of a stream: its headers, and how large they are.

    Nats-Msg-Id        the idempotency key, by which the server knows a message that it has
    Watcher-Key        the same; it stays where a message is published again with another id
    Watcher-Queue      the name of the queue that the entry was in, percent-encoded
    Watcher-Entry      the entry's name, percent-encoded
    Watcher-Attempt    which attempt at the entry handed it over
    Watcher-Metadata   the writer's metadata, one JSON object in ASCII; left out if there is none

Fails: never.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

ID = "Nats-Msg-Id"
KEY, QUEUE, ENTRY = "Watcher-Key", "Watcher-Queue", "Watcher-Entry"
ATTEMPT, METADATA = "Watcher-Attempt", "Watcher-Metadata"
EXPECTED_STREAM = "Nats-Expected-Stream"
_FRAME = len("NATS/1.0\r\n\r\n")
_LINE = len(": \r\n")


class Message(NamedTuple):
    """One message that is to be published."""

    subject: str
    payload: bytes
    headers: Mapping[str, str]

    @property
    def size(self) -> int:
        """What the server compares with its max_payload, in bytes."""
        lines = sum(len(name) + len(value) + _LINE for name, value in self.headers.items())
        return len(self.payload) + lines + _FRAME


def headers_of(
    *, key: str, queue: str, name: str, attempt: int, metadata: str, stream: str
) -> dict[str, str]:
    """Return the headers of an entry; `metadata`: JSON in ASCII, "" for none."""
    headers = {
        ID: key,
        EXPECTED_STREAM: stream,
        KEY: key,
        QUEUE: encoded(queue),
        ENTRY: encoded(name),
        ATTEMPT: str(attempt),
    }
    if metadata:
        headers[METADATA] = metadata
    return headers


def encoded(name: str) -> str:
    """Return a name as a header has it: every byte that is no plain character as %XX."""
    return quote(os.fsencode(name), safe=" !#$&'()*+,/:;=?@[]{}^`|~")


def decoded(text: str) -> str:
    """Return the name that a header has."""
    return os.fsdecode(unquote_to_bytes(text))
