"""One connection to an HTTP server, which sends one request at a time and stays open between them.

httpx2 is an extra of the package (`pip install 'spool-watcher[http]'`), and this is the only file
that imports it. Of httpx2 only the transport is used: no cookies, no redirects, no proxy of the
environment, no compression.

Guarantees: a request ends when `cut` is called from another thread, whatever the server does. Of an
answer's body `KEPT` bytes are read at most. Certificates are verified.
Fails: `send` raises NoAnswer, which says why no status came.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import httpx2

from watcher.rules.results import SHORT

KEPT = 64 << 10  # bytes of an answer's body
CONNECT = 10.0  # seconds for a connection to one address of the server, and for TLS
# Seconds for which an idle connection is used again: Apache, lighttpd and Node.js close it after 5.
IDLE = 4.0
DRAIN = 5.0  # seconds for the rest of an answer whose status is known
_LIMITS = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE)


class Answer(NamedTuple):
    """The status of an answer, its headers (names in lower case), and how its body begins."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(Exception):
    """No status came.

    `again`: an open connection was used that the server may have closed at the same moment.
    `untrusted`: the server's certificate is not to be trusted.
    `short`: this machine is short of something.
    """

    def __init__(
        self, why: str, *, again: bool = False, untrusted: bool = False, short: bool = False
    ) -> None:
        super().__init__(why)
        self.again = again
        self.untrusted = untrusted
        self.short = short


class HttpConnection:
    """One connection. Only `cut` may be called from another thread than the one that sends."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._transport: Any = httpx2.HTTPTransport(verify=context, trust_env=False, limits=_LIMITS)
        self._answered = 0  # requests on the connection that is open now
        self._stream: Any = None  # the connection that is open now, or was last
        self._socket: socket.socket | None = None  # another descriptor of it, for `cut`
        self._lock = threading.Lock()
        self._is_cut = False

    def send(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: Iterable[bytes] | bytes,
        seconds: float,
    ) -> Answer:
        """Send one request and return the answer; raise NoAnswer. `seconds`: longest silence."""
        try:
            return self._send(method, url, headers, body, seconds)
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, UnicodeError) as error:
            silent = isinstance(error, (httpx2.RemoteProtocolError, httpx2.NetworkError))
            again = silent and self._answered > 0 and not self._is_cut
            raise _no_answer(error, again=again) from None
        finally:
            if self._stream is not None and self._stream.get_extra_info("socket").fileno() < 0:
                with self._lock:  # closed: the other descriptor would keep it open
                    self._forget()

    def _send(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[bytes, bytes]],
        body: Iterable[bytes] | bytes,
        seconds: float,
    ) -> Answer:
        connect = min(seconds, CONNECT)
        timeout = {"connect": connect, "read": seconds, "write": seconds, "pool": seconds}
        request: Any = httpx2.Request(
            method,
            url,
            headers=list(headers),
            content=body,
            extensions={"timeout": timeout, "trace": self._trace},
        )
        response: Any = self._transport.handle_request(request)
        try:
            self._answered += 1
            # A header that comes twice: the first one counts.
            pairs = reversed(response.headers.multi_items())
            return Answer(response.status_code, dict(pairs), _beginning(response.stream))
        finally:
            with contextlib.suppress(httpx2.HTTPError, OSError):
                response.stream.close()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep a descriptor of each new connection, so that `cut` can end what waits for it."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._stream = info["return_value"]
        if event == "connection.connect_tcp.complete":
            self._answered = 0
            with self._lock:
                self._forget()
                self._socket = self._stream.get_extra_info("socket").dup()
                if self._is_cut:
                    self._shut_down()

    def begin(self) -> None:
        """Begin an attempt: an earlier `cut` is over."""
        with self._lock:
            self._is_cut = False

    def cut(self) -> None:
        """End the request that is under way, and those that follow until `begin`."""
        with self._lock:
            self._is_cut = True
            self._shut_down()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._forget()
        self._transport.close()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _forget(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _beginning(stream: Iterable[bytes]) -> bytes:
    """Return the beginning of a body; what cannot be read of it changes nothing."""
    kept, until = b"", time.monotonic() + DRAIN
    with contextlib.suppress(httpx2.HTTPError, ssl.SSLError):
        for chunk in stream:
            kept += chunk
            if len(kept) > KEPT or time.monotonic() > until:
                break
    return kept[:KEPT]


def _no_answer(error: Exception, *, again: bool) -> NoAnswer:
    """Return what an exception of the library means."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NoAnswer(
                f"its certificate is not trusted: {cause.verify_message}", untrusted=True
            )
        if isinstance(cause, OSError) and cause.errno in SHORT:
            return NoAnswer(os.strerror(cause.errno), short=True)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx2.ConnectTimeout):
        return NoAnswer("no connection in time")
    if isinstance(error, httpx2.TimeoutException):
        return NoAnswer("no answer in time")
    return NoAnswer(str(error) or type(error).__name__, again=again)
