"""The dead letters of a stream: listed, published again, removed.

Guarantees: a listing reads no message's contents. A letter that is published again keeps its key
and gets a new id, so that the server takes it; it is removed only after the server has stored it.
One that the server would not take is left, and keeps none of the others from it.
Fails: what `Connection.call` raises; Unavailable if there is no stream of dead letters.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from watcher.errors import Unavailable
from watcher.jetstream.api_errors import error_of, said
from watcher.jetstream.connection import Connection
from watcher.jetstream.letter_headers import FACTS, REASON, SUBJECT
from watcher.jetstream.messages import ENTRY, EXPECTED_STREAM, ID, KEY, METADATA, QUEUE, decoded
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import DEAD
from watcher.rules.dead_letter import size_of

_OF_LETTERS = frozenset(name.lower() for name in (SUBJECT, REASON, FACTS, ID, EXPECTED_STREAM))
AT_ONCE = 256  # letters of one request
SECONDS = 10.0  # for one request
OF_PART_MOST, OF_PART_BYTES = 64, 16 << 20  # letters that are on their way at once
OF_PART = 30.0  # seconds for them
GONE = "it is gone"


Step = Callable[[OpenClient, Sequence["Letter"]], Awaitable[list[str]]]


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

    try:
        subscription, left = connection.call(begin, SECONDS)
    except NotFoundError:
        what = f"{dead}: there is no such stream; `watcher nats init` makes it"
        raise Unavailable(what) from None

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
    """Publish letters again, in their order, and remove them.

    Returns "" for each, or why it was left.
    """
    return _in_parts(connection, some, lambda client, part: _requeue(client, stream, part))


async def _requeue(client: OpenClient, stream: str, some: Sequence[Letter]) -> list[str]:
    """Take each of the three steps for all of them at once: read, publish, remove."""
    read = await asyncio.gather(*(_read(client, stream, letter) for letter in some))
    answers = []
    left = {letter.number: GONE for letter in some}
    for letter, message in zip(some, read, strict=True):
        if message is None:
            continue
        subject, headers = _again(stream, letter, message)
        body = message.data or b""
        # At a larger message the server ends the connection, and answers none of the others.
        if (size := len(body) + size_of(headers)) > (most := client.max_payload):
            why = f"it has {size} bytes with its headers: raise max_payload ({most})"
            left[letter.number] = why
            continue
        answers.append((letter, subject, await client.replies.send(subject, body, headers)))
    stored = []
    for letter, subject, answer in answers:
        why = left[letter.number] = await _why_not(answer, subject)
        if not why:
            stored.append(letter)
    for letter, why in zip(stored, await _remove(client, stream, stored), strict=True):
        # Published and not there any more: another requeue of it came first, with the same id.
        stays = why and why != GONE
        left[letter.number] = f"it is requeued, and stays here: {why}" if stays else ""
    return [left[letter.number] for letter in some]


async def _read(client: OpenClient, stream: str, letter: Letter) -> api.RawStreamMsg | None:
    with contextlib.suppress(NotFoundError):
        return await client.context.get_msg(stream + DEAD, seq=letter.number)
    return None


def _again(stream: str, letter: Letter, message: api.RawStreamMsg) -> tuple[str, Mapping[str, str]]:
    """Return the subject and the headers by which a letter is published again.

    Its id is new, or the server would take it for the message that died; and the same at each
    attempt to publish it, so that a command that was killed can be repeated. The id is as long as
    that of an entry, so that a message that filled its size fits again.
    """
    kept = {
        name: str(text)
        for name, text in (message.headers or {}).items()
        if name.lower() not in _OF_LETTERS
    }
    key = letter.key or f"{stream}{DEAD}"
    again = f"{key}.again.{letter.number}.{round(letter.rejected * 1000)}"
    own = {ID: hashlib.sha256(os.fsencode(again)).hexdigest(), EXPECTED_STREAM: stream}
    return letter.subject or f"{stream}._", kept | own


async def _why_not(answer: asyncio.Future[bytes], subject: str) -> str:
    """Return "" if the server stored a message, else why it did not."""
    try:
        error = error_of(await answer)
    except nats.errors.NoRespondersError:
        return f"no stream takes its subject {subject}"
    return "" if error is None else said(error)


def delete(connection: Connection, stream: str, some: Sequence[Letter]) -> list[str]:
    """Remove letters for good; return "" for each, or why it was left."""
    return _in_parts(connection, some, lambda client, part: _remove(client, stream, part))


def _in_parts(connection: Connection, some: Sequence[Letter], step: Step) -> list[str]:
    results: list[str] = []
    for part in _parts(some):
        results += connection.call(functools.partial(_call, step, part), OF_PART)
    return results


async def _call(step: Step, part: Sequence[Letter], client: OpenClient) -> list[str]:
    return await step(client, part)


async def _remove(client: OpenClient, stream: str, some: Sequence[Letter]) -> list[str]:
    subject = f"$JS.API.STREAM.MSG.DELETE.{stream}{DEAD}"
    # To overwrite what is removed takes the server 13 ms a message, and 0.3 ms without.
    asked = [{"seq": letter.number, "no_erase": True} for letter in some]
    sent = [await client.replies.send(subject, json.dumps(each).encode()) for each in asked]
    found = [error_of(await answer) for answer in sent]
    return [
        "" if error is None else await _why_there(client, stream, letter, error)
        for letter, error in zip(some, found, strict=True)
    ]


async def _why_there(client: OpenClient, stream: str, letter: Letter, error: APIError) -> str:
    """Return why a letter was not removed; the server has one error for all."""
    gone = await _read(client, stream, letter) is None
    return GONE if gone else said(error)


def _parts(some: Sequence[Letter]) -> Iterator[list[Letter]]:
    """Cut letters into parts that fit into memory and into one request's time."""
    part: list[Letter] = []
    size = 0
    for letter in some:
        if part and (len(part) == OF_PART_MOST or size + letter.size > OF_PART_BYTES):
            yield part
            part, size = [], 0
        part.append(letter)
        size += letter.size
    if part:
        yield part
