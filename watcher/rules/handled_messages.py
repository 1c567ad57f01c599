"""When messages that are handled are removed from a stream, and how many. PURE.

A stream keeps a message that is handled: the server knows by the id of a kept message, after a
restart too, that an entry is handed over for the second time. It does so for the duplicate window;
what is handled and older serves no purpose, and would fill the stream until `max_age`. A full
stream takes no new entry.

Which messages are handled is known by the consumer alone: all up to its floor, if it delivers each
message of the stream. Whether another program has read them, its server does not say, so nothing is
removed from a stream that has another consumer, or that was not made for watcher alone.
"""

from __future__ import annotations

from typing import NamedTuple

# What the metadata of a stream says of handled messages.
KEY, REMOVE, KEEP = "watcher-handled", "remove", "keep"
LEAST, MOST = 1.0, 600.0  # seconds between two looks


class Keeping(NamedTuple):
    """What is known of a stream and its consumer; numbers of messages, times in seconds."""

    removes: bool  # the stream is one whose handled messages are removed
    consumers: int
    every_message: bool  # the consumer delivers each message, until that is acknowledged
    window: float
    first: int  # the number of the first message
    floor: int  # all messages up to this number are handled


def why_not(keeping: Keeping) -> str:
    """Return why handled messages are kept; "" if they are to be removed."""
    if not keeping.removes:
        return "the stream is not marked as one of watcher alone"
    if keeping.consumers > 1:
        return "the stream has other consumers"
    if not keeping.every_message:
        return "the consumer delivers a part of the messages"
    return ""


def pace(window: float) -> float:
    """Return the least seconds from one look to the next: what is too old is a tenth at most."""
    return min(MOST, max(LEAST, window / 10))


def kept_for(window: float) -> float:
    """Return how old a handled message is when it goes: servers' clocks may differ a little."""
    return window + min(60.0, window / 10)


def next_look(keeping: Keeping, age_of_first: float) -> float | None:
    """Return in how many seconds something is to be removed; None: when a message was handled."""
    if why_not(keeping) or keeping.first > keeping.floor:
        return None
    return max(0.0, kept_for(keeping.window) - age_of_first)


class Search:
    """Finds the last message that is old enough, with a look at a few of many.

    The messages are in the order of their times; some of them may be gone.
    """

    def __init__(self, first: int, last: int) -> None:
        """Search from `first`, which is old enough, to `last`."""
        self.found = first
        self._last = last

    def middle(self) -> int | None:
        """Return the number to look at; None: the search is over."""
        return (self.found + self._last + 1) // 2 if self.found < self._last else None

    def learn(self, asked: int, number: int, *, is_old: bool) -> None:
        """Take note of the first message from the number `asked` on."""
        if is_old and number <= self._last:
            self.found = number
        else:
            self._last = asked - 1
