"""Publish messages, all on their way at once, and wait for the answer to each.

A message counts as stored when the server says so, be it for the first time or as a duplicate: the
server knows a message by its `Nats-Msg-Id` for as long as the stream's duplicate window is. So a
message whose answer was lost is published again without harm, to whichever server answers.

Guarantees: `stored` is said of no message without the server's answer. A call ends at its deadline.
Fails: BadConfiguration if a file of secrets cannot be read, CancelledError after `cut`. What keeps
a message from being stored is its answer.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import json
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import nats.errors

from watcher.errors import BadConfiguration, one_line
from watcher.jetstream.connection import Connection, Unreachable
from watcher.jetstream.messages import Message
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.replies import Denied
from watcher.rules.nats_answers import DENIED, NO_STREAM, is_final

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds before what was not stored is published again
BELIEVED = 5.0  # seconds for which a server's limit is believed: its operator may raise it
QUIET = 3.0  # seconds without any answer after which what has none is published again
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
    """Publishes to one stream over one connection. Any thread may call it."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._limit = 0, 0.0  # bytes of a message, and when the server said it

    @property
    def largest(self) -> int | None:
        """The largest message that the server takes, in bytes; None if it is to be asked (anew)."""
        largest, when = self._limit
        return largest if largest and time.monotonic() - when < BELIEVED else None

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
        while rest := _open(messages, found):
            left = deadline - time.monotonic()
            refused = False
            try:
                why = self._connection.call(
                    functools.partial(self._round, rest, left, found),
                    left + CLEANUP,
                )
            except Unreachable as error:
                why, refused = str(error), error.refused
            except (concurrent.futures.CancelledError, BadConfiguration):
                raise
            except Exception as error:  # noqa: BLE001 - what the library makes of a server's nonsense
                why = _words(error)
            if refused or deadline - time.monotonic() <= pause:
                break
            if _open(messages, found):
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
        loop = asyncio.get_running_loop()
        began, largest = loop.time(), client.max_payload
        self._limit = largest, client.opened
        if began - client.opened > BELIEVED and any(
            one.size > largest for one in messages.values()
        ):
            await client.drop()
            return "the server is asked for its limit anew"
        waiting: dict[asyncio.Future[bytes], int] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for number, message in messages.items():
                    if message.size > largest:
                        found[number] = Answer(stored=False, too_large=largest)
                        continue
                    future = await client.replies.send(
                        message.subject, message.payload, message.headers
                    )
                    waiting[future] = number
        left = max(0.0, began + seconds - loop.time())
        why = await _gather(client, list(waiting), left)
        for future, number in waiting.items():
            answer = _answer_of(future, self._stream) if future.done() else Answer(stored=False)
            future.cancel()
            if answer.stored or answer.code:
                found[number] = answer
            elif answer.why:
                why = answer.why
        if why and client.heard < began:
            await client.drop()  # it may be a connection that only this side still knows
        return why


def _open(messages: Sequence[Message], found: Mapping[int, Answer]) -> dict[int, Message]:
    """Return the messages that are to be published (again), by number.

    That no stream has the subject is true of a cluster whose stream has no leader now, too: it is
    the answer only if it is so until the deadline.
    """
    return {
        number: one
        for number, one in enumerate(messages)
        if number not in found or found[number].code == NO_STREAM
    }


async def _gather(
    client: OpenClient, waiting: Sequence[asyncio.Future[bytes]], seconds: float
) -> str:
    """Wait for the answers while the connection is open; return why some are missing, or "".

    A server that leads no stream any more keeps the connection, and never answers: so the wait ends
    after `QUIET` seconds without any answer.
    """
    loop, answered = asyncio.get_running_loop(), -1
    deadline = loop.time() + seconds
    at = _at(client)
    closed = asyncio.ensure_future(client.ended.wait())
    every = asyncio.ensure_future(_all(waiting))
    try:
        while answered < (answered := sum(future.done() for future in waiting)):
            left = min(QUIET, deadline - loop.time())
            await asyncio.wait({every, closed}, timeout=left, return_when=FIRST_COMPLETED)
            if every.done() or closed.done() or loop.time() >= deadline:
                break
        if every.done():
            return ""
        if not closed.done():
            return f"{at}no answer in time"
        said = client.last_error
        return f"{at}the connection broke" + (f": {_words(said)}" if said else "")
    finally:
        every.cancel()
        closed.cancel()


def _at(client: OpenClient) -> str:
    url = client.connected_url
    return "" if url is None else f"{url.hostname}:{url.port}: "


async def _all(waiting: Sequence[asyncio.Future[bytes]]) -> None:
    if waiting:
        await asyncio.wait(waiting)


def _answer_of(future: asyncio.Future[bytes], stream: str) -> Answer:
    """Return what an answer says; one without a code says that the server cannot store it now."""
    error = future.exception()
    if isinstance(error, nats.errors.NoRespondersError):
        return Answer(stored=False, code=NO_STREAM)
    if isinstance(error, Denied):
        return Answer(stored=False, why=str(error), code=DENIED)
    try:
        said = json.loads(future.result())
        if (refusal := said.get("error")) is None:
            return _stored(said["stream"], said["seq"], stream)
        code, words = int(refusal["code"]), str(refusal.get("description", ""))
        number = int(refusal.get("err_code", code))
        return Answer(stored=False, why=one_line(words), code=number * is_final(code, number))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Answer(stored=False, why="an answer that is none of JetStream")


def _stored(stream: object, number: object, wanted: str) -> Answer:
    """Return the answer that a stream stored a message under a number."""
    if stream != wanted:  # a program that subscribed to the subject, perhaps
        return Answer(stored=False, why=f"{one_line(str(stream))[:64]} answered, not {wanted}")
    if type(number) is not int or number <= 0:
        return Answer(stored=False, why="an answer that is none of JetStream")
    return STORED


def _words(error: BaseException) -> str:
    """Return an error of the library in words."""
    if isinstance(error, TimeoutError | nats.errors.TimeoutError):
        return "no answer in time"
    said = getattr(error, "description", None) or str(error) or type(error).__name__
    return one_line(str(said)).removeprefix("nats: ")
