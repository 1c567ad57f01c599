"""Publish messages, all on their way at once, and wait for the answer to each.

A message counts as stored when the server says so, be it for the first time or as a duplicate: the
server knows a message by its `Nats-Msg-Id` for as long as the stream's duplicate window is. So a
message whose answer was lost is published again without harm, to whichever server answers.

Guarantees: `stored` is said of no message without the server's answer. A call ends at its deadline.
Fails: never; what keeps a message from being stored is its answer.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import nats.errors

from watcher.errors import one_line
from watcher.jetstream.connection import Connection, OpenClient, Unreachable
from watcher.jetstream.messages import Message
from watcher.rules.nats_answers import NO_STREAM, is_final

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds before what was not stored is published again
CLEANUP = 1.0  # seconds by which the call may outlast its deadline


class Answer(NamedTuple):
    """What is known of one message.

    `code` is the server's error code, where it answered with an error (0: it did not answer, or no
    server could be reached); `why` says it in words.
    """

    stored: bool
    why: str = ""
    code: int = 0
    too_large: int = 0  # the largest size that the server takes, where the message is larger


STORED = Answer(stored=True)


class Publisher:
    """Publishes over one connection. Any thread may call it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.largest: int | None = None  # bytes of a message, as the server said last

    def cut(self) -> None:
        """End the calls that are under way, and refuse others."""
        self._connection.cut()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def publish(self, messages: Sequence[Message], seconds: float) -> list[Answer]:
        """Publish messages, in this order; return the answer to each. Raises CancelledError."""
        found: dict[int, Answer] = {}
        why = ""
        deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
        while len(found) < len(messages):
            left = deadline - time.monotonic()
            rest = {number: one for number, one in enumerate(messages) if number not in found}
            refused = False
            try:
                why = self._connection.call(
                    functools.partial(self._round, rest, left, found),
                    left + CLEANUP,
                )
            except Unreachable as error:
                why, refused = str(error), error.refused
            except (TimeoutError, OSError, nats.errors.Error) as error:
                why = _words(error)
            if refused or deadline - time.monotonic() <= pause:
                break
            if len(found) < len(messages):
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        missing = Answer(stored=False, why=why or "no answer in time")
        return [found.get(number, missing) for number in range(len(messages))]

    async def _round(
        self,
        messages: Mapping[int, Message],
        seconds: float,
        found: dict[int, Answer],
        client: OpenClient,
    ) -> str:
        """Publish messages once, and put the answers into `found`; return why some are missing."""
        self.largest = client.max_payload
        waiting: dict[asyncio.Future[bytes], int] = {}
        async with asyncio.timeout(seconds):
            for number, message in messages.items():
                if message.size > client.max_payload:
                    found[number] = Answer(stored=False, too_large=client.max_payload)
                    continue
                future = await client.replies.send(
                    message.subject, message.payload, message.headers
                )
                waiting[future] = number
        why = ""
        for future, answer in (await gathered(client, list(waiting), seconds)).items():
            if answer.stored or answer.code:
                found[waiting[future]] = answer
            else:
                why = answer.why
        return why


async def gathered(
    client: OpenClient, waiting: Sequence[asyncio.Future[bytes]], seconds: float
) -> dict[asyncio.Future[bytes], Answer]:
    """Wait for the answers to some requests while the connection is open; return what is known."""
    closed = asyncio.ensure_future(client.ended.wait())
    every = asyncio.ensure_future(_all(waiting))
    await asyncio.wait({every, closed}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    missing = "the connection broke" if closed.done() else "no answer in time"
    answers = {}
    for future in waiting:
        if future.done():
            answers[future] = _answer_of(future)
        else:
            future.cancel()
            answers[future] = Answer(stored=False, why=missing)
    every.cancel()
    closed.cancel()
    return answers


async def _all(waiting: Sequence[asyncio.Future[bytes]]) -> None:
    if waiting:
        await asyncio.wait(waiting)


def _answer_of(future: asyncio.Future[bytes]) -> Answer:
    """Return what an answer says; one without a code says that the server cannot store it now."""
    if isinstance(future.exception(), nats.errors.NoRespondersError):
        return Answer(stored=False, code=NO_STREAM)
    try:
        said = json.loads(future.result())
        error = said.get("error")
        if error is None and said["stream"] and said["seq"]:
            return STORED
        code, words = int(error["code"]), str(error.get("description", ""))
        number = int(error.get("err_code", code))
        return Answer(stored=False, why=one_line(words), code=number * is_final(code, number))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Answer(stored=False, why="an answer that is none of JetStream")


def _words(error: BaseException) -> str:
    """Return an error of the library in words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    said = getattr(error, "description", None) or str(error) or type(error).__name__
    return one_line(str(said)).removeprefix("nats: ")
