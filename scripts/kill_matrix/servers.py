"""The servers that handlers deliver to: each writes a delivery down before it answers.

The name of an entry, in the subject of its message, determines the answer: `retry-...N` is refused
for now until it came N times (counting the attempts in its schedule), `reject...` for ever. Of two
recipients the second is refused for now at first. A server runs in a thread of the process that
starts the victim.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, cast

ANN, BOB = RECIPIENTS = ("ann@example.com", "bob@example.com")
DONE, RETRY, REJECT = "done", "retry", "reject"
DEFERRED_ONCE = "again"  # in a name: its schedule says that one attempt was made before
_KEY = re.compile(rb"(?im)^X-Watcher-Key: *(.*?)\n")
_SUBJECT = re.compile(rb"(?m)^Subject: (.*?)$")


class Delivery(NamedTuple):
    """One entry, or one recipient's copy of it, as it was delivered."""

    where: str
    digest: str
    word: str = DONE
    key: str = ""


def digest_of(data: bytes) -> str:
    """Return the digest of a message."""
    return hashlib.sha256(data).hexdigest()


class Receiver:
    """What a server was sent; several threads write."""

    def __init__(self, root: str) -> None:
        self._path = record_of(root)
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def receive(self, message: bytes, key: str, recipient: str = "") -> str:
        """Write a delivery down; return what is to be answered."""
        subject = _SUBJECT.search(message)
        name = subject[1].decode() if subject else "?"
        with self._lock:
            self._seen[name + recipient] += 1
            word = _word(name, self._seen[name + recipient], recipient)
            line = "\t".join((name, recipient, word, digest_of(message), key)) + "\n"
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line.encode())
                os.fdatasync(fd)
            finally:
                os.close(fd)
        return word


def _word(name: str, times: int, recipient: str) -> str:
    """Return the answer to the delivery of a name that came so many times, with this one."""
    if name.startswith("reject"):
        return REJECT
    if recipient == BOB and times == 1:
        return RETRY
    found = re.match(r"retry-.*?([0-9]+)(,|$)", name)
    if found and times + (DEFERRED_ONCE in name or "deferred" in name) < int(found[1]):
        return RETRY
    return DONE


def record_of(root: str) -> str:
    """Return the file of a run in which its server writes."""
    return os.path.join(root, "deliveries")


def deliveries(root: str) -> list[Delivery]:
    """Return what a server was sent.

    An entry with several recipients is delivered when each has it, and twice if one has it twice.
    """
    with contextlib.suppress(FileNotFoundError), open(record_of(root), encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
        if any(row[1] for row in rows):
            return list(_by_recipient(rows))
        return [Delivery(name, digest, word, key) for name, _to, word, digest, key in rows]
    return []


def _by_recipient(rows: list[list[str]]) -> Iterator[Delivery]:
    """Yield the answers to each message, and then it as often as one of its recipients has it."""
    had: dict[tuple[str, str, str], Counter[str]] = {}
    for name, to, word, digest, key in rows:
        if word == DONE:
            had.setdefault((name, digest, key), Counter())[to] += 1
        yield Delivery(f"{name} {to}", digest, word if word != DONE else RETRY, key)
    for (name, digest, key), times in had.items():
        if all(times[recipient] for recipient in RECIPIENTS):
            yield from [Delivery(name, digest, DONE, key)] * max(times.values())


# -- the servers ------------------------------------------------------------------------------


class _Lmtp(socketserver.StreamRequestHandler):
    """One session of LMTP (RFC 2033)."""

    def handle(self) -> None:
        """Answer commands until the client leaves."""
        receiver = cast("_LmtpServer", self.server).receiver
        recipients: list[str] = []
        self._say("220 here")
        for line in self.rfile:
            command = line.split(b" ")[0].strip().upper()
            if command == b"RCPT":
                recipients.append(line.partition(b"<")[2].partition(b">")[0].decode())
                self._say("250 a recipient")
            elif command == b"DATA":
                self._say("354 go on")
                message, key = self._message()
                if message is None:
                    return
                for recipient in recipients:
                    self._say(_LMTP_ANSWERS[receiver.receive(message, key, recipient)])
                recipients = []
            elif command == b"QUIT":
                self._say("221 bye")
                return
            else:
                recipients = [] if command in (b"RSET", b"LHLO", b"MAIL") else recipients
                self._say("250 yes")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(text.encode() + b"\r\n")

    def _message(self) -> tuple[bytes | None, str]:
        """Read a message; return it as it was before it was sent, and its key.

        None: the client died before the end of the message.
        """
        text = b""
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return None, ""
            text += line.removeprefix(b".").replace(b"\r\n", b"\n")
        key = _KEY.search(text)
        return _KEY.sub(b"", text, count=1), key[1].decode() if key else ""


_LMTP_ANSWERS = {DONE: "250 taken", RETRY: "451 not now", REJECT: "550 never"}
_HTTP_ANSWERS = {DONE: 200, RETRY: 503, REJECT: 422}


class _LmtpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    receiver: Receiver

    def handle_error(self, *_request: object) -> None:
        """Say nothing: a client that was killed resets its connection."""


class _Http(http.server.BaseHTTPRequestHandler):
    """One connection of HTTP."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Receive one entry."""
        length = int(self.headers["Content-Length"])
        message = self.rfile.read(length)
        if len(message) < length:  # the client died
            self.close_connection = True
            return
        receiver = cast("_HttpServer", self.server).receiver
        word = receiver.receive(message, self.headers.get("Idempotency-Key", ""))
        with contextlib.suppress(OSError):
            self.send_response(_HTTP_ANSWERS[word])
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    receiver: Receiver

    def handle_error(self, *_request: object) -> None:
        """Say nothing, as above."""


@contextlib.contextmanager
def lmtp(root: str) -> Iterator[None]:
    """Serve LMTP on a port of the loopback interface, which `port_of` returns.

    The path of a socket in a run's directory might be too long for the kernel.
    """
    server = _LmtpServer(("127.0.0.1", 0), _Lmtp)
    server.receiver = Receiver(root)
    _note_port(root, server)
    with _serving(server):
        yield


@contextlib.contextmanager
def http_post(root: str) -> Iterator[None]:
    """Serve HTTP on a port of the loopback interface, which `port_of` returns."""
    server = _HttpServer(("127.0.0.1", 0), _Http)
    server.receiver = Receiver(root)
    _note_port(root, server)
    with _serving(server):
        yield


def _note_port(root: str, server: socketserver.TCPServer) -> None:
    with open(os.path.join(root, "port"), "w", encoding="ascii") as file:
        file.write(str(server.server_address[1]))


def port_of(root: str) -> str:
    """Return the port of a run's server."""
    with open(os.path.join(root, "port"), encoding="ascii") as file:
        return file.read()


@contextlib.contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
