"""The test of the instrument: break one promise, and see that the kill matrix finds it.

    killed_broken.py BREAK DIRECTORY

Prints the first finding and ends with 0; ends with 1 if the matrix finds nothing. The break is made
in this process, of which every command that the matrix runs is a child.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

from kill_matrix import plan
from kill_matrix.__main__ import attempt as attempt_at, warm
from kill_matrix.trial import Point, Result
from watcher import attempt
from watcher.rules.evidence import Writer
from watcher.settle import moves
from watcher.spool import lease, ledger, process_dir
from watcher.spool.disk import Disk


def unlink_before_the_handler() -> None:
    """Remove an entry, then hand it out: a death between the two loses it."""
    begin = attempt.Attempt.begin

    def worse(self, *arguments, **more):
        begun = begin(self, *arguments, **more)
        if isinstance(begun, attempt.Begun):
            moves.remove(begun.claim.spool, begun.claim.parts)
        return begun

    attempt.Attempt.begin = worse


def no_lease() -> None:
    """Ignore writers: an entry is handled while its writer has it open."""
    lease.take = lambda _fd: Writer.NONE
    lease.give_back = lambda _fd: None


def copy_and_unlink() -> None:
    """Put away by writing a copy: a death between leaves half of one, or both."""

    def move(self, name, source, target_name, target):
        import os

        fd = os.open(name, os.O_RDONLY, dir_fd=source)
        data = os.read(fd, 1 << 20)
        os.close(fd)
        os.unlink(name, dir_fd=source)
        fd = os.open(target_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=target)
        os.write(fd, data)
        os.close(fd)

    Disk.move = move


def forget_what_is_aside() -> None:
    """Take a done file that is aside already, its unlink refused, for gone: it comes back."""

    take = process_dir.NamesAside.take

    def forgetful(self, name):
        take(self, name)
        return False

    process_dir.NamesAside.take = forgetful


def keep_the_lock() -> None:
    """Give a claim back by closing it alone: what a handler left running has it still."""
    Disk.unlock = lambda _self, _fd: None


def write_one_slot_for_all() -> None:
    """Have all threads write down in one slot what they have in hand: a death counts one entry."""
    ledger.Ledger._new_slot = lambda self, key: self._slots.setdefault(key, 0)


def overwrite_the_replacement() -> None:
    """Unlink the name, whichever file has it by now."""
    from watcher.settle import unlink

    def remove(spool, part, *_more):
        directory = spool.fd if part.directory is None else part.directory
        spool.disk.unlink(part.name, directory)
        return True

    unlink.remove = remove


def unlink_in_the_place_of_the_archive() -> None:
    """Remove a done file, though its queue has an archive."""
    from watcher.settle import unlink

    unlink.drop = lambda spool, part, directory: spool.disk.unlink(part.name, directory)


def copy_again() -> None:
    """Have `move` make a copy at each attempt, whatever an earlier one left in the target."""
    from watcher.handle.kinds import move_files

    move_files._Copy._earlier = lambda self: (self._free(0), False)


def done_before_it_is_stored() -> None:
    """Have `nats` say that an entry is done before the server has answered."""
    from watcher.handle import nats_handler
    from watcher.jetstream.publish import STORED

    publish = nats_handler.Publisher.publish

    def early(self, messages, seconds):
        threading.Timer(0.3, publish, (self, messages, seconds)).start()
        return [STORED] * len(messages)

    nats_handler.Publisher.publish = early


def acknowledge_before_the_handler() -> None:
    """Have `watcher work` acknowledge a message before its handler has it."""
    from watcher.jetstream import deliveries

    deliveries.Deliveries.begin = deliveries.Deliveries.done


BREAKS = {
    "unlink-before-the-handler": (unlink_before_the_handler, "sweep", "", "lost"),
    "no-lease": (no_lease, "sweep", "", "early"),
    "copy-and-unlink": (copy_and_unlink, "sweep", "", "lost"),
    "forget-what-is-aside": (forget_what_is_aside, "sweep", "EIO", "doubled"),
    "keep-the-lock": (keep_the_lock, "left-running", "", "hung"),
    "write-one-slot-for-all": (write_one_slot_for_all, "threads", "", "doubled"),
    "unlink-in-the-place-of-the-archive": (
        unlink_in_the_place_of_the_archive,
        "raw-archive",
        "",
        "lost",
    ),
    "done-before-it-is-stored": (done_before_it_is_stored, "nats", "", "lost"),
    "acknowledge-before-the-handler": (acknowledge_before_the_handler, "work", "", "lost"),
    "copy-again": (copy_again, "move-far", "", "doubled"),
    "overwrite-the-replacement": (overwrite_the_replacement, "raw-threads", "", "lost"),
}


def results(case: str, error: str, base: str) -> Iterator[tuple[Point | None, Result]]:
    """Yield the results of a command, first unharmed, then killed or refused along the way."""
    clean = attempt_at(case, None, base)
    yield None, clean
    calls = clean.ended.calls
    if error:
        points = [point for point in plan.refusals(calls) if point.call == "unlinkat"]
        points = [point for point in points if point.error == error and not point.last]
    else:
        points = [point for point in plan.deaths(calls, 10**6) if point.call != "newfstatat"]
    for point in points if error else points[::3]:
        yield point, attempt_at(case, point, base)


def main() -> int:
    """Break, and look."""
    break_it, case, error, kind = BREAKS[sys.argv[1]]
    warm()
    break_it()
    for point, result in results(case, error, sys.argv[2]):
        for finding in result.findings:
            if finding.kind == kind:
                print(point.injection() if point else "unharmed", finding)
                return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
