"""12: each kind of handler at one, two and eight entries at once, beside what a script would do.

Beside them: a bare loop over `subprocess`, `xargs -n 100`, and `inotifywait -m | while read`. The
daemon runs on its default settings: it keeps its journal, and its log has a line for each entry.
The entries are committed while the program is stopped; the clock runs from the moment at which it
goes on until the queue is empty. So no writer takes processor time from any program. A kind that
this version does not have is left out.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from bench import consumers
from bench.figures import ratios, spread
from bench.measures import commands
from bench.measures.idle import NOTHING
from bench.rooms import Room, Writer, room
from bench.rows import Row
from bench.stand import Stand, tell, warn
from watcher.handle.handler_kinds import KINDS, settings_class

MEASURE = 12
AT_ONCE = (1, 2, 8)
ROUNDS = (1, 5)  # at least and at most
LONGEST = 320.0  # seconds for all rounds together, if more than one
WARM = 100  # entries before the clock begins: they start the processes that stay
BATCH = 100
TMPFS = "/dev/shm"  # noqa: S108 - the file system in memory that every Linux has
RAW, MAILMAN = 'format = "raw"\nsuffix = ".pck"\n', ""
WORKER = "import sys\nfor _ in sys.stdin:\n    print('done', flush=True)\n"
# A script that may lose nothing removes a file after its command has succeeded.
ONE = f'while read -r name; do {NOTHING} <"$name" && rm -- "$name"; done'
HUNDRED = f'{NOTHING} "$@" && rm -- "$@"'
# Notes each call: its status, and the names of its entries.
COUNTING = """#!{python} -SI
import json, sys
names = [json.loads(line)["entry"] for line in sys.stdin]
status = int(any(name.endswith("{bad}") for name in names))
with open("{record}", "a") as record:
    print(status, *names, file=record)
