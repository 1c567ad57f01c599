"""Make docs/benchmarks/beyond-one-machine.md from measures 13 to 18.

Each measure is a section, which `--save` replaces when that measure was made; the numbers are kept
in beyond-one-machine.json. PURE but for `write`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.handlers_page import IDLE
from bench.measures.handlers import BATCH
from bench.page import table
from bench.rows import Row, number
from watcher.daemon.message_worker import AHEAD
from watcher.jetstream.connection import PING
from watcher.jetstream.pull import OPEN
from watcher.jetstream.stream_setup import ACK_WAIT, MOST_ON_THE_WAY

NAME = "benchmarks/beyond-one-machine"


class Section(NamedTuple):
    """What is said about a measure."""

    heading: str
    reading: str


SECTIONS = {
    13: Section(
        "Hand-off",
        """`watcher run` with the handler `nats` on its default settings (journal, a line of the log
for each entry), beside nats-py alone: the same files, as many on their way at once, an unlink after
the answer. The files lie on disk or in memory; the server's store is always on disk. A cell has the
median, the lowest and the highest, and the ratio to the bare client's rate in the same round.""",
    ),
    14: Section(
        "Work",
        """`watcher work` on its default settings, the server synced always, beside a pull loop of
nats-py that handles nothing. A cell has the median, the lowest and the highest, and the ratio to
the loop that waits for the answer to each acknowledgement, as `watcher work` does.""",
    ),
    15: Section(
        "Growth",
        """More messages in the stream, more processes, and a record for each message. The server
syncs at its default here, so that its disk hides nothing. The processes share two processors with
the server: what waits, as 20 ms of sleep do, shows what the server would give to processes on
machines of their own.""",
    ),
    16: Section(
        "max_ack_pending, concurrency, and a slow worker",
        """The consumer's `max_ack_pending` is the most that all workers together have in hand, with
what waits for its next attempt. A worker asks for twice `concurrency` messages, or twice
`concurrency` times `batch`: below the sum of these over all workers, the limit costs rate; below
the sum of their threads it leaves threads idle. What a slow worker has asked for waits for it.""",
    ),
    17: Section(
        "Idle",
        """The threads' voluntary context switches. The connection of a hand-off is closed when
nothing was handed over for 30 s; a worker has one request open, which it renews once a minute.""",
    ),
    18: Section(
        "Three servers",
        """A message is stored once a majority of its replicas has it on disk, and an
acknowledgement is an entry in the log of the consumer's replicas too. The three servers share one
disk here, so each sync waits for those of the others.""",
    ),
}
INTRO = """# What the way beyond one machine costs

*Made by `python scripts/bench --only 13,14,15,16,17,18 --save`; not edited by hand. Each section
has its own date and command.*

The server, the daemons and the workers share one machine and its processors here. On machines of
their own each has more, and a message takes as much longer as the network does.
"""
ABOUT = (
    "`python scripts/bench --only {measure}{quick} --save`, {date}; {processor}, {file system}, "
    "load before {load before}."
)
BUSY = " **The machine was busy: only large differences mean something.**"


PAPER = """
## A hundred machines, on paper

Each machine has a daemon that hands over and a worker with `concurrency = 8`.
"""
LIMITS = """
Three limits come first:

- **A stream is stored by one server**, its leader, and with replicas by a majority: the rate of
  [the hand-off](#hand-off) is that of all machines together. With 1,000 a second a hundred machines
  may hand over ten a second each. Another stream may have another leader, on another disk.
- **The deliveries and acknowledgements of a consumer pass one server**: the rate of the bare pull
  loop is that of all workers together. A hundred machines with eight threads reach 10,000 a second
  when an entry takes 80 ms. More processes help entries that take longer, and none that take less.
- **The server keeps the ids of the duplicate window in memory**: see [growth](#growth), where all
  messages are in the window. At 1,000 a second a window of two hours has seven million ids.

`max_ack_pending` and `max_waiting` are settings of the consumer, and the server can do more.
"""
MACHINES = (1, 10, 100)
THREADS = 8
MAX_CONNECTIONS, MAX_WAITING = 65_536, 512  # the server's defaults


def on_paper() -> str:
    """Return what some machines ask of the server, by watcher's own constants."""

    def line(what: str, one: float, limit: str = "") -> tuple[str, ...]:
        return (what, *(number(one * count) for count in MACHINES), limit)

    in_hand = THREADS * AHEAD
    lines = [
        ("machines", *(str(count) for count in MACHINES), "the server's limit"),
        line("connections", 2, f"{MAX_CONNECTIONS:,} (max_connections)"),
        line("pull requests open at most", 2, f"{MAX_WAITING} (max_waiting)"),
        line("pull requests a second, idle", 1 / OPEN),
        line("pings a second, idle", 1 / PING, "a worker's connection; the other one is closed"),
        line("messages in hand", in_hand, f"{MOST_ON_THE_WAY:,} (max_ack_pending)"),
        line(
            f"the same with `batch = {BATCH}` and one thread",
            BATCH * AHEAD,
            f"{MOST_ON_THE_WAY:,}: `--max-ack-pending` at 50 machines",
        ),
        line("heartbeats a second, at most", in_hand * 3 / ACK_WAIT, "one small message each"),
    ]
    return f"{PAPER}\n{table(lines)}\n{LIMITS}"


def rendered(found: Mapping[str, Any]) -> str:
    """Return the page."""
    parts = [INTRO]
    for measure, section in SECTIONS.items():
        if (made := found.get(str(measure))) is None:
            continue
        busy = float(made["machine"]["load before"]) > IDLE
        about = ABOUT.format_map({**made, **made["machine"], "measure": measure})
        parts += [f"\n## {section.heading}\n", section.reading, f"\n{about}{BUSY * busy}\n"]
        for what, note, lines in made["tables"]:
            parts += [f"{what}; {note}:\n" if note else f"{what}:\n", table(lines), ""]
    return "\n".join([*parts, on_paper()])


def write(found: Mapping[str, Any], rows: Sequence[Row], docs: str) -> None:
    """Replace the sections of these rows, below the directory `docs`."""
    kept: dict[str, Any] = {}
    if os.path.exists(f"{docs}/{NAME}.json"):
        with open(f"{docs}/{NAME}.json") as file:
            kept = json.load(file)
    for measure in sorted({row.measure for row in rows}):
        tables = [(row.what, row.note, row.table) for row in rows if row.measure == measure]
        kept[str(measure)] = {
            "date": found["date"],
            "quick": " --quick" if "quick" in found["command"] else "",
            "machine": found["machine"],
            "tables": [one for one in tables if one[2]],
        }
    with open(f"{docs}/{NAME}.json", "w") as file:
        json.dump(kept, file, indent=1)
        file.write("\n")
    with open(f"{docs}/{NAME}.md", "w") as file:
        file.write(rendered(kept))
