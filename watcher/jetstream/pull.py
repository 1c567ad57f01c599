"""Keeps as many messages on their way to this process as it has room for.

One request of a pull consumer asks for as many messages as there is room, and stays open for
`OPEN` seconds; the messages come as they are there. Another one follows as soon as there is room
again. While nothing comes, one request in `OPEN` seconds is all that happens.

Guarantees: no more messages are asked for than there is room. If there is less room than before,
requests are taken back, and messages that no attempt was made at are given back. A message that is
in hand is reported as that to the server (+WPI) three times in its acknowledgement time.
Fails: never; `Taker.trouble` is told what is wrong, and it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from typing import TYPE_CHECKING, Literal, Protocol

import nats.errors
from nats.js.errors import APIError, NotFoundError

from watcher.errors import BadConfiguration, one_line
from watcher.jetstream.api_errors import said
from watcher.jetstream.connection import Connect, Unreachable
from watcher.jetstream.delivered import Delivery, Position
from watcher.jetstream.deliveries import PAUSE, Deliveries, heartbeat
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import ACK_WAIT, CONSUMER

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

OPEN = 60.0  # seconds
LATE = 5.0  # seconds until a request is over whose end the server did not tell
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two tries
_STATUS = "Status"
_OVER = ("404", "408")  # a request ended as it should: nothing there, or its time is over


class Taker(Protocol):
    """What takes the messages. The loop's thread calls it."""

    def limit(self) -> int:
        """Return how many messages may be in hand now."""

    def withdraw(self, most: int) -> None:
        """Release up to `most` messages that no attempt was made at (`Deliveries.release`)."""

    async def arrive(self, client: OpenClient, delivery: Delivery) -> None:
        """Take a message in hand, or give it back."""

    def look(self) -> None:
        """Look whether what is in hand is all right; called with each report of it."""

    def trouble(self, why: str | None) -> None:
        """Take note of what is wrong with the stream; None: nothing any more."""


