"""What a script would do with nats-py alone: the other side of the hand-off and of the workers.

    bare_nats.py publish URL DIRECTORY WINDOW    publish each file, wait for its answer, unlink it
    bare_nats.py pull URL COUNT BATCH confirmed|plain   pull messages and acknowledge them
    bare_nats.py fill URL PAYLOAD COUNT FIRST    store COUNT copies of a file

`publish` has WINDOW files on their way at once. `confirmed` waits for the server's answer to each
acknowledgement, as `watcher work` does. Each prints the seconds from its first call to the last.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import nats
from nats.js import JetStreamContext

STREAM, SUBJECT, CONSUMER = "BENCH", "BENCH.bench", "watcher"


def read(path: str) -> bytes:
    """Return what is in a file."""
    with open(path, "rb") as file:
        return file.read()


async def publish(js: JetStreamContext, directory: str, window: int) -> None:
    """Hand files over, in the order of their names."""
    names = sorted(os.listdir(directory))
    for begin in range(0, len(names), window):
        some = names[begin : begin + window]
        answers = []
        for name in some:
            data = read(f"{directory}/{name}")
            answers.append(await js.publish_async(SUBJECT, data, headers={"Nats-Msg-Id": name}))
        await asyncio.gather(*answers)
        for name in some:
            os.unlink(f"{directory}/{name}")


async def pull(js: JetStreamContext, count: int, batch: int, *, confirmed: bool) -> None:
    """Acknowledge as many messages as there are."""
    source = await js.pull_subscribe_bind(durable=CONSUMER, stream=STREAM)
    while count > 0:
        found = await source.fetch(min(batch, count), timeout=5)
        for message in found:
            await (message.ack_sync() if confirmed else message.ack())
        count -= len(found)


async def fill(js: JetStreamContext, payload: str, count: int, first: int) -> None:
    """Store messages with the headers of the handler `nats`."""
    data, answers = read(payload), []
    for number in range(first, first + count):
        about = {
            "Nats-Msg-Id": f"fill-{number}",
            "Watcher-Key": f"fill-{number}",
            "Watcher-Queue": "bench",
            "Watcher-Entry": f"{number:012d}.pck",
            "Watcher-Attempt": "1",
        }
        answers.append(await js.publish_async(SUBJECT, data, headers=about))
        if len(answers) == 1000:  # noqa: PLR2004 - so many are on their way at most
            await asyncio.gather(*answers)
            answers = []
    await asyncio.gather(*answers)


async def main(what: str, url: str, *more: str) -> None:
    """Run as a program."""
    client = await nats.connect(url.split(","))
    js = client.jetstream()
    began = time.monotonic()
    if what == "publish":
        await publish(js, more[0], int(more[1]))
    elif what == "pull":
        await pull(js, int(more[0]), int(more[1]), confirmed=more[2] == "confirmed")
    else:
        await fill(js, more[0], int(more[1]), int(more[2]))
    print(time.monotonic() - began, flush=True)
    await client.close()


def run(*arguments: str) -> float:
    """Run this program; return the seconds that it says."""
    argv = [sys.executable, __file__, *arguments]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"bare_nats {arguments[0]}: {done.stderr[-1000:]}")
    return float(done.stdout)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
