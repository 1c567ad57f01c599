"""What a file system does between processes: renames, locks, leases, events.

Guarantees: all files are made in the given directory. Each trial forks the other process, which has
ended when the trial returns.
Fails: OSError if a trial cannot be made; `file_system_facts` reports it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator

from watcher.inspect.probe import lockable, renames_seen, writer_of
from watcher.rules.evidence import Writer
from watcher.rules.finding import BAD, OK, WARNING
from watcher.spool import mounts
from watcher.torture.processes import die_with_parent
from watcher.torture.verdict import Fact

PATIENCE = 5.0  # seconds to wait for the other process
RENAMING = 0.5  # seconds for which to read a name that is renamed over
_ONE, _OTHER = b"1" * 5_000, b"2" * 70_000
_LOOK = os.O_RDONLY | os.O_CLOEXEC
_MAKE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Peer:
    """The connection between the two processes of a trial; each step sends one byte."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.settimeout(PATIENCE)

    def send(self) -> None:
        """Tell the other process that a step is done."""
        self._end.send(b".")

    def receive(self) -> None:
        """Wait for the other process; raise OSError (TimeoutError after `PATIENCE`)."""
        if not self._end.recv(1):
            raise OSError(errno.EPIPE, "the other process has ended")

    def waits(self) -> bool:
        """Whether the other process has sent nothing yet."""
        return not select.select([self._end], [], [], 0)[0]


