"""One connection to a mail server, until a transaction may begin: greeting, TLS, login; replies.

smtplib has the protocol (EHLO, AUTH). What it lacks is here: a deadline that bounds all calls
together, so that a server that sends a byte a second holds no worker for ever; and replies whose
size is bounded.
Guarantees: no text that came before TLS is read as if it came after it. No password is in an error.
Fails: Trouble, which says what that means for every recipient without an outcome. The connection is
then of no use. The look-up of a name has the resolver's own time limit, and not the deadline.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from watcher.durations import show
from watcher.errors import one_line
from watcher.rules.mail_replies import Fate, Outcome, Reply, Stage, meaning
from watcher.rules.server_address import ServerAddress

LONGEST_LINE = 4096  # bytes; RFC 5321 has 512
MOST_LINES = 128  # of one reply
CHUNK = 64 << 10  # bytes that are sent under one look at the clock
GOODBYE = 0.2  # seconds for QUIT, whose reply is not waited for


class Trouble(Exception):
    """Something that concerns no recipient alone; the text says what."""

    def __init__(self, fate: Fate, why: str) -> None:
        super().__init__(why)
        self.outcome = Outcome(fate, why, general=True)


class ServerGone(Trouble):
    """The server closed an old connection before it took a message on it."""


class Access(NamedTuple):
    """How a connection is made: to where, and with what."""

    address: ServerAddress
    lmtp: bool
    tls: str  # "starttls", "implicit" or "none"
    context: ssl.SSLContext | None
    login: tuple[str, str] | None  # user and password


class MailConnection(smtplib.SMTP):
    """One connection. Used by one thread at a time, but for `interrupt`."""

    def __init__(self, access: Access) -> None:
        super().__init__(local_hostname=own_name(local=access.address.is_local))
        self.access = access
        self.ehlo_msg = "lhlo" if access.lmtp else "ehlo"
        self.deadline = 0.0  # of the monotonic clock; set before each use
        self.limit = 0.0  # seconds of the whole attempt, for messages
        self.transactions = 0
        self.idle_since = 0.0
        self.usable = False  # whether another transaction may begin
        self.stage = Stage.GREETING
        self._received = bytearray()
        self._secrets = () if access.login is None else _forms_of(*access.login)

    # -- from the connection to QUIT ----------------------------------------------------------

    def open(self, deadline: float, limit: float) -> None:
        """Connect, greet, begin TLS and log in, as configured; raise Trouble."""
        self.deadline, self.limit = deadline, limit
        try:
            with self.troubles():
                self._open()
        except Trouble:
            self.close()
            raise
        self.usable = True

    def _open(self) -> None:
        access = self.access
        self._connect()
        if access.tls == "implicit":
            self._wrap()
        self.expect(Stage.GREETING, self.reply())
        self._hello()
        if access.tls == "starttls":
            if not self.has_extn("starttls"):
                raise Trouble(Fate.OPERATOR, "the server offers no STARTTLS; see `tls`")
            self.expect(Stage.TLS, self.ask(Stage.TLS, b"STARTTLS"))
            if self._received:
                raise Trouble(Fate.OPERATOR, "text came between the server's STARTTLS and TLS")
            self._wrap()
            self._hello()
        if access.login is not None:
            self.stage = Stage.AUTH
            self.login(*access.login)

    def _connect(self) -> None:
        host, port, path = self.access.address
        if path:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._hurry()
            self.sock.connect(path)
            return
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(found, 1):
            self.sock = socket.socket(family, kind, protocol)
            try:
                self._hurry()
                self.sock.connect(address)
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                self.sock.close()
                if number == len(found):
                    raise
            else:
                return

    def _wrap(self) -> None:
        if self.access.context is None or self.sock is None:
            raise Trouble(Fate.OPERATOR, "TLS is not configured")
        self._hurry()
        name = self.access.address.host or None
        self.sock = self.access.context.wrap_socket(self.sock, server_hostname=name)

    def _hello(self) -> None:
        self.stage = Stage.HELLO
        self.helo_resp = self.ehlo_resp = None  # what was said before TLS counts no more
        self.esmtp_features = {}
        self.does_esmtp = False
        reply = _reply_of(*self.ehlo())
        if meaning(Stage.HELLO, reply).fate is Fate.OPERATOR and not self.access.lmtp:
            reply = _reply_of(*self.helo())
        self.expect(Stage.HELLO, reply)

    def is_quiet(self) -> bool:
        """Whether the server has neither closed nor said anything since the last reply."""
        if self.sock is None or self._received:
            return False
        try:
            self.sock.settimeout(0.0)
            self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def leave(self) -> None:
        """Say QUIT without waiting for the reply, and close."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.settimeout(GOODBYE)
                self.sock.sendall(b"QUIT\r\n")
        self.close()

    def interrupt(self) -> None:
        """Make every call of another thread fail at once."""
        used = self.sock
        if used is not None:
            with contextlib.suppress(OSError):  # not SSLSocket's own, which forgets its TLS
                socket.socket.shutdown(used, socket.SHUT_RDWR)

    # -- commands and replies -----------------------------------------------------------------

    def ask(self, stage: Stage, command: bytes, *, sent: bool = False) -> Reply:
        """Send a command, unless it was `sent` ahead, and return the reply."""
        self.stage = stage
        if not sent:
            self.send(command + b"\r\n")
        return self.reply()

    def expect(self, stage: Stage, reply: Reply) -> None:
        """Raise Trouble for a reply that is not fine."""
        found = meaning(stage, reply)
        if found.fate is not Fate.FINE:
            raise Trouble(found.fate, f"{stage.value}: {reply}")

    def send(self, s: object) -> None:
        """Send bytes or ASCII text before the deadline (called by smtplib too)."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        data = memoryview(s if isinstance(s, bytes) else str(s).encode("ascii"))
        for start in range(0, len(data), CHUNK):
            self._hurry()
            self.sock.sendall(data[start : start + CHUNK])

    def getreply(self) -> tuple[int, bytes]:
        """Return the next reply: its code and its lines (called by smtplib too)."""
        lines: list[bytes] = []
        while True:
            line = self._line()
            if not line[:3].isdigit() or line[3:4] not in (b"", b" ", b"-"):
                self._nonsense(line)
            lines.append(line[4:].strip())
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(lines)
            if len(lines) >= MOST_LINES:
                self._nonsense(b"a reply without end")

    def reply(self) -> Reply:
        """Return the next reply."""
        return _reply_of(*self.getreply())

    def _line(self) -> bytes:
        received = self._received
        while (end := received.find(b"\n")) < 0:
            if len(received) > LONGEST_LINE:
                self._nonsense(b"a line without end")
            if self.sock is None:
                raise smtplib.SMTPServerDisconnected("the connection is closed")
            self._hurry()
            more = self.sock.recv(LONGEST_LINE)
            if not more:
                raise smtplib.SMTPServerDisconnected("the server closed the connection")
            received += more
        line = bytes(received[:end])
        del received[: end + 1]
        for secret in self._secrets:  # a server may repeat it, and its text is in reasons and logs
            line = line.replace(secret, b"[password]")
        return line.rstrip(b"\r")

    def _nonsense(self, line: bytes) -> NoReturn:
        shown = one_line(line[:60].decode("utf-8", "backslashreplace"))
        why = f"{self.stage.value}: no reply of a mail server: {shown}{self._doubt()}"
        raise Trouble(Fate.LATER, why)

    def _hurry(self) -> None:
        """Let the next call of the socket end at the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self.sock is not None:
            self.sock.settimeout(left)

    @contextlib.contextmanager
    def troubles(self) -> Iterator[None]:
        """Turn what smtplib, TLS and sockets raise into Trouble."""
        try:
            yield
        except Trouble:
            raise
        except smtplib.SMTPAuthenticationError as error:
            reply = _reply_of(error.smtp_code, error.smtp_error)
            found = meaning(Stage.AUTH, reply)
            raise Trouble(found.fate, f"AUTH: {reply}") from None
        except smtplib.SMTPNotSupportedError as error:
            raise Trouble(Fate.OPERATOR, f"AUTH: {error}") from None
        except ssl.SSLCertVerificationError as error:
            why = f"TLS: {error.verify_message}; see `ca_file`"
            raise Trouble(Fate.OPERATOR, why) from None
        except TimeoutError:
            late = f"timeout: no answer to {self.stage.value} in {show(self.limit)}"
            raise Trouble(Fate.LATER, late + self._doubt()) from None
        except (OSError, smtplib.SMTPException, ValueError, MemoryError) as error:
            words = one_line(getattr(error, "strerror", None) or str(error) or repr(error))
            why = f"{self.stage.value}: {words}{self._doubt()}"
            raise Trouble(Fate.LATER, why) from None

    def _doubt(self) -> str:
        """Say that the server may have accepted the message, if it may."""
        return "; it may be accepted all the same" if self.stage is Stage.END else ""


@functools.cache
def own_name(*, local: bool) -> str:
    """Return the name that EHLO says; for another machine it is looked up, once."""
    name = socket.gethostname()
    name = name if local or "." in name else socket.getfqdn()
    return name if name.isascii() and name.isprintable() and " " not in name else "localhost"


def _forms_of(user: str, password: str) -> tuple[bytes, ...]:
    """Return a password as it is sent, and as it is written."""
    plain = password.encode()
    both = b"\0%s\0%s" % (user.encode(), plain)
    return (plain, base64.b64encode(plain), base64.b64encode(both))


def _reply_of(code: int, text: bytes | str) -> Reply:
    words = text if isinstance(text, str) else text.decode("utf-8", "backslashreplace")
    return Reply(code, one_line(" ".join(words.split("\n"))))
