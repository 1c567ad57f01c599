"""Mailman 3's Switchboard with its runner's loop: list, dequeue, dispose, finish; then sleep 1 s.

The loop is the runner's without its database and its mailing list, which cost the real one more.
"""

from __future__ import annotations

import time
from email import message_from_bytes

from mailman.core.switchboard import Switchboard  # type: ignore[import-not-found]
from mailman.email.message import Message  # type: ignore[import-not-found]

from bench.peers import contract

SLEEP = 1.0  # seconds: `sleep_time` of every runner in Mailman's own configuration


class Runner:
    """One queue directory."""

    def __init__(self, directory: str) -> None:
        self._switchboard = Switchboard("bench", directory, recover=True)

    def put(self, data: bytes) -> None:
        """Commit a message as the web and the LMTP front ends do."""
        head = b"From: ann@example.com\nTo: test@example.com\nSubject: "
        letter = message_from_bytes(head + data, Message)
        self._switchboard.enqueue(letter, listid="test.example.com")

    def serve(self, notes: contract.Notes) -> None:
        """Take what is there, then sleep, until all have come."""
        while not notes.full:
            files = self._switchboard.files
            for filebase in files:
                self._switchboard.dequeue(filebase)
                notes.handle(contract.moment_of(filebase))
                self._switchboard.finish(filebase)
            if not files:
                time.sleep(SLEEP)


if __name__ == "__main__":
    contract.main(Runner)
