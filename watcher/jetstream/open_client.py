"""The client of nats-py, made safe against a server that stalls, talks nonsense, or refuses.

nats-py trusts its server. Here what the server sends has a limit, and what it may not say ends the
connection; a cancelled call ends (nats-py swallows the cancellation of a call that waits for room
in its buffer); and a request that the server does not permit fails, as the server sends no answer.

Guarantees: with `needs_tls` nothing is sent to a server that offers no TLS. `ended` is set at the
end of the connection, whatever ends it.
Fails: what a method of nats-py raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import nats.errors
import nats.protocol.parser
from nats.aio.client import Client
from nats.js.client import JetStreamContext
from nats.protocol.parser import AWAITING_MSG_PAYLOAD, Parser

from watcher.jetstream.replies import Replies

CLOSE = 1.0  # seconds for the end of a connection
LARGEST = 64 << 20  # bytes of a message: no server takes more (its max_payload has this limit)
LONGEST_LINE = 1 << 20  # bytes of a line: the server's INFO with the addresses of a large cluster
_DENIED = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')


# Whitespace in a subject is part of it, unless it is a space or a tab: the server stores such a
# message, and nats-py would end the connection at each of its deliveries.
nats.protocol.parser.MSG_RE = re.compile(
    rb"\AMSG[ \t]+([^ \t\r\n]+)[ \t]+(\d+)[ \t]+(([^ \t\r\n]+)[ \t]+)?(\d+)\r\n"
)
nats.protocol.parser.HMSG_RE = re.compile(
    rb"\AHMSG[ \t]+([^ \t\r\n]+)[ \t]+(\d+)[ \t]+(([^ \t\r\n]+)[ \t]+)?(\d+)[ \t]+(\d+)\r\n"
)


class CertificateWanted(nats.errors.Error):
    """The server lets in only clients that show a certificate."""


class OpenClient(Client):
    """A client of nats-py for one connection, which is not made anew.

    Attributes
    ----------
    context:  the library's interface to JetStream
    replies:  requests that are on their way at once
    ended:    set when the connection is closed, by whichever side
    opened:   the loop's time at which it was made
    heard:    the loop's time at which the server sent something last
    """

    def __init__(self, *, needs_tls: bool, has_certificate: bool = False) -> None:
        super().__init__()
        self.context: JetStreamContext = self.jetstream()
        self.replies = Replies(self)
        self.ended = asyncio.Event()
        self.opened = self.heard = asyncio.get_running_loop().time()
        self._needs_tls = needs_tls
        self._has_certificate = has_certificate
        self._ps = _Parser(self)

    async def leave(self) -> None:
        """Close the connection; what cannot be sent soon is dropped."""
        try:
            async with asyncio.timeout(CLOSE):
                await self.close()
        except Exception:  # noqa: BLE001 - whatever it is, the connection ends
            await self.drop()

    async def drop(self) -> None:
        """Close the connection at once: what is unsent is dropped."""
        self._pending, self._pending_data_size = [], 0
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE):
                await self.close()
        self.ended.set()

    async def on_closed(self) -> None:
        """Note the end of the connection."""
        self.ended.set()

    def on_denied(self, error: BaseException) -> None:
        """End the requests that the server does not permit, if the error says that."""
        if found := _DENIED.search(str(error).lower()):
            self.replies.deny(found[2], is_inbox=found[1] == "subscription")

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self._needs_tls and not info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        if initial_connection and info.get("tls_verify") and not self._has_certificate:
            # It says so in its first line. Later it may only break the connection (TLS 1.3).
            raise CertificateWanted
        largest = info.get("max_payload", LARGEST)
        if type(largest) is not int or largest <= 0:
            raise nats.errors.ProtocolError
        await super()._process_info(info, initial_connection)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (ValueError, LookupError):  # a publisher may put anything there
            return None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Any:
        if not subject.isascii():  # whatever the bytes are, the message is to be handled
            subject = subject.decode(errors="replace").encode()
        return super()._build_message(sid, subject, reply, data, headers)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        result = await super()._flush_pending(force_flush)
        task = asyncio.current_task()
        if force_flush and task is not None and task.cancelling():
            raise asyncio.CancelledError
        return result


class _Parser(Parser):
    """Reads what the server sends, within limits; raises ProtocolError for all that is wrong."""

    async def parse(self, data: bytes = b"") -> None:
        self.nc.heard = asyncio.get_running_loop().time()
        try:
            await super().parse(data)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise nats.errors.ProtocolError from None
        is_message = self.state == AWAITING_MSG_PAYLOAD
        if (self.needed if is_message else len(self.buf)) > (
            LARGEST if is_message else LONGEST_LINE
        ):
            raise nats.errors.ProtocolError
