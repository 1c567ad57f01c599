"""Serves HTTP on a socket that is open already: waitress, with limits for slow and hostile clients.

waitress reads and writes in one thread and answers in `THREADS` others. What it does not bound
itself, `_Guard` does: how long a connection lives, and how much waits to be sent.

Guarantees: one answer a connection, so a client that sends many requests at once gets one. A
connection lives for `LONGEST` seconds at most, and for `LATEST` if its request is not complete by
then. `LIMIT` connections at once; more wait in the kernel's queue. A header has `HEADER` bytes at
most, and no request has a body. `alive` is called at least every `LOOK` seconds.
Fails: OSError if the socket cannot be used.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any

from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

THREADS = 2
LIMIT = 256  # connections
BACKLOG = 128  # connections that the kernel accepts beyond these
HEADER = 16 << 10  # bytes
LATEST = 10.0  # seconds for a request to be complete
LONGEST = 30.0  # seconds for the answer to be read, too
LOOK = 5.0  # seconds
MOST_UNSENT = 64 << 20  # bytes of answers that clients have not read yet, in all


class Server:
    """The HTTP server of one socket."""

    def __init__(
        self, application: Any, listening: socket.socket, alive: Callable[[], None]
    ) -> None:
        logging.getLogger("waitress").setLevel(logging.ERROR)  # not that clients are many or slow
        connections: dict[int, Any] = {}
        self._server: Any = create_server(
            application,
            map=connections,
            sockets=[listening],
            threads=THREADS,
            ident="",
            backlog=BACKLOG,
            connection_limit=LIMIT,
            channel_timeout=int(LATEST),
            cleanup_interval=int(LOOK),
            max_request_header_size=HEADER,
            max_request_body_size=1,
            outbuf_overflow=1 << 30,  # answers stay in memory: nothing is written to a disk
            asyncore_loop_timeout=int(LOOK),
            asyncore_use_poll=True,
            log_socket_errors=False,
            expose_tracebacks=False,
        )
        self._server.channel_class = _Channel
        connections[_Guard.FD] = _Guard(self._server, alive)

    def run(self) -> None:
        """Serve until the process ends."""
        self._server.run()

    def is_full(self) -> bool:
        """Whether clients have left so much unread that no more may be sent; any thread asks."""
        unsent = sum(each.total_outbufs_len for each in list(self._server.active_channels.values()))
        return bool(unsent > MOST_UNSENT)


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """Reads a request; after its answer the connection is closed."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read the header as one that says `Connection: close`."""
        super().parse_header(header_plus)
        self.headers["CONNECTION"] = "close"
        self.connection_close = True


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    parser_class = _Parser


class _Guard:
    """Closes connections that last too long; waitress's loop asks it in each round."""

    FD = -1  # of no file: `readable` and `writable` say no, so the loop never polls it

    def __init__(self, server: Any, alive: Callable[[], None]) -> None:
        self._server = server
        self._alive = alive
        self._next = 0.0

    def readable(self) -> bool:
        """Look at the connections, at most once a second."""
        now = time.time()
        if not self._next - 2 < now < self._next:
            self._next = now + 1
            self._alive()
            for channel in list(self._server.active_channels.values()):
                age = now - channel.creation_time
                waits = not channel.requests and not channel.total_outbufs_len
                if age > (LATEST if waits else LONGEST) or age < -1:
                    channel.handle_close()
        return False

    def writable(self) -> bool:
        """Nothing is written."""
        return False
