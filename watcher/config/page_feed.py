"""What the daemon tells the process that serves the page: which queues it serves, as JSON.

Handlers are left out: their environment may hold secrets, and the page needs none of it.
Guarantees: names and paths that are not UTF-8 come back as they were.
Fails: `decode` raises ValueError.
"""

from __future__ import annotations

import json

import msgspec

from watcher.config.queue_settings import Queue

LARGEST = 64 << 20  # bytes


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon, and its queues; sent anew, whole, whenever one of them changes."""

    process: int
    host: str
    user: str
    started: float  # seconds since the epoch
    version: str
    address: str  # as `HttpAddress` shows it, with the port that was bound
    host_names: list[str] | None = None  # what a header Host may say; None: anything
    token: str = ""
    queues: list[Queue] = []


def encode(feed: Feed) -> bytes:
    """Return one line of JSON."""
    queues = [msgspec.structs.replace(each, handler=None) for each in feed.queues]
    bare = msgspec.structs.replace(feed, queues=queues)
    return json.dumps(msgspec.to_builtins(bare)).encode("ascii") + b"\n"


def decode(data: bytes) -> Feed:
    """Read what `encode` wrote."""
    return msgspec.convert(json.loads(data), Feed)
