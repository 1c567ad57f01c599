"""Answers requests: which path, whether the client may ask, and with which headers.

    /                              the page, and its files
    /status.json                   every queue, as it was seen last
    /history.json?queue=NAME       how many entries it had in each state, for the last hours
    /entry.json?queue=NAME&entry=NAME   the life of one entry
    /metrics                       for Prometheus
    /healthz  /readyz              200 or 503, and the reasons

Guarantees: nothing in a queue is changed. Only the paths above exist, so no path leads to a file.
With a token, everything but the page's own files needs it; `/healthz` and `/readyz` then answer a
client without it by their status alone. An answer is never kept by a cache or read by another site.
Fails: never; an error in this program is answered with 500, and logged.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from watcher.config.page_feed import Feed
from watcher.web.entry_life import EntryLives, Refused
from watcher.web.exposition import exposition
from watcher.web.probes import Verdict, health, readiness
from watcher.web.sampler import Sampler
from watcher.web.static_files import static_files

VERSION = 1  # of the JSON
MOST_FIELDS = 8  # of a query
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
log = logging.getLogger("watcher.web")


class Answer(NamedTuple):
    """A status, the body and its type, and further headers."""

    status: str
    body: bytes
    type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


Query = dict[str, str]
Route = Callable[[Query, str], Answer]  # the query, and the header Accept


class Application:
    """The WSGI application."""

    def __init__(self, feed: Feed, sampler: Sampler) -> None:
        self.is_full: Callable[[], bool] = lambda: False  # set when the server is made
        self._feed = feed
        self._sampler = sampler
        self._lives = EntryLives()
        self._static = static_files()
        self._routes: dict[str, Route] = {
            "/status.json": self._status,
            "/history.json": self._history,
            "/entry.json": self._entry,
            "/metrics": self._metrics,
        }
        self._probes = {"/healthz": health, "/readyz": readiness}

    def configure(self, feed: Feed) -> None:
        """Serve what the daemon says now."""
        self._feed = feed
        self._sampler.configure(feed.queues)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        try:
            answer = self._answer(environ)
        except Exception:
            log.exception("a bug in the page")
            answer = Answer("500 Internal Server Error", b"an error in this program\n")
        length = ("Content-Length", str(len(answer.body)))
        start(answer.status, [("Content-Type", answer.type), length, *HEADERS, *answer.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        feed = self._feed
        path = environ.get("PATH_INFO", "")
        if not _is_for_us(environ.get("HTTP_HOST"), feed.host_names):
            return Answer("421 Misdirected Request", b"this is not the host that was asked for\n")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            words = b"this page can be read only\n"
            return Answer("405 Method Not Allowed", words, headers=(("Allow", "GET, HEAD"),))
        if path in self._static:
            return Answer("200 OK", *self._static[path])
        if self.is_full():
            return _unavailable("too many answers wait for slow clients", retry=5)
        known = _has_token(environ.get("HTTP_AUTHORIZATION", ""), feed.token)
        if path in self._probes:
            self._sampler.ask()
            verdict = self._probes[path](feed, self._sampler.snapshots(), time.time())
            return _probed(verdict, in_words=known)
        route = self._routes.get(path)
        if route is None:
            return Answer("404 Not Found", b"there is no such page\n")
        return self._routed(route, environ) if known else _unknown_client()

    def _routed(self, route: Route, environ: dict[str, Any]) -> Answer:
        query = _query(environ.get("QUERY_STRING", ""))
        if query is None:
            return Answer("400 Bad Request", b"the query cannot be read\n")
        self._sampler.ask()
        return route(query, environ.get("HTTP_ACCEPT", ""))

    def _status(self, _query: Query, _accept: str) -> Answer:
        feed = self._feed
        head = {
            "version": VERSION,
            "time": round(time.time(), 3),
            "daemon": {
                "process": feed.process,
                "host": feed.host,
                "user": feed.user,
                "started": round(feed.started, 3),
                "version": feed.version,
                "address": feed.address,
            },
        }
        queues = b", ".join(each.json for each in self._sampler.snapshots())
        text = json.dumps(head).encode()
        return Answer("200 OK", b'%s, "queues": [%s]}\n' % (text[:-1], queues), JSON)

    def _history(self, query: Query, _accept: str) -> Answer:
        queue = self._sampler.queue(query.get("queue", ""))
        if queue is None:
            return _no_queue()
        record = queue.past.record(queue.snapshot.name)
        return Answer("200 OK", json.dumps(record).encode() + b"\n", JSON)

    def _entry(self, query: Query, _accept: str) -> Answer:
        queue = self._sampler.queue(query.get("queue", ""))
        if queue is None:
            return _no_queue()
        if not query.get("entry"):
            return Answer("400 Bad Request", b"say which entry: &entry=NAME\n")
        try:
            record = self._lives.life(queue.settings, query["entry"])
        except Refused as error:
            if error.busy:
                return _unavailable(str(error), retry=1)
            return Answer("404 Not Found", f"{error}\n".encode())
        return Answer("200 OK", json.dumps(record).encode() + b"\n", JSON)

    def _metrics(self, _query: Query, accept: str) -> Answer:
        seen = self._sampler.snapshots()
        statuses = [each.status for each in seen if each.status is not None]
        unreadable = [each.name for each in seen if each.error]
        return Answer("200 OK", *exposition(statuses, unreadable, accept))


def _is_for_us(host: str | None, names: list[str] | None) -> bool:
    """Whether a header Host names this machine. PURE."""
    if names is None:
        return True
    name = (host or "").lower()
    bare, _, port = name.rpartition(":")
    return (bare if port.isdecimal() and not name.endswith("]") else name) in names


def _has_token(header: str, token: str) -> bool:
    if not token:
        return True
    scheme, _, given = header.partition(" ")
    same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    return same and scheme.lower() == "bearer"


def _query(text: str) -> Query | None:
    try:
        return dict(
            parse_qsl(text, max_num_fields=MOST_FIELDS, encoding="utf-8", errors="surrogateescape")
        )
    except ValueError:
        return None


def _probed(verdict: Verdict, *, in_words: bool) -> Answer:
    status = "503 Service Unavailable" if verdict.reasons else "200 OK"
    words = verdict.reasons or [verdict.good]
    lines = words if in_words else [status[4:].lower()]
    return Answer(status, "".join(f"{line}\n" for line in lines).encode())


def _unknown_client() -> Answer:
    words = b"this page needs the token of http_token_file\n"
    asks = ("WWW-Authenticate", 'Bearer realm="watcher"')
    return Answer("401 Unauthorized", words, headers=(asks,))


def _no_queue() -> Answer:
    return Answer("404 Not Found", b"there is no queue of this name\n")


def _unavailable(words: str, retry: int) -> Answer:
    headers = (("Retry-After", str(retry)),)
    return Answer("503 Service Unavailable", f"{words}\n".encode(), headers=headers)
