"""One message of a stream as the server delivered it: what it says of its entry.

A message of another program may say anything, or nothing: each word of it is checked here.

Fails: never.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from watcher.jetstream.messages import ENTRY, ID, KEY, METADATA, QUEUE, decoded
from watcher.rules.delivery import Record

LONGEST_NAME = 255  # characters of a queue's name and of a key
DEEPEST = 100  # levels of metadata


class Position(NamedTuple):
    """Which message of a stream, and which delivery of it."""

    sequence: int
    stored_us: int  # when the server stored it, in microseconds since the epoch
    number: int  # of the delivery, from 1


class Delivery:
    """One message in hand.

    The loop's thread has it until its copy is there. Then the worker with the copy has it, and the
    loop's thread for the calls of that worker, which waits for their ends. `reply` and `number` are
    changed by the loop's thread alone, also meanwhile: the latest delivery is the one that counts.
    """

    def __init__(
        self,
        *,
        subject: str,
        reply: str,
        position: Position,
        headers: Mapping[str, str],
        payload: bytes,
    ) -> None:
        self.subject = subject
        self.reply = reply
        self.sequence, self.stored_us, self.number = position
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.payload = payload
        self.record = Record(stored_us=self.stored_us)
        self.stored = False  # whether the server has a record
        self.over = False  # whether its end is confirmed
        self.known = False  # whether its record was asked for: until then none may be stored
        self.consumer: object = None  # what delivered it (`Deliveries.consumer`)

    @property
    def identity(self) -> tuple[int, int]:
        """What no other message has: a stream that is made anew gives its numbers again."""
        return self.sequence, self.stored_us

    @property
    def name(self) -> str:
        """The entry's name; of a message of another program, its number in the stream."""
        name = decoded(self.headers.get(ENTRY.lower(), ""))
        usable = name and name not in (".", "..") and not set(name) & {"/", "\0"}
        return name if usable else str(self.sequence)

    @property
    def queue(self) -> str:
        """The queue that it was in; "" if the message does not say it."""
        queue = decoded(self.headers.get(QUEUE.lower(), ""))
        return queue if "\0" not in queue and len(queue) <= LONGEST_NAME else ""

    def key(self, stream: str) -> str:
        """Return the idempotency key: that of the message, or one made of what identifies it."""
        headers = self.headers
        own = f"{stream}.{self.sequence}.{self.stored_us}"
        key = headers.get(KEY.lower()) or headers.get(ID.lower()) or own
        if key.isascii() and key.isprintable() and len(key) <= LONGEST_NAME:
            return key
        return hashlib.sha256(key.encode()).hexdigest()  # of another program: it may be anything

    @property
    def metadata(self) -> dict[str, object]:
        """The writer's metadata, as JSON has it; {} if there is none."""
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(self.headers.get(METADATA.lower(), "{}"))
            if isinstance(found, dict) and not _is_deep(found):
                return found
        return {}


def _is_deep(value: object) -> bool:
    """Whether a value has more levels than its next reader may be able to read."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [each for one in inner for each in one if isinstance(each, dict | list)]
        if not level:
            return False
    return True
