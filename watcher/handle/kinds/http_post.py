"""`http`: one POST for each entry, to one URL.

What the files of secrets hold is read for each entry, so that a new token needs no reload; the
certificates are read when the handler is loaded.
Fails: `load` raises BadConfiguration if httpx2 is not installed, or if a file cannot be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from watcher import durations
from watcher.credentials.secret_file import read_secret
from watcher.errors import BadConfiguration
from watcher.handle.handler_settings import HandlerSettings
from watcher.rules.finding import BAD, OK, WARNING, Check
from watcher.rules.http_answer import without_query
from watcher.rules.option import Option, one_of, period

if TYPE_CHECKING:
    import ssl

    from watcher.handle.handler import Handler
    from watcher.handle.http_connection import Answer
    from watcher.handle.http_handler import HttpTarget

SECONDS_OF_A_LOOK = 5.0
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_OURS = frozenset(
    {
        *("accept-encoding", "connection", "content-length", "content-type", "expect", "host"),
        *("idempotency-key", "te", "trailer", "transfer-encoding", "upgrade"),
        *("watcher-attempt", "watcher-entry", "watcher-queue"),
    }
)


def _path(value: object) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise ValueError


def _text(value: object) -> str:
    if isinstance(value, str) and _VALUE.fullmatch(value):
        return value
    raise ValueError


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - a reader of an option raises ValueError
    for name, text in value.items():
        if not _is_header(name, text):
            raise ValueError
    return value


def _is_header(name: str, value: object) -> bool:
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        return False
    return _NAME.fullmatch(name) is not None and name.lower() not in _OURS


def _file(help_text: str) -> Option:
    return Option(_path, "the path of a file", "", help_text)


class Http(HandlerSettings, frozen=True, forbid_unknown_fields=True):
    """`{ http = "https://HOST/PATH", token_file = "/FILE", timeout = "60s" }`."""

    http: str
    timeout: float = 60.0  # seconds
    body: str = "message"
    content_type: str | None = None
    token_file: str | None = None
    headers: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it
    headers_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "timeout": Option(period, durations.EXPECTED, "60s", "time for one entry, in all"),
        "body": Option(
            one_of("message", "json"),
            '"message" or "json"',
            "message",
            "what is sent: the message as it is, or one JSON object with message and metadata",
        ),
        "content_type": Option(
            _text, "a media type", "", "instead of the one that fits the body; see below"
        ),
        "token_file": _file("a file with a token: `Authorization: Bearer TOKEN`"),
        "headers": Option(
            _headers,
            'a table, as { "X-Source" = "spool" }, of headers that are not this program\'s own',
            "",
            "more headers; none that is secret",
        ),
        "headers_file": _file("a file with a line `NAME: VALUE` for each more header"),
        "ca_file": _file("certificates to trust instead of the system's (PEM)"),
        "cert_file": _file("a certificate to show to the server (PEM)"),
        "key_file": _file("its key, if that is not in the same file (PEM, without a password)"),
    }
    EXAMPLE: ClassVar[str] = '{ http = "https://HOST/PATH", token_file = "/FILE" }'
    COST: ClassVar[str] = (
        "A request and its answer; the connection stays open while entries follow each other."
    )

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        if not _is_url(self.http):
            return "http", (
                "a URL, http://HOST/PATH or https://HOST/PATH, without a user or a #fragment"
            )
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(self, key) is not None and not self.http.startswith("https:"):
                return key, "a URL with https"
        if self.key_file is not None and self.cert_file is None:
            return "key_file", "cert_file beside it"
        named = {name.lower() for name in self.headers}
        if self.token_file is not None and "authorization" in named:
            return "token_file", "no Authorization among the headers"
        return None

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration."""
        target = self._target()
        from watcher.handle.http_handler import HttpHandler

        return HttpHandler(target)

    def _target(self) -> HttpTarget:
        if find_spec("httpx2") is None:
            raise BadConfiguration(
                "handler.http: needs the package httpx2: pip install 'spool-watcher[http]'"
            )
        self._secrets()
        context = self._context()
        from watcher.handle.http_handler import HttpTarget

        return HttpTarget(
            self.http,
            list(self.headers.items()),
            self._secrets,
            context,
            self.timeout,
            self.content_type,
            self.body == "json",
        )

    def _secrets(self) -> list[tuple[str, str]]:
        """Read the headers that are in files; raise BadConfiguration."""
        found: list[tuple[str, str]] = []
        if self.token_file is not None:
            place = "handler.token_file"
            token = read_secret(self.token_file, place)
            if not _VALUE.fullmatch(token):
                raise BadConfiguration(f"{place}: {self.token_file}: expected one line of ASCII")
            found.append(("authorization", f"Bearer {token}"))
        if self.headers_file is not None:
            place = f"handler.headers_file: {self.headers_file}"
            text = read_secret(self.headers_file, "handler.headers_file")
            for number, line in enumerate(text.splitlines(), 1):
                name, _, value = (word.strip() for word in line.partition(":"))
                if line.strip() and not _is_header(name, value):
                    raise BadConfiguration(f"{place}: line {number}: expected NAME: VALUE")
                if line.strip():
                    found.append((name, value))
        return found

    def _context(self) -> ssl.SSLContext:
        """Return what TLS needs; raise BadConfiguration."""
        import ssl

        if not self.http.startswith("https:"):  # no message leaves for a URL of another scheme
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        from watcher.credentials.tls_context import tls_context

        return tls_context("handler", self.ca_file, self.cert_file, self.key_file)

    def endless(self) -> str:
        """Return "": each attempt has a deadline."""
        return ""

    def try_target(self) -> Iterator[Check]:
        """Ask the server for the URL's OPTIONS, which changes nothing there."""
        if self.http.startswith("http:") and (self.token_file or self.headers_file):
            yield Check(WARNING, "handler", "what is secret goes through the network unencrypted")
        yield self._look()

    def _look(self) -> Check:
        target = self._target()
        secrets = self._secrets()
        from watcher.handle.http_connection import NoAnswer
        from watcher.handle.http_handler import first_line, request_headers
        from watcher.handle.http_pool import HttpPool

        pool = HttpPool(target.context, SECONDS_OF_A_LOOK)
        connection = pool.take()
        try:
            headers = request_headers(target, secrets)
            answer = connection.send("OPTIONS", self.http, headers, b"", SECONDS_OF_A_LOOK)
        except NoAnswer as error:
            said = first_line(str(error).encode(), [value for _, value in secrets])
            code = os.EX_CONFIG if error.untrusted else os.EX_UNAVAILABLE
            server = without_query(self.http)
            return Check(BAD, "handler", f"{server}: cannot be reached: {said}", code)
        finally:
            pool.give_back(connection)
            pool.terminate()
        return _finding(answer)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    if not text.startswith(("http://", "https://")) or not parts.hostname or "@" in parts.netloc:
        return False
    return port != 0 and not parts.fragment and re.fullmatch(r"[\x21-\x7e]+", text) is not None


_DOUBTFUL = {
    401: "it does not accept the credentials",
    403: "it does not accept the credentials",
    404: "it knows no such path",
    407: "a proxy asks for credentials",
    410: "it knows no such path any more",
}


def _finding(answer: Answer) -> Check:
    """Return what an answer to OPTIONS means: any is a sign that the server is there."""
    status = answer.status
    said = f"the server answers OPTIONS with {status}"
    why = _DOUBTFUL.get(status)
    if why is None and status // 100 == 3:  # noqa: PLR2004 - redirects are 3xx
        why = "a message may be redirected, and is not sent to another server"
    if why is None and status // 100 not in (2, 4):
        why = "it does not work"
    if why is not None:
        return Check(WARNING, "handler", f"{said}: {why}")
    return Check(OK, "handler", said)
