"""Requests to a server, many on their way at once: each answer goes to the future of its request.

nats-py's own `publish_async` does not settle the future of a publish that the server answers with
an error (2.16), and `request` waits for one answer at a time.

Guarantees: an answer that comes late, or twice, is dropped.
Fails: `send` raises what nats-py does for a connection that is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import nats.errors

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

NO_RESPONDERS = "503"


class Replies:
    """The requests of one connection. Used in the thread of its event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._inbox = ""
        self._number = 0

    async def send(
        self, subject: str, payload: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[bytes]:
        """Send a request; the future has the answer, or NoRespondersError."""
        if not self._inbox:
            inbox = self._client.new_inbox()
            await self._client.subscribe(f"{inbox}.*", cb=self._on_answer)
            self._inbox = inbox
        self._number += 1
        token = str(self._number)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        future.add_done_callback(lambda _future: self._waiting.pop(token, None))
        try:
            lines = None if headers is None else dict(headers)
            await self._client.publish(subject, payload, f"{self._inbox}.{token}", lines)
        except BaseException:
            future.cancel()
            raise
        return future

    async def _on_answer(self, message: Msg) -> None:
        future = self._waiting.get(message.subject.rpartition(".")[2])
        if future is None or future.done():
            return
        if not message.data and (message.headers or {}).get("Status") == NO_RESPONDERS:
            future.set_exception(nats.errors.NoRespondersError())
        else:
            future.set_result(message.data)
