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
from watcher.jetstream.deliveries import Deliveries, Delivery, Position, heartbeat
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import ACK_WAIT, CONSUMER

if TYPE_CHECKING:
    from nats.aio.msg import Msg

OPEN = 60.0  # seconds
LATE = 5.0  # seconds until a request is over whose end the server did not tell
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two tries
_STATUS = "Status"
_OVER = ("404", "408")  # a request ended as it should: nothing there, or its time is over


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
        self._asked_until = 0.0  # when no request is open any more, in the loop's time
        self._latest = 0  # the consumer's number of the last delivery
        self._troubled = False  # whether the last message could not be taken
        self._changed = asyncio.Event()
        self._ended: BaseException | None = None  # why the requests have to be made anew
        self._tasks: set[asyncio.Task[None]] = set()
        deliveries.changed = self._changed.set
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    def stop(self) -> None:
        """Ask for nothing any more, and go on to report what is in hand; any thread may call it."""
        self._stopped = True
        self.look()

    def look(self) -> None:
        """Look whether there is room; any thread may call it."""
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
                self._on_trouble(str(error))
            except NotFoundError:
                stream = self._deliveries.stream
                self._on_trouble(f"{stream}: no such stream or consumer: `watcher nats init`")
            except APIError as error:
                self._on_trouble(said(error))
            except Exception as error:  # noqa: BLE001 - a bug must not end it: no message came any more
                self._on_trouble(one_line(str(error) or type(error).__name__))
            if self._loop.time() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _serve(self, client: OpenClient) -> None:
        """Pull over one connection until it ends, or the consumer does."""
        info = await self._deliveries.look(client)
        beat = (info.config.ack_wait or ACK_WAIT) / 3
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=functools.partial(self._come, client))
        self._asked, self._ended = 0, None
        self._on_trouble(None)
        ended = asyncio.ensure_future(client.ended.wait())
        beats, idle = 0.0, False  # at once: the connection may have been away for long
        try:
            while not ended.done() and self._ended is None:
                self._changed.clear()
                if self._stopped:
                    # The server forgets the requests, and what it has sent already comes yet.
                    with contextlib.suppress(nats.errors.Error, TimeoutError):
                        await subscription.drain()  # type: ignore[no-untyped-call]
                else:
                    await self._fill(client, inbox)
                now, seconds = asyncio.get_running_loop().time(), OPEN
                idle, was_idle = not len(self._deliveries), idle
                if not idle:
                    if was_idle:  # the first message has just come
                        beats = now + beat
                    elif now >= beats:
                        await heartbeat(client, self._deliveries)
                        beats = now + beat
                    seconds = max(0.0, beats - now)
                await self._wait(ended, seconds)
        finally:
            ended.cancel()
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
        if self._ended is not None:
            raise self._ended

    async def _fill(self, client: OpenClient, inbox: str) -> None:
        """Ask for as many messages as there is room for.

        The server keeps few open requests of all workers (max_waiting, 512), so one for each
        message that ends would be too many: the next request doubles what is asked for.
        """
        now, room = asyncio.get_running_loop().time(), self._room()
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
                await self._on_delivery(client, delivery)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message comes again
            # After its acknowledgement time. Its record cannot be read, or not be written.
            self._deliveries.drop(delivery)
            self._troubled = True
            self._on_trouble(one_line(str(error) or type(error).__name__))
        else:
            if self._troubled:
                self._troubled = False
                self._on_trouble(None)

    def _on_status(self, headers: dict[str, str]) -> None:
        """Note that a request is over: it expired, or the server refuses it."""
        left, status = headers.get("Nats-Pending-Messages", ""), headers[_STATUS]
        if status in _OVER:
            self._asked = max(0, self._asked - int(left)) if left.isdecimal() else 0
        else:  # such as 409 Consumer Deleted, 503 for no consumer: to ask again at once is no use
            self._ended = APIError(code=int(status), description=headers.get("Description") or None)
        self._changed.set()
