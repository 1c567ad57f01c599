"""A writer under torture: it commits numbered entries by every protocol, until it is killed.

    python -P -m watcher.torture.writer QUEUE LOGS PROCESS SEED

For each entry it logs `begun`, commits the entry, and logs `accepted`: the account compares these
lines with what became of the entries. A kill or a reader may come in the pauses between the steps
of a commit. The protocols (docs/design.md, "Commit protocols") are named after Mailman versions and
make the same system calls. A message is written in pieces, so that the handler recognizes
an entry that was taken too early.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import pickle
import random
import sys
import time
from collections.abc import Callable

from watcher import commit_one
from watcher.torture.event_log import FULL, WRITERS, EventLog
from watcher.torture.test_message import Message, compose

MARSHAL_VERSION = 2  # what Python 2.5 to 2.7 wrote
_SIZES = ((200, 60), (5_000, 25), (70_000, 14), (1_000_000, 1))  # (bytes at most, weight)
ENQUEUE, IN_PLACE = "enqueue", "2.0.8"
_HOW_OFTEN = {ENQUEUE: 4, IN_PLACE: 2, "2.0.13": 2, "2.1.4": 2, "2.1.5": 2}
PIECES = 3  # writes for one message
_HESITATES = 0.3  # how often it pauses

Pause = Callable[[], None]


def main(queue: str, logs: str, process: str, seed: str) -> None:
    """Commit entries until this process is killed."""
    chance = random.Random(f"{seed} {process}")  # noqa: S311 - moments and sizes, no secrets
    log = EventLog(logs, WRITERS, int(process))
    full = os.path.join(logs, FULL)

    def pause() -> None:
        if chance.random() < _HESITATES:
            time.sleep(chance.random() * chance.choices((0.02, 0.3), (4, 1))[0])

    count = 0
    while True:
        while os.path.exists(full):
            time.sleep(0.02)
        count += 1
        size = chance.choices([size for size, _ in _SIZES], [often for _, often in _SIZES])[0]
        post = compose(f"{process}.{count}", chance.randbytes(chance.randrange(size)))
        protocol = chance.choices(list(_HOW_OFTEN), list(_HOW_OFTEN.values()))[0]
        _commit(queue, log, protocol, post, pause)
        time.sleep(chance.random() * 0.03)


def _commit(queue: str, log: EventLog, protocol: str, post: Message, pause: Pause) -> None:
    digest = hashlib.sha1(post.message, usedforsecurity=False).hexdigest()
    name = digest if protocol.startswith("2.0") else f"{time.time():.6f}+{digest}"
    log.write("begun", post.number, f"{protocol}/{name}")
    if protocol == ENQUEUE:
        name = commit_one.enqueue(queue, post.message, post.metadata)
    else:
        PROTOCOLS[protocol](os.path.join(queue, name), post, pause)
    log.write("accepted", post.number, f"{protocol}/{name}")


def commit_2_0_8(path: str, post: Message, pause: Pause) -> None:
    """Write the metadata, then the message, both in place."""
    _write(path + ".db", _marshalled(post), pause)
    pause()
    _write(path + ".msg", post.message, pause)


def commit_2_0_13(path: str, post: Message, pause: Pause) -> None:
    """Write the metadata in place, then rename the message in."""
    _write(path + ".db", _marshalled(post), pause)
    pause()
    _rename_in(path + ".msg", post.message, pause)


def commit_2_1_4(path: str, post: Message, pause: Pause) -> None:
    """Write the message in place, one pickle, then rename the metadata in."""
    text = post.message  # a str of Python 2 in protocol 1, which Python 3 cannot write
    pickled = b"T" + len(text).to_bytes(4, "little") + text + b"q\x00."
    _write(path + ".pck", pickled, pause)
    pause()
    _rename_in(path + ".db", _marshalled(post), pause)


def commit_2_1_5(path: str, post: Message, pause: Pause) -> None:
    """Rename one file of two pickles in."""
    both = pickle.dumps(post.message) + pickle.dumps(post.metadata)
    _rename_in(path + ".pck", both, pause)


PROTOCOLS: dict[str, Callable[[str, Message, Pause], None]] = {
    IN_PLACE: commit_2_0_8,
    "2.0.13": commit_2_0_13,
    "2.1.4": commit_2_1_4,
    "2.1.5": commit_2_1_5,
}


def _write(path: str, data: bytes, pause: Pause) -> None:
    step = len(data) // PIECES + 1
    with open(path, "wb", buffering=0) as file:
        for start in range(0, len(data), step):
            file.write(data[start : start + step])
            pause()


def _rename_in(path: str, data: bytes, pause: Pause) -> None:
    _write(path + ".tmp", data, pause)
    os.rename(path + ".tmp", path)


def _marshalled(post: Message) -> bytes:
    """Return the metadata as Python 2 wrote it, with bytes for text."""
    texts = {key.encode(): str(value).encode() for key, value in post.metadata.items()}
    return marshal.dumps(texts, MARSHAL_VERSION)


if __name__ == "__main__":
    main(*sys.argv[1:])
