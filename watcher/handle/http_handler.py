"""An `http` handler: each entry is one POST.

Guarantees: every request of an entry, in whatever process, has the same Idempotency-Key. The body
is the claimed file, read through the claim's descriptor piece by piece; it is never whole in
memory unless the entry has to be decoded. An attempt ends after `timeout`, whatever the server
does. An answer of 2xx counts only if the whole body was sent before.
Fails: `run` never raises. What the server's text says of a secret is not in the reason.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import quote

from watcher import mailman
from watcher.durations import show
from watcher.errors import BadConfiguration, Undecodable
from watcher.handle.entry import Entry
from watcher.handle.http_connection import Answer, HttpConnection, NoAnswer
from watcher.handle.http_pool import HttpPool
from watcher.rules.form import Form
from watcher.rules.http_answer import redirect, retry_after, verdict_of, without_query
from watcher.rules.results import HANDLED, SHORT, HandlerResult, Verdict, shortened

CHUNK = 256 << 10  # bytes that are read and sent at a time
MOST_REDIRECTS = 3
LEAST_SECRET = 4  # characters: a shorter value would be found in any text
Headers = list[tuple[bytes, bytes]]


class HttpTarget(NamedTuple):
    """Where entries are sent, and how. `secrets` returns the headers that are read from files."""

    url: str
    headers: Sequence[tuple[str, str]]
    secrets: Callable[[], list[tuple[str, str]]]
    context: ssl.SSLContext
    timeout: float
    content_type: str | None = None
    as_json: bool = False


class HttpHandler:
    """Sends each entry to one URL."""

    def __init__(self, target: HttpTarget) -> None:
        self._target = target
        self._pool = HttpPool(target.context, target.timeout)

    def run(self, entry: Entry) -> HandlerResult:
        """Send an entry and read the answer; never raises."""
        try:
            return self._run(entry)
        except Undecodable as error:
            return HandlerResult(Verdict.REJECT, str(error), ran=False)
        except BadConfiguration as error:
            return HandlerResult(Verdict.MISCONFIGURED, shortened(str(error)), ran=False)
        except (OSError, MemoryError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or repr(error)
            attempted = not isinstance(error, RuntimeError) and _errno_of(error) not in SHORT
            reason = shortened(f"cannot be sent: {why}")
            return HandlerResult(Verdict.RETRY, reason, attempted=attempted, ran=False)

    def terminate(self) -> None:
        """End the requests that are under way."""
        self._pool.terminate()

    def _run(self, entry: Entry) -> HandlerResult:
        secrets = self._target.secrets()
        body = _Body(entry, as_json=self._target.as_json)
        request = _Request(self._target, entry, body, secrets)
        connection = self._pool.take()
        result, late = None, False
        try:
            result = request.send(connection)
        except NoAnswer as error:
            result = request.unanswered(error)
        finally:
            late = self._pool.give_back(connection)
        if result.verdict is Verdict.DONE or not (late or self._pool.terminated):
            return result
        if late:
            return HandlerResult(
                Verdict.RETRY, f"timeout: no answer after {show(self._target.timeout)}"
            )
        return HandlerResult(Verdict.STOPPED, "stopped at once", ran=False)


class _Request:
    """The requests of one attempt: the first, and what redirects and a closed connection cause."""

    def __init__(
        self, target: HttpTarget, entry: Entry, body: _Body, secrets: list[tuple[str, str]]
    ) -> None:
        self._target = target
        self._body = body
        self._secrets = [value for _, value in secrets]
        self._headers = request_headers(target, secrets) + _headers_of(entry)
        content_type = target.content_type or body.content_type
        self._headers += [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % body.size),
        ]
        # Whether an earlier request with this key may be under way at the server.
        self._repeated = entry.attempt > 1 or entry.crashes > 0

    def send(self, connection: HttpConnection) -> HandlerResult:
        """Send the entry and return what the answer means; raise NoAnswer."""
        url = self._target.url
        for _ in range(1 + MOST_REDIRECTS):
            answer = self._send_once(connection, url)
            if answer.status // 100 != 3:  # noqa: PLR2004 - redirects are 3xx
                return self._result(answer)
            found = redirect(url, answer.status, answer.headers.get("location", ""))
            if not found.url:
                return self._misdirected(answer, found.why)
            url = found.url
        return HandlerResult(
            Verdict.MISCONFIGURED, f"answered with more than {MOST_REDIRECTS} redirects"
        )

    def _send_once(self, connection: HttpConnection, url: str) -> Answer:
        arguments = ("POST", url, self._headers, self._body, self._target.timeout)
        try:
            return connection.send(*arguments)
        except NoAnswer as error:
            if not error.again:
                raise
        self._repeated = True  # the server closed the connection, perhaps after it read the request
        return connection.send(*arguments)

    def _result(self, answer: Answer) -> HandlerResult:
        complete = self._body.complete
        verdict = verdict_of(answer.status, complete=complete, repeated=self._repeated)
        if verdict is Verdict.DONE:
            return HANDLED
        if answer.status // 100 == 2:  # noqa: PLR2004 - success is 2xx
            why = "before it had the whole message"
        else:
            why = self._told(answer.body)
        reason = shortened(
            f"answered {answer.status}: {why}" if why else f"answered {answer.status}"
        )
        at_least = 0.0
        if verdict is Verdict.RETRY:
            headers = answer.headers
            asked, date = headers.get("retry-after", ""), headers.get("date", "")
            at_least = retry_after(asked, date, time.time())
        return HandlerResult(verdict, reason, at_least=at_least)

    def _misdirected(self, answer: Answer, why: str) -> HandlerResult:
        location = self._told(without_query(answer.headers.get("location", "")).encode())
        to = f" to {location}" if location else ""
        return HandlerResult(
            Verdict.MISCONFIGURED, shortened(f"answered {answer.status}{to}: {why}")
        )

    def unanswered(self, error: NoAnswer) -> HandlerResult:
        """Return the result of an attempt without an answer."""
        reason = shortened(f"{_server(self._target.url)}: {self._told(str(error).encode())}")
        if error.untrusted:
            return HandlerResult(Verdict.MISCONFIGURED, reason)
        return HandlerResult(Verdict.RETRY, reason, attempted=not error.short, ran=not error.short)

    def _told(self, text: bytes) -> str:
        """Return the first line of what a server said, without the secrets that it may repeat."""
        return first_line(text, self._secrets)


def first_line(text: bytes, secrets: Sequence[str]) -> str:
    """Return the first line of a text that has more than space, without any secret."""
    shown = text.decode("utf-8", "backslashreplace")
    for secret in secrets:
        for word in (secret, secret.rpartition(" ")[2]):
            if len(word) >= LEAST_SECRET:
                shown = shown.replace(word, "[secret]")
    lines = re.split("[\r\n]+", shown.strip(), maxsplit=1)
    return lines[0].strip()


def request_headers(target: HttpTarget, secrets: list[tuple[str, str]]) -> Headers:
    """Return the headers that every request has."""
    own = {name.lower().encode(): value.encode() for name, value in [*target.headers, *secrets]}
    return [
        (b"user-agent", b"watcher"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"identity"),
        *own.items(),
    ]


def _headers_of(entry: Entry) -> Headers:
    # A string of structured fields (RFC 9651), as the draft of the header says: with its quotes.
    return [
        (b"idempotency-key", b'"%s"' % entry.key.encode()),
        (b"watcher-queue", quote(os.fsencode(entry.queue), safe="").encode()),
        (b"watcher-entry", quote(os.fsencode(entry.name), safe="").encode()),
        (b"watcher-attempt", b"%d" % entry.attempt),
    ]


def _server(url: str) -> str:
    return without_query(url).partition("//")[2].partition("/")[0]


def _errno_of(error: BaseException) -> int | None:
    return getattr(error, "errno", None)


class _Body:
    """What is sent of an entry. `complete`: whether it was given to the kernel to the last byte."""

    def __init__(self, entry: Entry, *, as_json: bool) -> None:
        self._data: bytes | None = None
        self._fd = entry.parts[0].fd
        self.complete = False
        self.size = entry.parts[0].size
        raw = entry.form is Form.RAW
        self.content_type = "application/octet-stream" if raw else "message/rfc822"
        if as_json:
            self.content_type = "application/json"
            self._data = _json(entry)
        elif not entry.plain:
            self._data = entry.message
        if self._data is not None:
            self.size = len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        self.complete = False
        offset = 0
        while offset < self.size:
            chunk = self._read(offset)
            if not chunk:
                raise OSError(None, "the file became shorter while it was sent")
            offset += len(chunk)
            self.complete = False
            yield chunk
        self.complete = True

    def _read(self, offset: int) -> bytes:
        most = min(CHUNK, self.size - offset)
        if self._data is not None:
            return self._data[offset : offset + most]
        return os.pread(self._fd, most, offset)


def _json(entry: Entry) -> bytes:
    metadata = mailman.to_json(entry.metadata).encode("utf-8", "replace")
    message = base64.b64encode(entry.message)
    return b'{"metadata": %s, "message_base64": "%s"}' % (metadata, message)
