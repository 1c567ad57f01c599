"""Requests to a server, many on their way at once: each answer goes to the future of its request.

nats-py's own `publish_async` does not settle the future of a publish that the server answers with
an error (2.16), and `request` waits for one answer at a time.

Guarantees: an answer that comes late, or twice, is dropped.
Fails: `send` raises what nats-py does for a connection that is closed; the future has
NoRespondersError, or Denied if the server does not permit the request.
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


class Denied(nats.errors.Error):
    """The server does not permit this user to publish there, or to get the answers."""


class Replies:
    """The requests of one connection. Used in the thread of its event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: dict[str, tuple[asyncio.Future[bytes], str]] = {}  # with its subject
        self._inbox = ""
        self._number = 0

    async def send(
        self, subject: str, payload: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[bytes]:
        """Send a request; the future has the answer, or the error."""
        if not self._inbox:
            inbox = self._client.new_inbox()
            await self._client.subscribe(f"{inbox}.*", cb=self._on_answer)
            self._inbox = inbox
        self._number += 1
        token = str(self._number)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future, subject
        future.add_done_callback(lambda _future: self._waiting.pop(token, None))
        try:
            lines = None if headers is None else dict(headers)
            await self._client.publish(subject, payload, f"{self._inbox}.{token}", lines)
        except BaseException:
            future.cancel()
            raise
        return future

    def deny(self, subject: str, *, is_inbox: bool) -> None:
        """End the requests that the server does not permit; `subject` in small letters.

        `is_inbox`: it is the subject of the answers. Then it is asked for anew by the next request,
        as the server may permit it then.
        """
        if is_inbox and subject != f"{self._inbox}.*".lower():
            return
        if is_inbox:
            self._inbox = ""
        what = "subscribe to _INBOX.>, to get its answers" if is_inbox else "publish to {}"
        for future, to in list(self._waiting.values()):
            if not future.done() and (is_inbox or to.lower() == subject):
                future.set_exception(Denied(f"this user may not {what.format(to)}"))

    async def _on_answer(self, message: Msg) -> None:
        future, _ = self._waiting.get(message.subject.rpartition(".")[2], (None, ""))
        if future is None or future.done():
            return
        if not message.data and (message.headers or {}).get("Status") == NO_RESPONDERS:
            future.set_exception(nats.errors.NoRespondersError())
        else:
            future.set_result(message.data)
