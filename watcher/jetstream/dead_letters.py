"""The dead letters of a stream: listed, published again, removed.

Guarantees: a listing reads no message's contents. A letter that is published again keeps its key
and gets a new id, so that the server takes it; it is removed only after the server has stored it.
Fails: what `Connection.call` raises.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import nats.errors
from nats.js import api
from nats.js.errors import NotFoundError

from watcher.jetstream.connection import Connection
from watcher.jetstream.messages import ENTRY, ID, KEY, METADATA, QUEUE, decoded
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import DEAD

SUBJECT, REASON, FACTS = "Watcher-Subject", "Watcher-Reason", "Watcher-Facts"
_OF_LETTERS = frozenset(name.lower() for name in (SUBJECT, REASON, FACTS, ID))
AT_ONCE = 256  # letters of one request
SECONDS = 10.0  # for one request


class Letter(NamedTuple):
    """One dead letter; `number` is its number in the stream of dead letters."""

    number: int
    name: str
    key: str
    queue: str
    subject: str
    reason: str
    size: int
    rejected: float  # seconds since the epoch
    facts: Mapping[str, object]
    metadata: Mapping[str, object]

    @property
    def age(self) -> float:
        """Seconds since it was rejected."""
        return max(0.0, time.time() - self.rejected)


def letters(connection: Connection, stream: str) -> Iterator[Letter]:
    """Yield the dead letters, the oldest first."""
    dead = stream + DEAD
    config = api.ConsumerConfig(
        ack_policy=api.AckPolicy.NONE, headers_only=True, inactive_threshold=60.0
    )

    async def begin(client: OpenClient) -> tuple[Any, int]:
        info = await client.context.stream_info(dead)
        subscription = await client.context.pull_subscribe(">", stream=dead, config=config)
        return subscription, info.state.messages

    subscription, left = connection.call(begin, SECONDS)

    async def some(_client: OpenClient) -> list[Letter]:
        with contextlib.suppress(nats.errors.TimeoutError):
            found = await subscription.fetch(min(AT_ONCE, left), timeout=2)
            return [_letter(message) for message in found]
        return []

    while left > 0 and (found := connection.call(some, SECONDS)):
        left -= len(found)
        yield from found


def _letter(message: Any) -> Letter:
    headers = {name.lower(): text for name, text in (message.headers or {}).items()}

    def said(name: str) -> str:
        return str(headers.get(name.lower(), ""))

    about = message.metadata
    size = said("Nats-Msg-Size")
    return Letter(
        about.sequence.stream,
        decoded(said(ENTRY)) or str(about.sequence.stream),
        said(KEY),
        decoded(said(QUEUE)),
        said(SUBJECT),
        said(REASON),
        int(size) if size.isdecimal() else 0,
        about.timestamp.timestamp(),
        _object(said(FACTS)),
        _object(said(METADATA)),
    )


def _object(text: str) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        found = json.loads(text or "{}")
        if isinstance(found, dict):
            return found
    return {}


def requeue(connection: Connection, stream: str, some: Sequence[Letter]) -> list[str]:
    """Publish letters again and remove them; return "" for each, or why it was left."""
    dead = stream + DEAD

    async def one(client: OpenClient, letter: Letter) -> str:
        try:
            message = await client.context.get_msg(dead, seq=letter.number)
        except NotFoundError:
            return "is gone"
        kept = {
            name: str(text)
            for name, text in (message.headers or {}).items()
            if name.lower() not in _OF_LETTERS
        }
        headers = kept | {ID: f"{letter.key}.again.{letter.number}"}
        subject = letter.subject or f"{stream}._"
        answer = json.loads(
            await (await client.replies.send(subject, message.data or b"", headers))
        )
        if "error" in answer:
            return str(answer["error"].get("description", "refused"))
        if answer.get("stream") != stream:
            return f"its subject {subject} is that of {answer.get('stream')} now"
        await client.context.delete_msg(dead, letter.number)
        return ""

    return [connection.call(lambda client, each=each: one(client, each), SECONDS) for each in some]  # type: ignore[misc]


def delete(connection: Connection, stream: str, some: Sequence[Letter]) -> list[str]:
    """Remove letters for good; return "" for each, or why it was left."""

    async def one(client: OpenClient, letter: Letter) -> str:
        try:
            await client.context.delete_msg(stream + DEAD, letter.number)
        except NotFoundError:
            return "is gone"
        return ""

    return [connection.call(lambda client, each=each: one(client, each), SECONDS) for each in some]  # type: ignore[misc]
