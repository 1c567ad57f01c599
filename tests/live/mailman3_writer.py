"""Enqueue through Mailman 3's own Switchboard; run by the Python of `.venv-mailman`.

    mailman3_writer.py DIRECTORY COUNT

Prints one JSON line for each message that `enqueue` has taken: its file's name without suffix, the
sha256 of the message's bytes as Mailman renders them, and the metadata it was given.
"""

import hashlib
import json
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage

from mailman.core.switchboard import Switchboard
from mailman.email.message import Message


def plain(number: int) -> bytes:
    return (
        b"From: ann@example.com\nTo: test@example.com\nSubject: plain %d\n"
        b"Message-ID: <plain-%d@example.com>\n\nFrom here on: line one\n.\nend\n" % (number, number)
    )


def eight_bit(number: int) -> bytes:
    return (
        f"From: bj\u00f8rn@example.com\nSubject: caf\u00e9 {number}\n"
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
        f"\nna\u00efve \u2603 {number}\n"
    ).encode()


def with_attachment(number: int) -> bytes:
    message = EmailMessage(policy=policy.default)
    message["From"] = "ann@example.com"
    message["Subject"] = (
        f"a long subject with an attachment, folded by its writer \u2192 {number} " * 2
    )
    message.set_content("see the attachment\n")
    message.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream")
    return message.as_bytes()


def broken(number: int) -> bytes:
    return b"no header at all, number %d\nSubject: not one either\n\xff\xfe\n" % number


SHAPES = (plain, eight_bit, with_attachment, broken)


def main(directory: str, count: int) -> None:
    switchboard = Switchboard("live", directory)
    for number in range(count):
        message = message_from_bytes(SHAPES[number % len(SHAPES)](number), Message)
        metadata = {
            "listid": "test.example.com",
            "number": number,
            "recipients": ["m1@example.com", "m\u00fc@example.org"],
            "original_sender": None,
            "nested": {"size": 1.5, "big": 2**70, "flag": True},
        }
        name = switchboard.enqueue(message, metadata)
        digest = hashlib.sha256(message.as_bytes()).hexdigest()
        told = {"entry": name, "sha256": digest, "metadata": metadata}
        print(json.dumps(told), flush=True)


main(sys.argv[1], int(sys.argv[2]))
