"""An HTTP server of a test's own: it answers as the test says, also with what is no HTTP."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Request:
    """One request that came in: `connection` counts the connections from 1."""

    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    socket: socket.socket = field(repr=False)


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """Return an answer as it is sent."""
    lines = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


Script = Callable[[Request], bytes | None]


class ScriptedServer:
    """Serves each connection in a thread. `script` returns an answer; None: close the connection.

    A script may use the request's socket itself. `requests` has every request in its order.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.script: Script = lambda _request: answer(204)
        self.before: Callable[[socket.socket], bool] = lambda _socket: True  # False: close at once
        self.requests: queue.Queue[Request] = queue.Queue()
        self.connections = 0
        self._context = context
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        """The URL of the server, with a path."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}/in"

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listening.accept()
                self.connections += 1
                self._open.append(connected)
                number = self.connections
                self._start(
                    lambda connected=connected, number=number: self._serve(connected, number)
                )

    def _serve(self, plain: socket.socket, number: int) -> None:
        connected = plain
        with contextlib.suppress(OSError, ValueError):
            if self.before(plain):
                if self._context is not None:
                    connected = self._context.wrap_socket(plain, server_side=True)
                    self._open.append(connected)
                self._serve_requests(connected, number)
        with contextlib.suppress(OSError):
            connected.close()

    def _serve_requests(self, connected: socket.socket, number: int) -> None:
        with connected.makefile("rb") as stream:
            while request := _read(stream, connected, number):
                self.requests.put(request)
                said = self.script(request)
                if said is None:
                    return
                connected.sendall(said)

    def close(self) -> None:
        """Close everything: what waits for the server sees the end of its connection."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._open:
            each.close()


def _read(stream, connected: socket.socket, number: int) -> Request | None:
    first = stream.readline().decode()
    if not first:
        return None
    method, path, _ = first.split()
    headers = {}
    while (line := stream.readline().decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(number, method, path, headers, body, connected)


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Run a server."""
    server = ScriptedServer(context)
    try:
        yield server
    finally:
        server.close()


EXTENSIONS = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = CA:FALSE
subjectAltName = DNS:client.example
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def make_certificates(directory: Path) -> None:
    """Make an authority `ca.pem`, and `server.pem` and `client.pem` (with their keys) by it.

    They have what Python 3.13 insists on, as RFC 5280 does.
    """
    (directory / "openssl.cnf").write_text(EXTENSIONS)
    for name in ("authority", "server", "client"):
        by = () if name == "authority" else ("-CA", "authority.pem", "-CAkey", "authority.pem")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-config", "openssl.cnf", "-extensions", name, *by),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"),
                *("-days", "2", "-subj", f"/CN=a test's {name}"),
                *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
            ],
            cwd=directory,
            check=True,
            capture_output=True,
        )
        text = (directory / f"{name}.crt").read_text()
        pem = directory / f"{name}.pem"
        pem.touch(0o600)
        pem.write_text(text + (directory / f"{name}.key").read_text())
    (directory / "ca.pem").write_text((directory / "authority.crt").read_text())


def server_context(
    directory: Path, *, name: str = "server", ask_client: bool = False
) -> ssl.SSLContext:
    """Return what a server with these certificates needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem")
    if ask_client:
        context.load_verify_locations(directory / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context
