"""The handler under torture: checks the message, and logs its begin and its end.

As a Python handler `watcher.torture.checking_handler:handle`; as a command `python -P -m
watcher.torture.checking_handler`. `event_log.opened` reads from the environment where the logs
are, and the number of the process that the torture started: the daemon or the sweep.
Both lines are written while the entry is claimed: two handlings of one entry must not overlap.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from watcher.torture.event_log import HANDLED, opened
from watcher.torture.test_message import answer_for, seconds_for, whole

if TYPE_CHECKING:
    from watcher.handle.entry import Entry

AGAIN = 0.3  # seconds until the next attempt


def handle(entry: Entry) -> None:
    """Answer as the message asks for (see `test_message.answer_for`)."""
    from watcher.handle.handler import Reject, Retry

    answer = work(entry.message, entry.metadata, entry.name, entry.attempt)
    if answer == "retry":
        raise Retry("the torture asks for another attempt", after=AGAIN)
    if answer != "done":
        raise Reject("the torture rejects it" if answer == "reject" else "torn")


def work(message: bytes, metadata: object, name: str, attempt: int) -> str:
    """Check the message, log the begin and the answer; return the answer."""
    with opened(HANDLED) as log:
        number = whole(message, metadata)
        if number is None:
            log.write("torn", "-", name)
            return "torn"
        log.write("begin", number, name)
        time.sleep(seconds_for(number))
        answer = answer_for(number, attempt)
        log.write(answer, number, name)
        return answer


def main() -> int:
    """Run as a command: the message on standard input, the rest in the environment."""
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
