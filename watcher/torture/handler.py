"""The handler under torture: checks the message, and notes in the books that it began and ended.

As a python handler `watcher.torture.handler:handle`; as a command `python -m
watcher.torture.handler`. TORTURE_BOOKS and TORTURE_WHO in the environment say where the books are
and which process of the storm has started us, or started the daemon that did.
Both lines are written while the entry is claimed, so two handlings of one entry never overlap.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from watcher.torture.books import HANDLED, Book
from watcher.torture.letter import slow, whole, wish

if TYPE_CHECKING:
    from watcher.entry import Entry

BOOKS, WHO = "TORTURE_BOOKS", "TORTURE_WHO"
AGAIN = 0.3  # seconds until the next attempt at what is to be tried again


def handle(entry: Entry) -> None:
    """Answer as the number of the message wishes."""
    from watcher.handle.outcome import Reject, Retry

    answer = work(entry.message, entry.metadata, entry.name, entry.attempt)
    if answer == "retry":
        raise Retry("the torture asks for another attempt", after=AGAIN)
    if answer != "done":
        raise Reject("the torture rejects it" if answer == "reject" else "torn")


def work(message: bytes, metadata: object, name: str, attempt: int) -> str:
    """Note what was seen and what is answered; return the answer."""
    book = Book(os.environ[BOOKS], HANDLED, int(os.environ[WHO]))
    try:
        number = whole(message, metadata)
        if number is None:
            book.write("torn", "-", name)
            return "torn"
        book.write("begin", number, name)
        time.sleep(slow(number))
        answer = wish(number, attempt)
        book.write(answer, number, name)
        return answer
    finally:
        book.close()


def main() -> int:
    """Be the command: the message on standard input, the rest in the environment."""
    environment = os.environ
    if "WATCHER_METADATA_FILE" in environment:
        with open(environment["WATCHER_METADATA_FILE"], encoding="utf-8") as file:
            metadata = json.load(file)
    else:
        metadata = json.loads(environment["WATCHER_METADATA"])
    message = sys.stdin.buffer.read()
    attempt = int(environment["WATCHER_ATTEMPT"])
    answer = work(message, metadata, environment["WATCHER_ENTRY"], attempt)
    codes = {"done": os.EX_OK, "retry": os.EX_TEMPFAIL}
    return codes.get(answer, os.EX_DATAERR)


if __name__ == "__main__":
    sys.exit(main())
