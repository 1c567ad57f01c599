"""7: a command for each entry, beside a bare loop over `subprocess`.

In both cases the entries exist before the time begins: the daemon is stopped while they are
committed and then resumed. So no writer takes processor time from either program.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time

from bench import consumers
from bench.figures import ratios, spread
from bench.measures.idle import NOTHING
from bench.rooms import Room, Writer, room
from bench.rows import Row, Target
from bench.stand import Stand, tell

WORKERS = (1, 2, 8)
PATIENCE = 60.0  # seconds
LOOK_EVERY = 0.05  # seconds


def empty_since(place: Room) -> float:
    """Wait until the queue is empty; return when that was, by the directory's last change."""
    ends = time.monotonic() + PATIENCE
    while place.waiting():
        if time.monotonic() > ends:
            raise RuntimeError(f"{place.waiting()} entries are left")
        time.sleep(LOOK_EVERY)
    return os.stat(place.queue).st_mtime


def daemon(stand: Stand, count: int, workers: int) -> float:
    """Return entries a second of the daemon with a command that does nothing."""
    with room(stand.base) as place:
        begin = [sys.executable, "-P", "-m", "watcher", "run", place.queue, *consumers.QUIET]
        argv = [*begin, "--concurrency", str(workers), "--", NOTHING]
        writer = Writer(place, count)
        with consumers.running(argv, place) as consumer:
            consumer.wait_armed()
            os.kill(consumer.pid, signal.SIGSTOP)
            writer.go()
            writer.wait()
            began = time.time()
            os.kill(consumer.pid, signal.SIGCONT)
            return count / (empty_since(place) - began)


def bare(stand: Stand, count: int, workers: int) -> float:
    """Return entries a second of threads that run the command and unlink the file."""
    with room(stand.base) as place:
        place.fill(count)
        return count / loop(place, workers)


def loop(place: Room, workers: int) -> float:
    """Run the bare loop over what is there; return the seconds that it took."""
    names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for name in [*sorted(os.listdir(place.queue)), *[None] * workers]:
        names.put(name)

    def serve() -> None:
        while (name := names.get()) is not None:
            path = os.path.join(place.queue, name)
            with open(path, "rb") as file:
                subprocess.run([NOTHING], stdin=file, stderr=subprocess.PIPE, check=True)
            os.unlink(path)

    threads = [threading.Thread(target=serve) for _ in range(workers)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


def measure(stand: Stand) -> list[Row]:
    """Compare at one, two and eight workers."""
    count = stand.pick(1_000, 150)
    rows = []
    first = 0.0
    for workers in WORKERS:
        ours: list[float] = []
        others: list[float] = []
        for _ in range(stand.pick(stand.rounds, 1)):
            ours.append(daemon(stand, count, workers))
            others.append(bare(stand, count, workers))
        first = first or spread(ours).median
        gained = f"{spread(ours).median / first:.2f} times one worker's" if workers > 1 else ""
        rows.append(
            tell(
                Row(
                    7,
                    f"exec handler, {workers} worker{'s' if workers > 1 else ''}",
                    "entries/s",
                    spread(ours),
                    spread(others),
                    "bare subprocess",
                    ratios(ours, others),
                    Target(least=0.9),
                    gained,
                )
            )
        )
    return rows