class Puller:
    """Pulls for one process. Only `run` is called in the loop's thread."""

    def __init__(self, deliveries: Deliveries, taker: Taker) -> None:
        self._deliveries = deliveries
        self._taker = taker
        self._asked = 0  # messages that were asked for and have not come
        self._asked_until = 0.0  # when no request is open any more, in the loop's time
        self._latest = 0  # the consumer's number of the last delivery
        self._troubled = False  # whether the last message could not be taken, or given back
        self._changed = asyncio.Event()
        self._ended: BaseException | None = None  # why the requests have to be made anew
        self._tasks: set[asyncio.Task[None]] = set()
        deliveries.changed = self._changed.set
        self._loop: asyncio.AbstractEventLoop | None = None

    def look(self) -> None:
        """Look how many messages may be in hand, and what goes back; any thread may call it."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self, connect: Connect) -> None:
        """Pull until it is cancelled; `connect` returns the open connection."""
        self._loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            began = self._loop.time()
            try:
                await self._serve(await connect())
            except (Unreachable, BadConfiguration) as error:
                self._taker.trouble(str(error))
            except NotFoundError:
                stream = self._deliveries.stream
                self._taker.trouble(f"{stream}: no such stream or consumer: `watcher nats init`")
            except APIError as error:
                self._taker.trouble(said(error))
            except Exception as error:  # noqa: BLE001 - a bug must not end it: no message came any more
                self._taker.trouble(one_line(str(error) or type(error).__name__))
            if self._loop.time() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _serve(self, client: OpenClient) -> None:
        """Pull over one connection until it ends, or the consumer does."""
        info = await self._deliveries.look(client)
        beat = (info.config.ack_wait or ACK_WAIT) / 3
        inbox, subscription = await self._subscribe(client)
        self._ended = None
        self._taker.trouble(None)
        ended = asyncio.ensure_future(client.ended.wait())
        beats, idle = 0.0, False  # at once: the connection may have been away for long
        try:
            while not ended.done() and self._ended is None:
                self._changed.clear()
                limit = self._taker.limit()
                if self._asked and len(self._deliveries) + self._asked > limit:
                    # The server forgets the requests, and what it has sent already comes yet.
                    with contextlib.suppress(nats.errors.Error, TimeoutError):
                        await subscription.drain()  # type: ignore[no-untyped-call]
                    await asyncio.sleep(0)  # `_hand_on` has to count what came as not asked for
                    inbox, subscription = await self._subscribe(client)
                if (excess := len(self._deliveries) - limit) > 0:
                    self._taker.withdraw(excess)
                seconds = await self._give_back(client)
                await self._fill(client, inbox, limit - len(self._deliveries))
                now = asyncio.get_running_loop().time()
                idle, was_idle = not len(self._deliveries), idle
                if not idle:
                    if was_idle:  # the first message has just come
                        beats = now + beat
                    elif now >= beats:
                        self._taker.look()
                        await heartbeat(client, self._deliveries)
                        beats = now + beat
                    seconds = min(seconds, max(0.0, beats - now))
                await self._wait(ended, seconds)
        finally:
            ended.cancel()
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
        if self._ended is not None:
            raise self._ended

    async def _give_back(self, client: OpenClient) -> float:
        """Give back what is to go; return for how long nothing need be done.

        What the server refuses must not keep it from the reports of what is in hand.
        """
        try:
            if await self._deliveries.give_back_named(client):
                self._is_well()
        except (OSError, ValueError, nats.errors.Error) as error:
            self._is_troubled(error)
            return PAUSE
        return OPEN

    async def _subscribe(self, client: OpenClient) -> tuple[str, Subscription]:
        """Return where messages come, with no request open."""
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=functools.partial(self._come, client))
        self._asked = 0
        return inbox, subscription

    async def _fill(self, client: OpenClient, inbox: str, room: int) -> None:
        """Ask for as many messages as there is room for.

        The server keeps few open requests of all workers (max_waiting, 512), so one for each
        message that ends would be too many: the next request doubles what is asked for.
        """
        now = asyncio.get_running_loop().time()
        if now >= self._asked_until:  # whatever did not come is not on its way any more
            self._asked = 0
        if room <= self._asked or 2 * self._asked > room:
            return
        self._asked_until = now + OPEN + LATE
        request = {"batch": room - self._asked, "expires": round(OPEN * 1e9)}
        self._asked = room
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._deliveries.stream}.{CONSUMER}"
        await client.publish(subject, json.dumps(request).encode(), inbox)

    async def _wait(self, ended: asyncio.Task[Literal[True]], seconds: float) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait({changed, ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    async def _come(self, client: OpenClient, message: Msg) -> None:
        """Take a message, or what the server says of a request."""
        headers = message.headers or {}
        if _STATUS in headers and not message.reply:
            self._on_status(headers)
            return
        about = message.metadata
        delivery = Delivery(
            subject=message.subject,
            reply=message.reply,
            position=Position(
                about.sequence.stream,
                round(about.timestamp.timestamp() * 1_000_000),
                about.num_delivered,
            ),
            headers=headers,
            payload=message.data,
        )
        again, self._latest = about.sequence.consumer <= self._latest, about.sequence.consumer
        if again:  # its consumer counts anew: it may be another one
            with contextlib.suppress(OSError, ValueError, nats.errors.Error):
                await self._deliveries.look(client)
        task = asyncio.ensure_future(self._hand_on(client, delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_on(self, client: OpenClient, delivery: Delivery) -> None:
        # In one step with `take`: in between there would seem to be room for one more.
        self._asked = max(0, self._asked - 1)
        try:
            if await self._deliveries.take(client, delivery):
                await self._taker.arrive(client, delivery)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message comes again
            # After its acknowledgement time. Its record cannot be read, or not be written.
            self._deliveries.drop(delivery)
            self._is_troubled(error)
        else:
            self._is_well()

    def _is_troubled(self, error: Exception) -> None:
        self._troubled = True
        self._taker.trouble(one_line(str(error) or type(error).__name__))

    def _is_well(self) -> None:
        if self._troubled:
            self._troubled = False
            self._taker.trouble(None)

    def _on_status(self, headers: dict[str, str]) -> None:
        """Note that a request is over: it expired, or the server refuses it."""
        left, status = headers.get("Nats-Pending-Messages", ""), headers[_STATUS]
        if status in _OVER:
            self._asked = max(0, self._asked - int(left)) if left.isdecimal() else 0
        else:  # such as 409 Consumer Deleted, 503 for no consumer: to ask again at once is no use
            self._ended = APIError(code=int(status), description=headers.get("Description") or None)
        self._changed.set()
