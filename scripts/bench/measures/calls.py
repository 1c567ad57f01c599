"""3: system calls an entry, by strace -c, and what each is for."""

from __future__ import annotations

import os
import time

from bench import consumers, strace
from bench.figures import spread
from bench.rooms import Room, Writer, room
from bench.rows import Row, Target
from bench.stand import Stand, tell, warn

PATIENCE = 60.0  # seconds
SINGLE, SINGLES = 50.0, 250  # entries a second, each alone, and how many
MOST, MOST_PAIR = 8.0, 10.0
PURPOSE = {
    "openat": "claim: open the file, without following a link",
    "flock": "claim: no other process or thread has it",
    "fstat": "claim: a regular file with one name",
    "newfstatat": "claim: the file has its name; done: the name leads to the claimed file",
    "rename": "done: move the file aside, where no replacement can get its name",
    "renameat": "done: move the file aside, where no replacement can get its name",
    "unlink": "done: remove the file",
    "unlinkat": "done: remove the file",
    "close": "release the claim",
    "pwrite64": "ledger: which entry is in hand, before the handler is called",
    "write": "journal: a line for each transition; wake the daemon's thread",
    "read": "all pending events; the file's contents if the handler asks for them",
    "fcntl": "evidence: does a process have it open for writing (a lease, taken and given back)",
    "futex": "the two threads wait for each other",
    "poll": "wait for events",
    "ioctl": "how many events there are",
    "ppoll": "wait for events",
    "clock_nanosleep": "wait",
    "getpid": "this process's number: shows a fork",
    "gettid": "this thread's number",
    "lseek": "the standard library checks a descriptor",
    "getdents64": "a scan",
}


def counts(
    stand: Stand, entries: int, rate: float, options: str = "", *, legacy: bool, inside: bool
) -> dict[str, int]:
    """Run the daemon under strace for so many entries; return its calls."""
    with room(stand.base) as place:
        argv = consumers.daemon_argv(place, options="legacy = true" if legacy else options)
        summary = f"{place.path}/calls"
        with consumers.running(strace.counting(argv, summary), place, entries) as consumer:
            child = consumer.wait_armed_below()
            if legacy:
                write_pairs(place, entries, rate)
            else:
                writer = Writer(place, entries, rate, inside=inside)
                writer.go()
                writer.wait()
            handled = consumer.result(PATIENCE)["handled"]
            time.sleep(
                consumers.SETTLE
            )  # until the unlink of the last entry, which strace slows down
            os.kill(child, 15)
            consumer.process.wait(PATIENCE)
        if handled != entries:
            raise RuntimeError(f"{entries - handled} of {entries} not handled under strace")
        with open(summary) as file:
            return strace.parsed(file.read())


def write_pairs(place: Room, entries: int, rate: float) -> None:
    """Write legacy pairs as Mailman 2.0 did: the `.db`, then the `.msg`, each opened and closed."""
    import marshal

    from bench.writer import name_at

    for number in range(entries):
        stem = f"{place.queue}/{name_at(time.monotonic_ns(), number).removesuffix('.pck')}"
        with open(f"{stem}.db", "wb") as file:
            file.write(marshal.dumps({"listname": "test"}, 0))
        with open(f"{stem}.msg", "wb") as file:
            file.write(b"Subject: x\n\nhello\n")
        if rate:
            time.sleep(1 / rate)


def per_entry(
    stand: Stand,
    entries: int,
    rate: float,
    options: str = "",
    *,
    legacy: bool = False,
    inside: bool = False,
) -> dict[str, float]:
    """Return calls an entry: the difference of a run with many and one with few."""
    few = max(entries // 5, 10)
    return strace.between(
        counts(stand, few, rate, options, legacy=legacy, inside=inside),
        counts(stand, entries, rate, options, legacy=legacy, inside=inside),
        entries - few,
    )


def measure(stand: Stand) -> list[Row]:
    """Count, for a storm, for single entries, and for pairs."""
    if not strace.here():
        warn("system calls are not counted: strace is not installed (apt-get install strace)")
        return []
    storm = stand.pick(2000, 400)
    rows = [counted("system calls an entry, in a storm", per_entry(stand, storm, 0), MOST)]
    if not stand.quick:
        alone = per_entry(stand, SINGLES, SINGLE)
        rows.append(counted("system calls an entry, one at a time", alone, None))
    pairs = per_entry(stand, storm, 0, legacy=True)
    what = "system calls a legacy pair, in a storm, unlinks left out"
    return [*rows, counted(what, pairs, MOST_PAIR, 2.0)]


def counted(what: str, calls: dict[str, float], most: float | None, free: float = 0.0) -> Row:
    """Return the row of one table of calls."""
    total = sum(calls.values()) - free
    table = [("call", "an entry", "what it is for")]
    table += [(name, f"{count:.2f}", PURPOSE.get(name, "")) for name, count in calls.items()]
    note = " ".join(f"{name} {count:.2f}" for name, count in calls.items())
    target = Target(most=most, of="ours")
    return tell(
        Row(3, what, "calls", spread([total]), target=target, note=f"({note})", table=table)
    )
