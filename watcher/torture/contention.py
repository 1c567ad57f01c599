"""What a file system does between processes: renames, locks, leases, events, with real ones.

Guarantees: everything happens in the directory that is given, by processes forked off for it, which
are gone when a trial returns.
Fails: OSError where a trial cannot be made; `facts` makes a finding of it.
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

from watcher.claim import lease
from watcher.evidence import Writer
from watcher.inspect.grade import BAD, OK, WARNING
from watcher.spool import mounts
from watcher.torture.crew import die_with_parent
from watcher.torture.verdict import Fact

PATIENCE = 5.0  # seconds for an answer of another process
RENAMING = 0.5  # seconds of looking at a name that is renamed over
_ONE, _OTHER = b"1" * 5_000, b"2" * 70_000
_LOOK = os.O_RDONLY | os.O_CLOEXEC
_MAKE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Peer:
    """The other process of a trial; both sides say and hear one byte at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.settimeout(PATIENCE)

    def say(self) -> None:
        """Tell the other side that a step is taken."""
        self._end.send(b".")

    def hear(self) -> None:
        """Wait for the other side; raises OSError (TimeoutError) when it does not come."""
        if not self._end.recv(1):
            raise OSError(errno.EPIPE, "the other process has ended")

    def waits(self) -> bool:
        """Whether the other side has said nothing yet."""
        return not select.select([self._end], [], [], 0)[0]


@contextlib.contextmanager
def another(work: Callable[[Peer], None]) -> Iterator[tuple[Peer, Callable[[], None]]]:
    """Fork a process that does `work`; yield our side, and how to kill it; it goes at the end."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_the_other(parent, ours, theirs, work)
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


def _be_the_other(
    parent: int, ours: socket.socket, theirs: socket.socket, work: Callable[[Peer], None]
) -> None:
    """Never returns."""
    try:
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        ours.close()
        work(Peer(theirs))
        theirs.recv(1)  # stay until we are killed
    finally:
        os._exit(0)


def renames(directory: int) -> Fact:
    """Rename files over one name, while we look whether it is ever missing or short."""

    def rename_over(peer: Peer) -> None:
        said = False
        while peer.waits():
            for data in (_ONE, _OTHER):
                _fill(directory, b"r.tmp", data)
                os.rename(b"r.tmp", b"r", src_dir_fd=directory, dst_dir_fd=directory)
            if not said:
                peer.say()
                said = True

    counts = {"looks": 0, "missing": 0, "short": 0, "stale": 0}
    with another(rename_over) as (peer, _kill):
        peer.hear()
        end = time.monotonic() + RENAMING
        while time.monotonic() < end:
            counts[_look(directory)] += 1
        peer.say()
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
    """Lock in one process, try in another; kill the first, try again."""
    _fill(directory, b"l", b"")

    def lock(peer: Peer) -> None:
        fd = os.open(b"l", _MAKE, dir_fd=directory)
        fcntl.flock(fd, fcntl.LOCK_EX)
        peer.say()
        peer.hear()

    with another(lock) as (peer, kill):
        peer.hear()
        if _lockable(directory):
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
        while not (free := _lockable(directory)) and time.monotonic() < end:
            time.sleep(0.01)
    yield (
        Fact("lock of the dead", OK, "free as soon as its process is killed")
        if free
        else Fact(
            "lock of the dead",
            BAD,
            f"still there {PATIENCE:.0f} s after its process was killed: entries stay claimed",
            2,
        )
    )


def _lockable(directory: int) -> bool:
    fd = os.open(b"l", _MAKE, dir_fd=directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def leases(directory: int, filesystem: str) -> Fact:
    """Ask by a read lease whether a writer, a mapping kept after close, and nobody are seen."""
    if filesystem in mounts.LEASES_BLIND:
        return Fact(
            "lease",
            WARNING,
            f"not asked for on {filesystem}: it cannot know of writers elsewhere. What a scan finds"
            " waits for the grace age, so let no writer be slower than that",
            1,
        )
    _fill(directory, b"w", b"x" * 100)

    def write_map_and_go(peer: Peer) -> None:
        fd = os.open(b"w", os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
        peer.say()
        peer.hear()
        mapping = mmap.mmap(fd, 100)
        os.close(fd)
        peer.say()
        peer.hear()
        mapping.close()

    with another(write_map_and_go) as (peer, kill):
        peer.hear()
        open_for_writing = _writer(directory)
        peer.say()
        peer.hear()
        mapped = _writer(directory)
        kill()
    return _weigh_leases(open_for_writing, mapped, _writer(directory))


def _writer(directory: int) -> Writer:
    fd = os.open(b"w", _LOOK, dir_fd=directory)
    try:
        return lease.writer(fd)
    finally:
        os.close(fd)


def _weigh_leases(writing: Writer, mapped: Writer, nobody: Writer) -> Fact:
    if Writer.UNKNOWN in (writing, mapped, nobody):
        return Fact(
            "lease",
            WARNING,
            "not to be had: what a scan finds waits for the grace age, so let no writer be slower"
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
    if nobody is Writer.SOME:
        return Fact(
            "lease",
            BAD,
            "refused although the writer is dead: its file would be left alone for ever",
            2,
        )
    return Fact("lease", OK, "sees a writer, and a mapping kept after close; forgets the dead")


def events(path: str, filesystem: str) -> Fact:
    """Have another process rename a file into a watched directory; a path, as queues have one."""
    from watcher.arrive.inotify import Inotify
    from watcher.arrive.source import Seen
    from watcher.errors import WatchFailed
    from watcher.spool.layout import Layout
    from watcher.spool.spool import Spool

    spool = Spool(os.fsencode(path), Layout())

    def rename_in(peer: Peer) -> None:
        peer.hear()
        _fill(spool.fd, b"e.tmp", b"")
        os.rename(b"e.tmp", b"e.pck", src_dir_fd=spool.fd, dst_dir_fd=spool.fd)
        peer.say()

    try:
        source = Inotify()
    except WatchFailed as error:
        return Fact("inotify", WARNING, f"{error}; a queue here is polled until then")
    try:
        with another(rename_in) as (peer, _kill):
            source.arm(1, spool)
            peer.say()
            peer.hear()
            select.select([source.fileno()], [], [], PATIENCE)
            seen = [hint.name for hint in source.read() if hint.seen is Seen.RENAMED]
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
