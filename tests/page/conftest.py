"""Fixtures of the page's tests: one browser for all, and a server that answers what a test says."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from pathlib import Path

import pytest

import browser
from tests.page import made_up

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "watcher" / "web" / "page"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Server(http.server.ThreadingHTTPServer):
    """The page's files, and made-up answers that a test may change."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Requests)
        self.status = made_up.status(made_up.busy(), made_up.queue("in"), made_up.queue("out"))
        self.token = None
        self.asked = []
        self.address = f"http://127.0.0.1:{self.server_port}/"

    def answer(self, path, query):
        """Return what a path is answered with: JSON, or None."""
        if path == "/status.json":
            return self.status
        if path == "/history.json":
            return made_up.history(query["queue"])
        return made_up.life(query["entry"]) if path == "/entry.json" else None


class Requests(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.server.asked.append(url.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}
        token, given = self.server.token, self.headers["Authorization"]
        answer = self.server.answer(url.path, query)
        if answer is not None and token is not None and given != f"Bearer {token}":
            self.reply(401, "text/plain", b"a token is wanted")
        elif answer is not None:
            self.reply(200, "application/json", json.dumps(answer).encode())
        else:
            file = PAGE / (url.path.lstrip("/") or "index.html")
            self.reply(200, TYPES[file.suffix], file.read_bytes())

    def reply(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def chromium():
    """One browser for all tests of the page."""
    if browser.chromium() is None:
        pytest.skip("there is no chromium: scripts/install_packages installs it")
    with browser.Browser() as started:
        yield started


@pytest.fixture
def server():
    """A server of the page with made-up answers."""
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
    thread.start()
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture
def page(chromium, server):
    """A page that shows the server's queues; at its end, nothing was complained of."""
    opened = chromium.page()
    opened.resize(1280, 900)
    opened.prefer("light")
    opened.open(server.address)
    opened.wait("document.querySelector('main h1')")
    yield opened
    complaints = opened.complaints()
    opened.close()
    assert not complaints
