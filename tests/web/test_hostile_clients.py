"""Slow and hostile clients: each is refused or cut off, and the entries do not notice."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from tests.web.client import WITH_PAGE, Page, entry
from watcher.web.server import HEADER, LATEST, LIMIT


def connection(page):
    host, _, port = page.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def answer(page, *parts):
    """Send what a client may send; return all that comes back."""
    with connection(page) as client:
        for part in parts:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(part)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(65536):
                said += data
        return said


HOST = b"Host: localhost\r\n"
ASKED = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"


def test_what_no_browser_sends_is_refused_and_the_page_goes_on(start_daemon, queue, recorder):
    daemon = start_daemon(queue, *WITH_PAGE, handler=recorder.argv())
    page = Page(daemon)
    start = b"GET /status.json HTTP/1.1\r\n"
    headers = b"".join(b"X-%d: 1\r\n" % number for number in range(10_000))
    assert b" 431 " in answer(page, start + HOST + headers + b"\r\n")
    assert b" 431 " in answer(page, b"GET /" + HEADER * b"a" + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    body = b"Content-Length: 1073741824\r\n\r\n"
    assert b" 413 " in answer(page, start + HOST + body + 1000 * b"x")
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + 1024 * b"x" + b"\r\n"
    assert b" 413 " in answer(page, start + HOST + chunked)
    assert answer(page, 100 * ASKED).count(b"HTTP/1.1 ") == 1  # pipelined: one answer, then the end
    assert b" 421 " in answer(page, start + b"Host: \xff\xfe\r\n\r\n")
    assert b" 404 " in answer(page, b"GET /%c3%28%ff%00 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b" 400 " in answer(page, b"GET /\xc3\x28%ff%00 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b" 404 " in answer(page, b"GET /../../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b" 400 " in answer(page, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")  # TLS
    assert b" 400 " in answer(page, start + b"Host: localhost\r\nA: b\nC: d\r\n\r\n")
    assert b" 400 " in answer(page, start + HOST + b"Content-Length: -1\r\n\r\n")
    assert b" 421 " in answer(page, start + b"Host: localhost\r\nHost: evil.example\r\n\r\n")
    assert b" 200 " in answer(page, ASKED)
    assert daemon.counts["page"] == 1  # its process is the first one
    entry(queue)
    daemon.wait_for("finish")


@pytest.mark.slow
def test_clients_that_send_nothing_or_read_nothing_are_cut_off(start_daemon, queue, recorder):
    daemon = start_daemon(queue, *WITH_PAGE, handler=recorder.argv())
    page = Page(daemon)
    began = time.monotonic()
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(connection(page)) for _ in range(LIMIT + 40)]
        for number, client in enumerate(clients):
            client.sendall((b"", b"GET /status.json HTT", ASKED[:-2])[number % 3])
        for number in range(8):  # as entries are handled meanwhile
            entry(queue, f"{number}.pck")
        daemon.wait_for("finish", 8)
        assert time.monotonic() - began < LATEST  # all of them are still there
        assert b" 200 " in answer(page, ASKED)  # in the kernel's queue until they are cut off
        for client in clients[: LIMIT - 10]:  # those that were accepted first
            client.settimeout(2 * LATEST)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1000) == b""
        assert time.monotonic() - began < 3 * LATEST
    assert daemon.counts["page"] == 1
