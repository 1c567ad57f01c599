"""Clients of the daemon's page: a scraper, or many that are slow on purpose.

    python clients.py scraper|slow PORT

The scraper reads /metrics and /status.json each second. Of `SLOW` clients every second one sends a
byte of its header each second and never ends it; the others ask again and again, and read nothing.
A connection that is refused or ended is opened again in the next second. Runs until it is ended.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import time

SLOW = 200
PATHS = ("/metrics", "/status.json")
BEGINS = b"GET / HTTP/1.1\r\nX-Slow: "
ASKS = b"GET /status.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def scrape(port: int) -> None:
    """Read each of `PATHS` once a second."""
    while True:
        for path in PATHS:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
                connection.request("GET", path)
                connection.getresponse().read()
                connection.close()
        time.sleep(1.0)


def dawdle(port: int) -> None:
    """Keep `SLOW` connections open."""
    clients: list[socket.socket | None] = [None] * SLOW
    while True:
        for number, client in enumerate(clients):
            clients[number] = _dawdle_on(client, port, never_ends=bool(number % 2))
        time.sleep(1.0)


def _dawdle_on(
    client: socket.socket | None, port: int, *, never_ends: bool
) -> socket.socket | None:
    """Have one client do as little as it can; None: its connection has ended."""
    try:
        if client is None:
            client = socket.create_connection(("127.0.0.1", port), 0.1)
            client.setblocking(False)
            client.send(BEGINS if never_ends else ASKS)
        else:
            client.send(b"x" if never_ends else ASKS)
    except BlockingIOError:  # its buffer is full, as it reads nothing
        return client
    except OSError:
        if client is not None:
            client.close()
        return None
    return client


if __name__ == "__main__":
    {"scraper": scrape, "slow": dawdle}[sys.argv[1]](int(sys.argv[2]))
