"""What the tests of the page share: a client of a daemon's page."""

from __future__ import annotations

import http.client
import json
import os
import socket

WITH_PAGE = ("--format", "raw", "--http", "127.0.0.1:0")


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(self.host)


class Page:
    """The page of a daemon, as a client sees it."""

    def __init__(self, daemon, number=0):
        self.daemon = daemon
        (*_, said) = daemon.wait_for("page", number + 1)
        self.address = said["detail"].rpartition(" ")[2]

    def connect(self):
        if self.address.startswith("unix:"):
            return UnixConnection(self.address.removeprefix("unix:"))
        host, _, port = self.address.rpartition(":")
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=20)

    def ask(self, path, method="GET", headers=None):
        connection = self.connect()
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        answer.text = answer.read()
        connection.close()
        return answer

    def json(self, path):
        answer = self.ask(path)
        assert answer.status == 200, answer.text
        return json.loads(answer.text)

    def process(self, eventually):
        """The page's process; it lives under the daemon."""
        return eventually(lambda: children(self.daemon.process.pid, b"watcher.web"))[0]


def children(parent, word):
    found = []
    with open(f"/proc/{parent}/task/{parent}/children", "rb") as file:
        for pid in map(int, file.read().split()):
            with open(f"/proc/{pid}/cmdline", "rb") as command:
                if word in command.read():
                    found.append(pid)
    return found


def entry(queue, name="a.pck"):
    (queue / f"{name}.tmp").write_bytes(b"x")
    os.rename(queue / f"{name}.tmp", queue / name)
