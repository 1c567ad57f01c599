"""A writer under torture: commits numbered entries by every protocol there is, until it is killed.

    python -m watcher.torture.writer QUEUE BOOKS WHO SEED

Each entry is begun in the books, committed, and then noted as accepted: that line is the promise
that the books are balanced against. The pauses between the steps of a commit are where a kill or a
reader comes in. The system calls are those of the programs that the protocols are named after
(design section 4); message bytes are written in pieces, so that one taken too early shows.
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

from watcher import producer
from watcher.torture.books import FULL, WRITERS, Book
from watcher.torture.letter import Letter, compose

MARSHAL_VERSION = 2  # what Python 2.5 to 2.7 wrote
_SIZES = ((200, 60), (5_000, 25), (70_000, 14), (1_000_000, 1))  # bytes at most, how often
ENQUEUE, IN_PLACE = "enqueue", "2.0.8"
_HOW_OFTEN = {ENQUEUE: 4, IN_PLACE: 2, "2.0.13": 2, "2.1.4": 2, "2.1.5": 2}
PIECES = 3
_HESITATES = 0.3

Pause = Callable[[], None]


def main(queue: str, books: str, who: str, seed: str) -> None:
    """Write until killed."""
    chance = random.Random(f"{seed} {who}")  # noqa: S311 - moments and sizes, no secrets
    book = Book(books, WRITERS, int(who))
    full = os.path.join(books, FULL)

    def pause() -> None:
        if chance.random() < _HESITATES:  # mostly it goes straight on
            time.sleep(chance.random() * chance.choices((0.02, 0.3), (4, 1))[0])

    count = 0
    while True:
        while os.path.exists(full):
            time.sleep(0.02)
        count += 1
        size = chance.choices([size for size, _ in _SIZES], [often for _, often in _SIZES])[0]
        post = compose(f"{who}.{count}", chance.randbytes(chance.randrange(size)))
        protocol = chance.choices(list(_HOW_OFTEN), list(_HOW_OFTEN.values()))[0]
        _commit(queue, book, protocol, post, pause)
        time.sleep(chance.random() * 0.03)


def _commit(queue: str, book: Book, protocol: str, post: Letter, pause: Pause) -> None:
    digest = hashlib.sha1(post.message, usedforsecurity=False).hexdigest()
    name = digest if protocol.startswith("2.0") else f"{time.time():.6f}+{digest}"
    book.write("begun", post.number, f"{protocol}/{name}")
    if protocol == ENQUEUE:
        name = producer.enqueue(queue, post.message, post.metadata)
    else:
        PROTOCOLS[protocol](os.path.join(queue, name), post, pause)
    book.write("accepted", post.number, f"{protocol}/{name}")


def commit_2_0_8(path: str, post: Letter, pause: Pause) -> None:
    """Write the metadata, then the message, both in place."""
    _write(path + ".db", _marshalled(post), pause)
    pause()
    _write(path + ".msg", post.message, pause)


def commit_2_0_13(path: str, post: Letter, pause: Pause) -> None:
    """Write the metadata in place, then rename the message in."""
    _write(path + ".db", _marshalled(post), pause)
    pause()
    _rename_in(path + ".msg", post.message, pause)


def commit_2_1_4(path: str, post: Letter, pause: Pause) -> None:
    """Write the message in place, one pickle, then rename the metadata in."""
    text = post.message  # as Python 2's protocol 1 has a str: Python 3 cannot write one
    pickled = b"T" + len(text).to_bytes(4, "little") + text + b"q\x00."
    _write(path + ".pck", pickled, pause)
    pause()
    _rename_in(path + ".db", _marshalled(post), pause)


def commit_2_1_5(path: str, post: Letter, pause: Pause) -> None:
    """Rename one file of two pickles in."""
    both = pickle.dumps(post.message) + pickle.dumps(post.metadata)
    _rename_in(path + ".pck", both, pause)


PROTOCOLS: dict[str, Callable[[str, Letter, Pause], None]] = {
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


def _marshalled(post: Letter) -> bytes:
    """Return the metadata as Python 2 had it: text was bytes."""
    texts = {key.encode(): str(value).encode() for key, value in post.metadata.items()}
    return marshal.dumps(texts, MARSHAL_VERSION)


if __name__ == "__main__":
    main(*sys.argv[1:])
