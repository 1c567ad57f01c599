"""One transaction on an open connection: MAIL, RCPT, DATA, and the replies after the message.

LMTP has one reply after the message for each recipient that was taken; smtplib reads one and takes
it for all of them.
Guarantees: each recipient's outcome is written down as soon as its reply is there, so that no error
loses one. Dots are doubled, and every line ends with CRLF: nothing in a message is a command.
Fails: Trouble, for all recipients that have no outcome yet.
"""

from __future__ import annotations

import collections
import re
import smtplib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from watcher.handle.mail.mail_connection import MailConnection, ServerGone, Trouble
from watcher.rules.mail_replies import ACCEPTED, Fate, Outcome, Reply, Stage, meaning, too_many

_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_DOT = re.compile(rb"^\.", re.MULTILINE)
_CLOSING = 421
_DIGITS = 18  # of a size that a server may name

Outcomes = dict[str, Outcome]


class Letter(NamedTuple):
    """A message as it is sent: lines that end with CRLF; dots are not doubled yet."""

    sender: str
    data: bytes


def prepared(message: bytes, key: str) -> bytes:
    """Return a message as it is sent: with the key above it, and CRLF at the end of each line."""
    if message.startswith(b"From "):  # the first line of an mbox is no header
        message = message.partition(b"\n")[2]
    above = b"X-Watcher-Key: %s\r\n" % key.encode()
    if message[:1] in (b" ", b"\t"):  # no header: it must not become part of ours
        above += b"\r\n"
    data = above + _LINE_ENDS.sub(b"\r\n", message)
    return data if data.endswith(b"\r\n") else data + b"\r\n"


def transact(
    connection: MailConnection, letter: Letter, recipients: Sequence[str], outcomes: Outcomes
) -> None:
    """Send a message to recipients; write what became of each into `outcomes`.

    Those without an outcome afterwards belong into another transaction. Raises Trouble.
    """
    fresh = connection.transactions == 0
    connection.transactions += 1
    connection.usable = False
    with connection.troubles():
        recipients = _sendable(connection, letter, recipients, outcomes)
        if not recipients:
            connection.usable = True
            return
        ahead = connection.has_extn("pipelining")
        commands = [_mail(connection, letter, recipients)]
        commands += [b"RCPT TO:<%s>" % each.encode() for each in recipients]
        replies = _replies(connection, commands, ahead=ahead)
        taken: Sequence[str] = ()
        if (refused := _refusal(connection, replies, fresh=fresh)) is None:
            taken = _taken(recipients, replies, outcomes)
        else:
            outcomes.update(dict.fromkeys(recipients, refused))
            collections.deque(replies if ahead else (), maxlen=0)  # the RCPTs are answered too
        if taken:
            _send(connection, letter, taken, outcomes)
        else:
            _reset(connection)


def _sendable(
    connection: MailConnection, letter: Letter, recipients: Sequence[str], outcomes: Outcomes
) -> Sequence[str]:
    """Refuse what this server cannot take, before anything is sent."""
    size = connection.esmtp_features.get("size", "")
    limit = int(size) if size.isascii() and size.isdecimal() and len(size) <= _DIGITS else 0
    if 0 < limit < len(letter.data):
        why = f"the message has {len(letter.data):,} bytes; the server takes {limit:,} at most"
    elif connection.has_extn("smtputf8"):
        return recipients
    elif not letter.sender.isascii():
        why = "the sender is not ASCII, and the server offers no SMTPUTF8"
    else:
        said = Outcome(Fate.REFUSED, "it is not ASCII, and the server offers no SMTPUTF8")
        outcomes.update({each: said for each in recipients if not each.isascii()})
        return [each for each in recipients if each.isascii()]
    outcomes.update(dict.fromkeys(recipients, Outcome(Fate.REFUSED, why)))
    return ()