@contextlib.contextmanager
def another(work: Callable[[Peer], None]) -> Iterator[tuple[Peer, Callable[[], None]]]:
    """Fork a process that runs `work`; yield a connection and a function that kills it."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _run_in_child(parent, ours, theirs, work)
    theirs.close()
    gone: list[int] = []

    def kill() -> None:
        if not gone:
            gone.append(pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    try:
        yield Peer(ours), kill
    finally:
        kill()
        ours.close()


def _run_in_child(
    parent: int, ours: socket.socket, theirs: socket.socket, work: Callable[[Peer], None]
) -> None:
    """Run `work` in the child process; never returns."""
    try:
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        ours.close()
        work(Peer(theirs))
        theirs.recv(1)  # stay until this process is killed
    finally:
        os._exit(0)


def renames(directory: int) -> Fact:
    """Rename files over a name in another process; check here that it is never missing or short."""

    def rename_over(peer: Peer) -> None:
        said = False
        while peer.waits():
            for data in (_ONE, _OTHER):
                _fill(directory, b"r.tmp", data)
                os.rename(b"r.tmp", b"r", src_dir_fd=directory, dst_dir_fd=directory)
            if not said:
                peer.send()
                said = True

    counts = {"looks": 0, "missing": 0, "short": 0, "stale": 0}
    with another(rename_over) as (peer, _kill):
        peer.receive()
        end = time.monotonic() + RENAMING
        while time.monotonic() < end:
            counts[_look(directory)] += 1
        peer.send()
    looks = sum(counts.values())
    if counts["missing"] or counts["short"]:
        found = f"missing {counts['missing']} times and short {counts['short']} times"
        return Fact("rename", BAD, f"of {looks} looks at a name that was renamed over: {found}", 1)
    if counts["stale"]:
        return Fact("rename", WARNING, f"replaces at once, with {counts['stale']} stale handles", 1)
    return Fact("rename", OK, f"replaces at once: {looks:,} looks, the name never missing or short")


def _look(directory: int) -> str:
    try:
        fd = os.open(b"r", _LOOK, dir_fd=directory)
        with open(fd, "rb") as file:
            return "looks" if file.read() in (_ONE, _OTHER) else "short"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if error.errno == errno.ESTALE:
            return "stale"
        raise


def _fill(directory: int, name: bytes, data: bytes) -> None:
    fd = os.open(name, _MAKE | os.O_TRUNC, 0o600, dir_fd=directory)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def locks(directory: int) -> Iterator[Fact]:
    """Lock a file in another process and try it here; kill the other process, and try again."""
    _fill(directory, b"l", b"")

    def lock(peer: Peer) -> None:
        fd = os.open(b"l", _MAKE, dir_fd=directory)
        fcntl.flock(fd, fcntl.LOCK_EX)
        peer.send()
        peer.receive()

    with another(lock) as (peer, kill):
        peer.receive()
        if lockable(directory, b"l"):
            yield Fact(
                "lock",
                BAD,
                "two processes had one lock: serve a queue here by one daemon only, and no sweeps",
                4,
            )
            return
        yield Fact("lock", OK, "flock(2) keeps other processes out")
        kill()
        end = time.monotonic() + PATIENCE
        while not (free := lockable(directory, b"l")) and time.monotonic() < end:
            time.sleep(0.01)
    yield (
        Fact("lock of a killed process", OK, "free as soon as its process is killed")
        if free
        else Fact(
            "lock of a killed process",
            BAD,
            f"still there {PATIENCE:.0f} s after its process was killed: entries stay claimed",
            2,
        )
    )


def leases(directory: int, filesystem: str) -> Fact:
    """Try a read lease beside a writer, beside a mapping kept after close, and with neither."""
    if filesystem in mounts.LEASES_BLIND:
        return Fact(
            "lease",
            WARNING,
            f"not used on {filesystem}: it cannot know of writers elsewhere. What a scan finds"
            " waits for the grace age, so let no writer be slower than that",
            1,
        )
    _fill(directory, b"w", b"x" * 100)

    def write_map_and_go(peer: Peer) -> None:
        fd = os.open(b"w", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
        peer.send()
        peer.receive()
        mapping = mmap.mmap(fd, 100)
        os.close(fd)
        peer.send()
        peer.receive()
        mapping.close()

    with another(write_map_and_go) as (peer, kill):
        peer.receive()
        open_for_writing = writer_of(directory, b"w")
        peer.send()
        peer.receive()
        mapped = writer_of(directory, b"w")
        kill()
    return _weigh_leases(open_for_writing, mapped, writer_of(directory, b"w"))


def _weigh_leases(writing: Writer, mapped: Writer, neither: Writer) -> Fact:
    if Writer.UNKNOWN in (writing, mapped, neither):
        return Fact(
            "lease",
            WARNING,
            "not available: what a scan finds waits for the grace age, so let no writer be slower"
            " than that",
            1,
        )
    if Writer.NONE in (writing, mapped):
        what = "a file open for writing" if writing is Writer.NONE else "a mapping kept after close"
        return Fact(
            "lease",
            BAD,
            f"granted beside {what}: a file that was not renamed in may be taken too early;"
            " have writers rename",
            1,
        )
    if neither is Writer.SOME:
        return Fact(
            "lease",
            BAD,
            "refused although the writer is dead: its file is never taken",
            2,
        )
    return Fact(
        "lease", OK, "shows a writer, and a mapping kept after close; free again when they are gone"
    )


def events(path: str, filesystem: str) -> Fact:
    """Have another process rename a file into a watched directory; check for the event."""
    from watcher.arrive.inotify import Inotify
    from watcher.errors import WatchFailed
    from watcher.rules.names import Layout
    from watcher.spool.spool import Spool

    spool = Spool(os.fsencode(path), Layout())

    def rename_in(peer: Peer) -> None:
        peer.receive()
        _fill(spool.fd, b"e.tmp", b"")
        os.rename(b"e.tmp", b"e.pck", src_dir_fd=spool.fd, dst_dir_fd=spool.fd)
        peer.send()

    try:
        source = Inotify()
    except WatchFailed as error:
        return Fact("inotify", WARNING, f"{error}; a queue here is polled until then")
    try:
        with another(rename_in) as (peer, _kill):
            source.arm(1, spool)
            peer.send()
            peer.receive()
            seen = renames_seen(source, PATIENCE)
    except WatchFailed as error:
        return Fact("inotify", WARNING, f"{error}; a queue here is polled until then")
    finally:
        source.close()
    if b"e.pck" not in seen:
        return Fact(
            "inotify",
            WARNING,
            "a rename raised no event: set source to polling",
        )
    if filesystem in mounts.EVENTS_BLIND:
        return Fact("inotify", WARNING, f"this machine's renames only, on {filesystem}: polled")
    return Fact("inotify", OK, "another process's rename is seen")