sys.exit(status)
"""
BAD = 41  # the number of the bad entry
BAD_NAME = f"+{BAD:040d}.pck"
BARE = "subprocess loop"


class Side(NamedTuple):
    """One program or handler, and the number of entries that it is given."""

    name: str
    entries: int  # for about a second
    run: Callable[[Room, Side, str, int], float]  # returns the seconds
    handler: str = ""  # in the daemon's configuration
    kind: str = ""
    option: str = ""  # of the kind; without it the side is left out
    at_once: tuple[int, ...] = AT_ONCE

    def missing(self) -> str:
        """Say why it cannot be measured; "" if it can."""
        if self.run is inotifywait and shutil.which("inotifywait") is None:
            return "inotifywait is not installed (apt-get install inotify-tools)"
        if self.kind and self.kind not in KINDS:
            return f"there is no handler {self.kind}"
        if self.option and self.option not in settings_class(self.kind).OPTIONS:
            return f"the handler {self.kind} has no {self.option}"
        return ""


class Where(NamedTuple):
    """A file system and a format."""

    name: str
    base: str
    settings: str
    at_once: tuple[int, ...] = AT_ONCE


def daemon(place: Room, side: Side, settings: str, workers: int) -> float:
    """Return the seconds that the daemon takes."""
    warm, writer = Writer(place, WARM), Writer(place, side.entries, first=WARM)
    with _daemon(place, side, settings, workers) as consumer:
        consumer.wait_armed()
        warm.go()
        warm.wait()
        commands.empty_since(place)
        seconds = drained(place, writer, consumer.pid)
        if left := place.left():
            raise RuntimeError(f"{left} entries are left: {consumer.last_errors()}")
        return seconds


def _daemon(
    place: Room, side: Side, settings: str, workers: int
) -> AbstractContextManager[consumers.Consumer]:
    file = f"{place.path}/watcher.toml"
    with open(file, "w") as opened:
        opened.write(
            f'[queues.bench]\npath = "{place.queue}"\nhandler = {side.handler}\n'
            f"concurrency = {workers}\n{settings}"
        )
    argv = [sys.executable, "-P", "-m", "watcher", "run", "--config", file]
    return consumers.running(argv, place)


def drained(place: Room, writer: Writer, pid: int) -> float:
    """Commit while a process is stopped; return the seconds from its going on to the last entry."""
    os.kill(pid, signal.SIGSTOP)
    writer.go()
    writer.wait()
    began = time.time()
    os.kill(pid, signal.SIGCONT)
    return commands.empty_since(place) - began


def loop(place: Room, side: Side, _settings: str, workers: int) -> float:
    """Return the seconds that a bare loop takes."""
    place.fill(side.entries)
    return commands.loop(place, workers)


def xargs(place: Room, side: Side, _settings: str, workers: int) -> float:
    """Return the seconds that `xargs -n 100` takes."""
    place.fill(side.entries)
    command = f"ls | xargs -n {BATCH} -P {workers} sh -c '{HUNDRED}' sh"
    began = time.monotonic()
    subprocess.run(["/bin/sh", "-c", command], cwd=place.queue, check=True)
    return time.monotonic() - began


def inotifywait(place: Room, side: Side, _settings: str, _workers: int) -> float:
    """Return the seconds that a loop over the output of inotifywait takes."""
    command = f"cd '{place.queue}' && inotifywait -m -q -e moved_to --format %f . | {ONE}"
    writer = Writer(place, side.entries)
    with consumers.running(["/bin/sh", "-c", command], place) as consumer:
        pid = consumer.wait_armed_below()
        try:
            return drained(place, writer, pid)
        finally:
            os.kill(pid, signal.SIGKILL)


def _exec(more: str = "") -> str:
    return f'{{ exec = ["{NOTHING}"]{more} }}'


def _python(more: str = "", function: str = "noop") -> str:
    return f'{{ python = "bench.handler:{function}"{more} }}'


SIDES = (
    Side(BARE, 800, loop),
    Side("exec", 800, daemon, _exec(), "exec"),
    Side("exec, batch = 100", 6_000, daemon, _exec(f", batch = {BATCH}"), "exec", "batch"),
    Side(
        "worker",
        3_000,
        daemon,
        f"{{ worker = ['{sys.executable}', '-c', '''{WORKER}'''] }}",
        "worker",
    ),
    Side("python", 6_000, daemon, _python(), "python"),
    Side(
        "python, batch = 100",
        6_000,
        daemon,
        _python(f", batch = {BATCH}", "noop_batch"),
        "python",
        "batch",
    ),
    Side("python, isolate", 2_000, daemon, _python(", isolate = true"), "python"),
    Side("xargs -n 100", 10_000, xargs),
    Side("inotifywait, while read", 800, inotifywait, at_once=(1,)),
)


def places(stand: Stand) -> Iterator[Where]:
    """Yield where is measured: the disk with both formats, and memory."""
    yield Where("disk, raw files", stand.base, RAW)
    yield Where("disk, Mailman's files", stand.base, MAILMAN)
    if os.access(TMPFS, os.W_OK):
        yield Where("tmpfs, raw files", TMPFS, RAW, (1,))  # to see the disk's share


def measured(stand: Stand, where: Where, side: Side, workers: int) -> float:
    """Return entries a second."""
    side = side._replace(entries=stand.pick(side.entries, side.entries // 4))
    with contextlib.ExitStack() as made:
        base = where.base
        if base == TMPFS:
            base = made.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=TMPFS))
        place = made.enter_context(room(base))
        return side.entries / side.run(place, side, where.settings, workers)


def measure(stand: Stand) -> list[Row]:
    """Compare each kind with the bare loop, in as many rounds as the time allows."""
    sides = []
    for side in SIDES:
        if why := side.missing():
            warn(f"{side.name} is left out: {why}")
        else:
            sides.append(side)
    found: dict[tuple[str, str, int], list[float]] = {}
    wheres = list(places(stand))
    least, most = (1, 1) if stand.quick else ROUNDS
    began = time.monotonic()
    for number in range(most):
        spent = time.monotonic() - began
        if number >= least and spent + spent / number > LONGEST:
            break
        for where, workers, side in itertools.product(wheres, AT_ONCE, sides):
            if workers in side.at_once and workers in where.at_once:
                speed = measured(stand, where, side, workers)
                found.setdefault((where.name, side.name, workers), []).append(speed)
    rows = [tell(_row(found, *key)) for key in found]
    return rows + one_bad(stand) if any(side.option == "batch" for side in sides) else rows


def one_bad(stand: Stand) -> list[Row]:
    """Count the calls that a batch of 100 with one bad entry takes."""
    with room(stand.base) as place:
        record, script = f"{place.path}/calls", f"{place.path}/count"
        with open(script, "w") as file:
            file.write(COUNTING.format(record=record, python=sys.executable, bad=BAD_NAME))
        os.chmod(script, 0o700)
        side = Side(
            "", BATCH, daemon, f'{{ exec = ["{script}"], batch = {BATCH}, batch_wait = "1s" }}'
        )
        writer = Writer(place, BATCH)
        with _daemon(place, side, RAW, 1) as consumer:
            consumer.wait_armed()
            drained(place, writer, consumer.pid)
        with open(record) as file:
            calls = [line.split() for line in file]
    given = Counter(name for _status, *names in calls for name in names)
    handled = Counter(name for status, *names in calls for name in names if status == "0")
    bad = given.pop(next(name for name in given if name.endswith(BAD_NAME)))
    lines = [
        ("calls in all", str(len(calls))),
        ("entries in the first call", str(len(calls[0]) - 1)),
        ("calls with the bad entry in them", str(bad)),
        ("calls with another entry in them, at most", str(max(given.values()))),
        ("the other entries that one successful call handled", str(len(handled))),
        ("the other entries that a second successful call handled", str(again(handled))),
    ]
    table = (("a batch of 100 with one bad entry", ""), *lines)
    return [tell(Row(MEASURE, lines[0][0], "calls", spread([len(calls)]), table=table))]


def again(handled: Counter[str]) -> int:
    """Return how many were handled more than once."""
    return sum(times > 1 for times in handled.values())


def _row(
    found: dict[tuple[str, str, int], list[float]], where: str, side: str, workers: int
) -> Row:
    speeds, bare = found[where, side, workers], found[where, BARE, workers]
    words, note = (
        f"{where}: {side}: {workers} at once",
        f"{len(speeds)} round{'s' if len(speeds) > 1 else ''}",
    )
    ratio = ratios(speeds, bare)
    return Row(MEASURE, words, "entries/s", spread(speeds), spread(bare), BARE, ratio, note=note)
