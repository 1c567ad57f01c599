"""A mail server of a test's own: what it answers is scripted, what it accepted is kept.

`server.answers[VERB]` is called with what stands behind the verb, and returns the reply, None for
the usual one, or CLOSE. Verbs are those of SMTP, GREETING, and END (called with one recipient, or
with all of them if the server is no LMTP server).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from typing import NamedTuple

CLOSE = b""


class Accepted(NamedTuple):
    """A message that was accepted for one recipient."""

    sender: str
    recipient: str
    data: bytes

    @property
    def key(self):
        return self.data.partition(b"\r\n")[0].removeprefix(b"X-Watcher-Key: ").decode()


class MailServer:
    """Serves each connection in a thread."""

    def __init__(self, *, lmtp=False, features=("SIZE 9999999", "8BITMIME"), context=None):
        self.lmtp = lmtp
        self.features = features
        self.context = context
        self.implicit = False
        self.answers = {}
        self.accepted = []
        self.commands = []
        self.connections = 0
        self.conversation = None  # the last one
        self.closed = threading.Semaphore(0)  # released when a client is gone
        self.open = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def recipients(self):
        """To whom something was delivered, in order."""
        return [each.recipient for each in self.accepted]

    def waiting(self):
        """Return what the server's one client has sent and the server has not read."""
        return self.conversation.lines.peek()

    def close(self):
        """Stop; hang up on every client."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.hang_up()
        self._thread.join()

    def hang_up(self):
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        self.open.add(connection)
        with contextlib.suppress(OSError, ValueError):
            if self.implicit:
                connection = self.wrap(connection)
            conversation = self.conversation = Conversation(self, connection)
            try:
                conversation.run()
            finally:
                connection = conversation.connection
                conversation.lines.close()
        self.open.discard(connection)
        with contextlib.suppress(OSError):
            connection.close()
        self.closed.release()

    def wrap(self, connection):
        self.open.discard(connection)
        wrapped = self.context.wrap_socket(connection, server_side=True)
        self.open.add(wrapped)
        return wrapped


class Conversation:
    """One connection."""

    def __init__(self, server, connection):
        self.server = server
        self.connection = connection
        self.lines = connection.makefile("rb")
        self.sender, self.recipients = "", []

    def choose(self, verb, argument, usual):
        """Return the reply, without sending it."""
        answer = self.server.answers.get(verb)
        reply = None if answer is None else answer(argument)
        return usual if reply is None else reply

    def say(self, verb, argument, usual):
        """Answer; return the reply. A reply of CLOSE, and 421, end the connection."""
        return self.send(self.choose(verb, argument, usual))

    def send(self, reply):
        if reply == CLOSE:
            raise ValueError
        self.connection.sendall(reply if reply.endswith(b"\n") else reply + b"\r\n")
        if reply.startswith(b"421"):
            raise ValueError
        return reply

    def run(self):
        self.say("GREETING", "", b"220 here")
        while line := self.lines.readline():
            text = line.decode().rstrip("\r\n")
            self.server.commands.append(text)
            verb, _, argument = text.partition(" ")
            act = VERBS.get(verb.upper(), Conversation.other)
            act(self, verb.upper(), argument)

    def ehlo(self, verb, argument):
        names = ("here", *self.server.features)
        usual = "".join(f"250-{name}\r\n" for name in names[:-1]) + f"250 {names[-1]}"
        wrong = (verb == "LHLO") != self.server.lmtp
        self.say(verb, argument, b"500 what?" if wrong else usual.encode())

    def starttls(self, verb, argument):
        if self.say(verb, argument, b"220 go on").startswith(b"220"):
            self.connection = self.server.wrap(self.connection)
            self.lines = self.connection.makefile("rb")

    def mail(self, verb, argument):
        self.sender, self.recipients = _address(argument), []
        self.say(verb, self.sender, b"250 ok")

    def rcpt(self, verb, argument):
        recipient = _address(argument)
        if self.say(verb, recipient, b"250 ok").startswith(b"2"):
            self.recipients.append(recipient)

    def auth(self, verb, argument):
        self.say(verb, argument, b"235 ok")

    def quit(self, verb, argument):
        self.say(verb, argument, b"221 bye")
        raise ValueError

    def other(self, verb, argument):
        self.say(verb, argument, b"250 ok")

    def data(self, verb, argument):
        if self.say(verb, argument, b"354 go on").startswith(b"354"):
            self.message()

    def message(self):
        data = b""
        while (line := self.lines.readline()) != b".\r\n":
            if not line:
                raise ValueError
            data += line[1:] if line.startswith(b".") else line
        groups = [[each] for each in self.recipients] if self.server.lmtp else [self.recipients]
        for group in groups:
            argument = group[0] if self.server.lmtp else group
            reply = self.choose("END", argument, b"250 taken")
            if reply.startswith(b"2"):  # kept before the client knows it, as a real server does
                self.server.accepted += [Accepted(self.sender, each, data) for each in group]
            self.send(reply)


VERBS = {
    "EHLO": Conversation.ehlo,
    "LHLO": Conversation.ehlo,
    "STARTTLS": Conversation.starttls,
    "MAIL": Conversation.mail,
    "RCPT": Conversation.rcpt,
    "DATA": Conversation.data,
    "AUTH": Conversation.auth,
    "QUIT": Conversation.quit,
}


def _address(argument):
    return argument.partition("<")[2].partition(">")[0]


def certificate(directory, name="localhost"):
    """Make a certificate for a name; return its file, which has the key too."""
    file = directory / f"{name}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
                "-keyout",
                file,
                "-out",
                f"{file}.crt",
            ),
            *(
                "-addext",
                f"subjectAltName=DNS:{name}" + (",IP:127.0.0.1" if name == "localhost" else ""),
            ),
        ],
        check=True,
        capture_output=True,
    )
    with open(file, "a") as both, open(f"{file}.crt") as crt:
        both.write(crt.read())
    return file


def server_context(file):
    """Return the TLS of a server that has a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
