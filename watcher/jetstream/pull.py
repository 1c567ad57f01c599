"""Keeps as many messages on their way to this process as it has room for.

One request of a pull consumer asks for as many messages as there is room, and stays open for
`OPEN` seconds; the messages come as they are there. Another one follows as soon as there is room
again. While nothing comes, one request in `OPEN` seconds is all that happens.

Guarantees: no more messages are asked for than there is room. A message that is in hand is
reported as that to the server (+WPI) three times in its acknowledgement time.
Fails: never; `on_trouble` is told what is wrong, and it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

import nats.errors
from nats.js.errors import APIError, NotFoundError

from watcher.errors import BadConfiguration, one_line
from watcher.jetstream.api_errors import said
from watcher.jetstream.connection import Connect, Unreachable
from watcher.jetstream.deliveries import Deliveries, Delivery, heartbeat
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import ACK_WAIT, CONSUMER

if TYPE_CHECKING:
    from nats.aio.msg import Msg

OPEN = 60.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two tries
_STATUS = "Status"
_ENDS = ("Consumer Deleted", "Leadership Change", "Server Shutdown", "Consumer is push based")


class Puller:
    """Pulls for one process. Only `run` is called in the loop's thread."""

    def __init__(
        self,
        deliveries: Deliveries,
        room: Callable[[], int],
        on_delivery: Callable[[OpenClient, Delivery], Awaitable[None]],
        on_trouble: Callable[[str | None], None],
    ) -> None:
        self._deliveries = deliveries
        self._room = room
        self._on_delivery = on_delivery
        self._on_trouble = on_trouble
        self._asked = 0  # messages that were asked for and have not come
        self._changed = asyncio.Event()
        self._ended: BaseException | None = None  # why the requests have to be made anew
        self._tasks: set[asyncio.Task[None]] = set()
        deliveries.changed = self._changed.set
        self._loop: asyncio.AbstractEventLoop | None = None

    def look(self) -> None:
        """Look whether there is room; any thread may call it."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self, connect: Connect) -> None:
        """Pull until it is cancelled; `connect` returns the open connection."""
        self._loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            try:
                await self._serve(await connect())
                pause = FIRST_PAUSE
            except (Unreachable, BadConfiguration) as error:
                self._on_trouble(str(error))
            except NotFoundError:
                stream = self._deliveries.stream
                self._on_trouble(f"{stream}: no such stream or consumer: `watcher nats init`")
            except APIError as error:
                self._on_trouble(said(error))
            except (OSError, nats.errors.Error) as error:
                self._on_trouble(one_line(str(error) or type(error).__name__))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _serve(self, client: OpenClient) -> None:
        """Pull over one connection until it ends, or the consumer does."""
        stream, context = self._deliveries.stream, client.context
        info = await context.consumer_info(stream, CONSUMER)
        beat = (info.config.ack_wait or ACK_WAIT) / 3
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=functools.partial(self._come, client))
        self._asked, self._ended = 0, None
        self._on_trouble(None)
        ended = asyncio.ensure_future(client.ended.wait())
        beats = asyncio.get_running_loop().time() + beat
        try:
            while not ended.done() and self._ended is None:
                self._changed.clear()
                if (want := self._room() - self._asked) > 0:
                    await self._ask(client, inbox, want)
                now = asyncio.get_running_loop().time()
                if len(self._deliveries) and now >= beats:
                    await heartbeat(client, self._deliveries)
                    beats = now + beat
                await self._wait(ended, max(0.0, beats - now) if len(self._deliveries) else OPEN)
        finally:
            ended.cancel()
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
        if self._ended is not None:
            raise self._ended

    async def _ask(self, client: OpenClient, inbox: str, count: int) -> None:
        request = {"batch": count, "expires": round(OPEN * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._deliveries.stream}.{CONSUMER}"
        await client.publish(subject, json.dumps(request).encode(), inbox)
        self._asked += count

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
        self._asked = max(0, self._asked - 1)
        about = message.metadata
        delivery = Delivery(
            subject=message.subject,
            reply=message.reply,
            sequence=about.sequence.stream,
            number=about.num_delivered,
            headers=headers,
            payload=message.data,
        )
        task = asyncio.ensure_future(self._hand_on(client, delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_on(self, client: OpenClient, delivery: Delivery) -> None:
        try:
            if await self._deliveries.take(client, delivery):
                await self._on_delivery(client, delivery)
        except (OSError, ValueError, nats.errors.Error) as error:
            # Its record cannot be read: it comes again after its acknowledgement time.
            self._deliveries.drop(delivery)
            self._ended = error
            self._changed.set()

    def _on_status(self, headers: dict[str, str]) -> None:
        """Note that a request is over: it expired, or the consumer is gone."""
        left = headers.get("Nats-Pending-Messages", "")
        self._asked = max(0, self._asked - int(left)) if left.isdecimal() else 0
        words = headers.get("Description", "")
        if words.startswith(_ENDS):
            self._ended = APIError(int(headers[_STATUS]), words)
        self._changed.set()
