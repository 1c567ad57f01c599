"""The handler of chaos: `chaos.handler:handle`, called by many threads of many daemons.

It logs the entry before it answers. It also holds a temporary file open, and checks that its
descriptor was not closed and reused by another thread. Seed, token and attempt determine the
answer: done, retry, an exception, reject, or the end of the whole process. With CHAOS_DRAIN in the
environment the answer is always done; with CHAOS_GENTLE it never ends the process.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from typing import TYPE_CHECKING

from chaos.test_message import token_of
from watcher.handle.handler import Reject, Retry
from watcher.torture.event_log import HANDLED, opened

if TYPE_CHECKING:
    from watcher.handle.entry import Entry

SEED, DRAIN, GENTLE = "CHAOS_SEED", "CHAOS_DRAIN", "CHAOS_GENTLE"
_SLOWEST = 0.03  # seconds
_ANSWERS = (("done", 0.72), ("retry", 0.84), ("raise", 0.90), ("reject", 0.97), ("crash", 0.973))


def handle(entry: Entry) -> None:
    """Handle one entry; returns only if the answer is done, after logging it."""
    token, whole = token_of(entry.message)
    name = entry.name
    if not whole:
        _log("torn", token, name)
        raise Reject("torn")
    _log("begin", token, name)
    chance = random.Random(f"{os.environ[SEED]} {token} {entry.attempt}")
    _hold_a_file(token, name, chance.random() * _SLOWEST)
    answer = _answer(chance.random(), entry.attempt)
    _log(answer, token, name)
    if answer == "crash":
        os._exit(1)
    if answer == "retry":
        raise Retry("chaos asks for another attempt", after=0.2)
    if answer == "raise":
        raise ValueError(token)
    if answer == "reject":
        raise Reject("chaos rejects it")


def _log(what: str, token: str, name: str) -> None:
    """Write a line. The log is opened for it: no descriptor is held between two lines."""
    with opened(HANDLED, synced=False) as log:
        log.write(what, token, name)


def _answer(chance: float, attempt: int) -> str:
    if os.environ.get(DRAIN):
        return "done"
    answer = next((answer for answer, below in _ANSWERS if chance < below), "done")
    if answer == "crash" and (attempt > 1 or os.environ.get(GENTLE)):
        return "done"
    return answer


def _hold_a_file(token: str, name: str, seconds: float) -> None:
    """Write a temporary file and read it back: shows if another thread closed its descriptor."""
    try:
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(token.encode())
            time.sleep(seconds)
            file.seek(0)
            found = file.read()
    except OSError as error:
        _log("overwritten", token, f"{name}:{error.strerror}")
        return
    if found != token.encode():
        _log("overwritten", token, name)
