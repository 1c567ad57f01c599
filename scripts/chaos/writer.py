"""A writer of chaos: threads that commit entries to one queue until the process is killed.

    python -m chaos.writer QUEUE drawn|reused SEED

`drawn` lets `enqueue` draw the names. `reused` writes a raw file in the queue directory and renames
it to one of a few names, as soon as that name is free; one file in ten is written in place. Each
token is logged as accepted after its commit returned.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Callable

from chaos.test_message import message_for
from watcher.commit_one import enqueue
from watcher.spool.disk import DISK
from watcher.torture.event_log import PROCESS, WRITERS, opened

THREADS = 3
BACKLOG = 200  # files in the queue at which writers wait
NAMES = 40
PAUSE = 0.04  # mean seconds between two entries of a thread


def main() -> None:
    """Start the threads; they write until the process is killed."""
    queue, kind, seed = sys.argv[1:]
    commit = {"drawn": _drawn, "reused": _reused}[kind]
    for number in range(THREADS):
        chance = random.Random(f"{seed} {os.environ[PROCESS]} {number}")
        threading.Thread(target=_write, args=(queue, commit, chance, number)).start()


def _write(
    queue: str, commit: Callable[[str, str, random.Random], str], chance: random.Random, me: int
) -> None:
    number = 0
    while True:
        number += 1
        token = f"{os.environ[PROCESS]}.{me}.{number}"
        while len(os.listdir(queue)) > BACKLOG:
            time.sleep(0.1)
        name = commit(queue, token, chance)
        with opened(WRITERS, synced=False) as log:
            log.write("accepted", token, name)
        time.sleep(chance.expovariate(1 / PAUSE))


def _drawn(queue: str, token: str, _chance: random.Random) -> str:
    return enqueue(queue, message_for(token))


def _reused(queue: str, token: str, chance: random.Random) -> str:
    directory = os.open(queue, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            name = f"n{chance.randrange(NAMES)}.dat"
            with contextlib.suppress(FileExistsError):
                if chance.random() < 0.1:  # noqa: PLR2004 - one in ten
                    _in_place(os.path.join(queue, name), token, chance)
                else:
                    _renamed(queue, directory, name, token)
                return name
            time.sleep(0.01)
    finally:
        os.close(directory)


def _in_place(path: str, token: str, chance: random.Random) -> None:
    contents = message_for(token)
    with open(path, "xb", buffering=0) as file:
        half = chance.randrange(len(contents))
        file.write(contents[:half])
        time.sleep(chance.random() * 0.2)
        file.write(contents[half:])


def _renamed(queue: str, directory: int, name: str, token: str) -> None:
    scratch = f".{token}.tmp"
    with open(os.path.join(queue, scratch), "xb") as file:
        file.write(message_for(token))
    try:
        DISK.move(os.fsencode(scratch), directory, os.fsencode(name), directory)
    except FileExistsError:
        os.unlink(scratch, dir_fd=directory)
        raise


if __name__ == "__main__":
    main()
