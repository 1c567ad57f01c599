"""What one daemon says of one queue: `inflight/PID.RANDOM/.status`, for `status` and `check`.

    .status                     JSON, written by the daemon of that process directory
    .watcher/last-daemon.json   the `.status` of the daemon that ended last (`spool.process_dir`)

A daemon writes while entries flow, when its health changes, and with each sweep, which is its sign
of life. It says by when it writes again (`next_by`). Whether it lives is told by the lock of its
process directory alone, never by the file: the file of a process that was killed stays.
Guarantees: the file is replaced whole, by a rename, and has at most `LARGEST` bytes. Reading makes
and changes nothing in the queue. What a reader gets has bounded texts of printable characters, and
moments that a date can show, also if another program wrote the file. A program of another release
may read it: fields are added with a default, and a reader passes over those that it does not know.
Fails: `publish` raises OSError or WatcherError. The readers leave out what is missing, damaged, not
to be trusted, or of a newer version.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Annotated

import msgspec

from watcher.errors import WatcherError
from watcher.rules.names import INFLIGHT, display
from watcher.spool import state_files
from watcher.spool.dirs import names_in, open_dir
from watcher.spool.process_dir import LAST_DAEMON, STATUS, OpenSpool, process_dir_for

VERSION = 1
LARGEST = 1 << 16  # bytes
MOST_IN_HAND = 64
MOST_FAILURES = 32
MOST_TROUBLES = 32
MOST_BUCKETS = 64
LONGEST_TEXT = 1024  # characters: a name of 255 bytes, each shown as an escape
_SCRATCH = b".status.tmp"

_Text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Moment = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_000)]  # up to the year 9999
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
# A wait that began before the clock was set has 57 years. Of many such ones, too, there is a sum.
_Sum = Annotated[float, msgspec.Meta(ge=0, le=1e21)]


class InHand(msgspec.Struct, frozen=True):
    """One entry in hand; `process` is the handler's child process, `key` "" if not computed."""

    entry: _Text  # as `display` shows it
    attempt: _Count
    since: _Moment
    process: _Count | None = None
    key: _Text = ""


class Window(msgspec.Struct, frozen=True):
    """The attempts that ended in one span of time; `failed` were deferred, or given up."""

    handled: _Count = 0
    failed: _Count = 0
    rejected: _Count = 0


class Times(msgspec.Struct, frozen=True):
    """How long one stage took, in seconds: half of all, and all but one in a hundred."""

    count: _Count = 0
    p50: _Seconds = 0.0
    p99: _Seconds = 0.0


class Histogram(msgspec.Struct, frozen=True):
    """How long one stage took, by attempts, since the daemon's start.

    `counts[n]` are the attempts that took more than `bounds[n - 1]` seconds and at most
    `bounds[n]`; the last one has those that took longer than the last bound. Raises ValueError
    for anything else.
    """

    bounds: Annotated[list[_Seconds], msgspec.Meta(max_length=MOST_BUCKETS)]
    counts: Annotated[list[_Count], msgspec.Meta(max_length=MOST_BUCKETS + 1)]
    seconds: _Sum

    def __post_init__(self) -> None:
        """Refuse what is no histogram."""
        if len(self.counts) != len(self.bounds) + 1 or self.bounds != sorted(set(self.bounds)):
            raise ValueError("no histogram")


class Failure(msgspec.Struct, frozen=True):
    """One kind of failure of the last hour (`rules.reasons.kind_of`)."""

    reason: _Text
    count: _Count
    first: _Moment
    last: _Moment


class Sweep(msgspec.Struct, frozen=True):
    """One sweep of a daemon; `found` are the entries that no event had reported."""

    at: _Moment
    seconds: _Seconds
    found: _Count


class DaemonStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one daemon, or one sweep by hand, says of one queue. Moments are seconds since 1970."""

    version: _Count = VERSION
    process: _Count
    user: _Text
    host: _Text
    command: _Text = "run"  # or "sweep"
    queue: _Text
    started: _Moment
    written: _Moment
    next_by: _Moment  # a daemon that lives writes again before this; later: it hangs
    stopped: _Moment | None = None
    leaving: bool = False  # finishes what it has in hand, by the settings before a reload
    troubles: dict[_Text, _Text] = {}  # by subject (`observe.health`)
    watch: _Text = ""  # "inotify", "polling" or "native"; "": the queue is not watched
    behind: bool = False  # events were dropped; a scan finds what they told of
    concurrency: _Count = 1
    timeout: _Seconds | None = None
    in_hand: list[InHand] = []
    in_hand_more: _Count = 0  # further ones, not listed
    windows: dict[_Text, Window] = {}  # "1m", "5m", "60m"
    times: dict[_Text, Times] = {}  # "wait", "handler", "settle", of the last hour
    totals: Window = Window()  # since the daemon's start; a reload goes on counting
    histograms: dict[_Text, Histogram] = {}  # by stage, as `times`
    failures: list[Failure] = []
    last_success: _Moment | None = None
    in_a_row: _Count = 0  # attempts that failed since the last success
    taken: _Count = 0  # entries that another program took
    last_taken: _Text = ""
    last_taken_at: _Moment | None = None
    overflows: _Count = 0  # of the kernel's queue of events
    missed: _Count = 0  # entries that sweeps found, since the start
    last_sweep: Sweep | None = None


def encode(status: DaemonStatus) -> bytes:
    """Return the contents of the file: bounded lists, texts and size."""
    status = msgspec.structs.replace(
        status,
        troubles=dict(list(status.troubles.items())[:MOST_TROUBLES]),
        failures=status.failures[:MOST_FAILURES],
    )
    most = MOST_IN_HAND
    while True:
        listed = status.in_hand[:most]
        more = status.in_hand_more + len(status.in_hand) - len(listed)
        bounded = msgspec.structs.replace(status, in_hand=listed, in_hand_more=more)
        data = msgspec.json.format(msgspec.json.encode(_printable(msgspec.to_builtins(bounded))))
        if len(data) < LARGEST:
            return data + b"\n"
        if most:
            most //= 2
        else:  # texts whose characters have several bytes each
            status = msgspec.structs.replace(status, failures=[], troubles={})


def decode(data: bytes) -> DaemonStatus | None:
    """Return what a file says; None if it is damaged, too large, or of a newer version."""
    if len(data) > LARGEST:
        return None
    try:
        found = msgspec.json.decode(data, type=DaemonStatus)
        if not 1 <= found.version <= VERSION:
            return None
        return msgspec.convert(_printable(msgspec.to_builtins(found)), DaemonStatus)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _printable(value: object) -> object:
    """Return a value with every text in it cut, and shown on one line."""
    if isinstance(value, str):
        if not value.isprintable():
            value = display(value.encode("utf-8", "surrogateescape"))
        return value[:LONGEST_TEXT]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value


def publish(spool: OpenSpool, status: DaemonStatus) -> None:
    """Write what this process says of a queue, in the place of what it said before.

    One thread of a process publishes for one spool. Raises OSError or WatcherError.
    """
    data = encode(status)
    directory = process_dir_for(spool).fd
    fd = state_files.create_anew(_SCRATCH, directory, os.O_WRONLY)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(None, "the disk took a part of the file only")  # noqa: TRY301
        os.rename(_SCRATCH, STATUS, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(_SCRATCH, dir_fd=directory)
        raise
    finally:
        os.close(fd)


def read_all(spool: OpenSpool) -> list[tuple[str, bool, DaemonStatus]]:
    """Return what each process says of the queue: its directory's name, whether it lives, what.

    A process that died is among them until a recovery clears its directory. A process that
    publishes nothing, such as an operator's command, is not.
    """
    found = []
    for name, directory in _process_directories(spool):
        status = _read(STATUS, directory)
        if status is not None:
            found.append((display(name), _is_locked(directory), status))
    return found


def read_last(spool: OpenSpool) -> DaemonStatus | None:
    """Return what the daemon said that ended last, by its end or its last sign of life."""
    ended = [status for _, alive, status in read_all(spool) if not alive]
    with contextlib.suppress(OSError, WatcherError):
        root = spool.home.open()
        try:
            status = _read(LAST_DAEMON, root)
        finally:
            os.close(root)
        ended += [] if status is None else [status]
    return max(ended, key=lambda status: status.written, default=None)


def _process_directories(spool: OpenSpool) -> Iterator[tuple[bytes, int]]:
    """Yield the name and the descriptor of each process directory, open until the next one."""
    try:
        inflight = spool.home.open(INFLIGHT)
    except (OSError, WatcherError):
        return
    try:
        for name in sorted(names_in(inflight)):
            with contextlib.suppress(OSError):
                directory = open_dir(name, inflight)
                try:
                    yield name, directory
                finally:
                    os.close(directory)
    finally:
        os.close(inflight)


def _read(name: bytes, directory: int) -> DaemonStatus | None:
    try:
        return decode(state_files.read(name, directory, LARGEST + 1))
    except OSError:
        return None


def _is_locked(directory: int) -> bool:
    """Whether a process holds the lock of its directory, and so lives.

    A shared lock: two readers do not take each other for that process. A recovery that comes at
    this moment takes the directory for a living process's, and looks again at its next sweep.
    """
    try:
        fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.flock(directory, fcntl.LOCK_UN)
    return False