def _mail(connection: MailConnection, letter: Letter, recipients: Sequence[str]) -> bytes:
    """Return the command that begins the transaction."""
    command = b"MAIL FROM:<%s>" % letter.sender.encode()
    if connection.has_extn("size"):
        command += b" SIZE=%d" % len(letter.data)
    if connection.has_extn("8bitmime") and not letter.data.isascii():
        command += b" BODY=8BITMIME"
    if not letter.sender.isascii() or not all(each.isascii() for each in recipients):
        command += b" SMTPUTF8"
    return command


def _replies(
    connection: MailConnection, commands: Sequence[bytes], *, ahead: bool
) -> Iterator[Reply]:
    """Yield the reply to MAIL, and to each RCPT; with `ahead` all are sent before the first."""
    if ahead:  # RFC 2920; 100 commands and their replies fit into the buffers of a socket
        connection.stage = Stage.MAIL
        connection.send(b"\r\n".join(commands) + b"\r\n")
    for number, command in enumerate(commands):
        yield connection.ask(Stage.RCPT if number else Stage.MAIL, command, sent=ahead)


def _refusal(
    connection: MailConnection, replies: Iterator[Reply], *, fresh: bool
) -> Outcome | None:
    """Return why the server takes no message of this sender and size; None if it does."""
    try:
        reply = next(replies)
    except (smtplib.SMTPServerDisconnected, ConnectionError) as error:
        if fresh:
            raise
        raise ServerGone(Fate.LATER, f"MAIL: {error}") from None
    if reply.code == _CLOSING and not fresh:
        raise ServerGone(Fate.LATER, f"MAIL: {reply}")
    if meaning(Stage.MAIL, reply).fate is Fate.REFUSED:
        return Outcome(Fate.REFUSED, f"MAIL: {reply}")
    connection.expect(Stage.MAIL, reply)
    return None


def _taken(
    recipients: Sequence[str], replies: Iterator[Reply], outcomes: Outcomes
) -> Sequence[str]:
    """Return the recipients that the server takes in this transaction."""
    taken: list[str] = []
    full: Outcomes = {}
    for recipient, reply in zip(recipients, replies, strict=True):
        found = meaning(Stage.RCPT, reply)
        if found.ends:
            raise Trouble(found.fate, f"RCPT: {reply}")
        if found.fate is Fate.FINE:
            taken.append(recipient)
        elif found.fate is Fate.LATER and too_many(reply):
            full[recipient] = Outcome(found.fate, str(reply))
        else:
            outcomes[recipient] = Outcome(found.fate, str(reply))
    if not taken:
        outcomes.update(full)
    return taken


def _send(
    connection: MailConnection, letter: Letter, taken: Sequence[str], outcomes: Outcomes
) -> None:
    """Send the message; read one reply for all recipients, or with LMTP one for each."""
    reply = connection.ask(Stage.DATA, b"DATA")
    found = meaning(Stage.DATA, reply)
    if found.ends:
        raise Trouble(found.fate, f"DATA: {reply}")
    if found.fate is not Fate.FINE:
        outcomes.update(dict.fromkeys(taken, Outcome(found.fate, f"DATA: {reply}")))
        _reset(connection)
        return
    text = _DOT.sub(b"..", letter.data)
    connection.stage = Stage.END
    connection.send(text + b".\r\n")
    usable = True
    for group in [[each] for each in taken] if connection.access.lmtp else [taken]:
        reply = connection.reply()
        found = meaning(Stage.END, reply)
        said = ACCEPTED if found.fate is Fate.FINE else Outcome(found.fate, str(reply))
        outcomes.update(dict.fromkeys(group, said))
        usable = usable and not found.ends
    connection.usable = usable


def _reset(connection: MailConnection) -> None:
    """End a transaction without a message; a connection that cannot is of no use any more."""
    reply = connection.ask(Stage.MAIL, b"RSET")
    connection.usable = meaning(Stage.MAIL, reply).fate is Fate.FINE
