"""Claim an entry: open, lock, check that it is what it was, and let the evidence rule.

Guarantees: while a `Claim` lives, no other process or thread that goes through here has the entry
(flock(2), held by the open file description, so an exec handler that inherits the descriptor keeps
the claim if we die, and the kernel frees it with the last holder). What is claimed is a regular
file with one name, linked under that name at the time of the claim. Nothing is written.
Fails: never raises for what a file or its neighbours may be; every way of not getting an entry is
a `Refused` that says why and when to look again.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from typing import NamedTuple

from watcher import contents
from watcher.age import Ages
from watcher.claim import lease
from watcher.entry import Part, read_part
from watcher.errors import Undecodable
from watcher.evidence import Action, How, Shape, Writer, at_any_age, rule
from watcher.spool.layout import Kind, display
from watcher.spool.schedule import Schedule
from watcher.spool.spool import Spool


class Refusal(enum.Enum):
    """Why an entry was not claimed."""

    GONE = "gone"
    BUSY = "claimed by another"
    YOUNG = "too young"
    WRITER = "being written"
    FOREIGN = "not an entry"
    ERROR = "cannot be read"


class Refused(NamedTuple):
    """Not claimed: why, for people, and in how many seconds it is worth another look."""

    refusal: Refusal
    why: str
    wait: float = 0.0
    shape: Shape = Shape.WHOLE


class Terms(NamedTuple):
    """On what terms a queue's entries are claimed."""

    grace: float  # seconds
    ages: Ages
    max_size: int = contents.MAX_SIZE  # bytes
    lock: bool = True  # False only to look (a dry run)


class Claim:
    """One claimed entry. `parts[0]` is its message's file; close with `release`."""

    __slots__ = (
        *("_stem", "action", "asks", "kind", "name", "parts", "schedule", "spool", "terms", "why"),
        "writer",
    )

    def __init__(self, spool: Spool, name: bytes, terms: Terms, *, asks: bool = False) -> None:
        self.spool = spool
        self.name = name
        self.terms = terms
        self.parts: tuple[Part, ...] = ()
        self.asks = asks and spool.leases  # whether anybody writes to the files
        self.writer = Writer.NONE if self.asks else Writer.UNKNOWN  # to any of them, when claimed
        self.kind = "raw" if spool.layout.raw else "pck"
        self.action = Action.TAKE
        self.schedule: Schedule | None = None  # of an entry that was deferred
        self.why = ""
        self._stem = b""

    @property
    def stem(self) -> bytes:
        """The entry's NAME."""
        if not self._stem:
            layout = self.spool.layout
            if self.schedule is not None:
                layout = layout.as_put_away()
            self._stem = layout.stem(self.parts[0].called)
        return self._stem

    def add(self, name: bytes, directory: int = -1, own: bytes = b"") -> Refused | None:
        """Open and lock one more file of the entry."""
        opened = _open_and_lock(self, name, directory, own)
        if isinstance(opened, Refused):
            return opened
        self.parts += (opened,)
        return None

    def age(self) -> float:
        """Seconds since the youngest of the entry's files last changed."""
        youngest = max(part.ctime_ns for part in self.parts)
        return self.terms.ages.age(self.name, youngest)  # as a scan asks: `scan.Mark`

    def changed(self) -> bool:
        """Whether the message was written to, in place, since it was claimed."""
        message = self.parts[0]
        now = os.fstat(message.fd)
        return (now.st_size, now.st_mtime_ns) != (message.size, message.mtime_ns)

    def touched(self) -> bool:
        """Whether any of its files changed since it was opened here."""
        for part in self.parts:
            now = os.fstat(part.fd)
            if now.st_size != part.size or now.st_ctime_ns != part.ctime_ns:
                return True
        return False

    def release(self) -> None:
        """Give the entry back: the locks go with the descriptors."""
        for part in self.parts:
            os.close(part.fd)
        self.parts = ()


def take(spool: Spool, name: bytes, how: How, terms: Terms, heard: int = 0) -> Claim | Refused:
    """Claim the entry whose message's file is `name` (or the lone `.db` of that name).

    `name` is in the queue, or in `deferred/` with that in front (`deferred.take_deferred`).
    `heard` is when its rename was heard of (nanoseconds since the epoch; 0: not said). A file that
    changed later may be another's, written in place under a name that came free: of that one the
    rename proves nothing. Asked only where leases tell, that is where ctime is this machine's.
    """
    proven = how is How.RENAMED and not spool.layout.legacy
    claim = Claim(spool, name, terms, asks=not proven)
    try:
        refused = claim.add(name)
        if refused is None:
            if spool.leases and 0 < heard < claim.parts[0].ctime_ns:
                if proven:
                    claim.release()
                    return take(spool, name, How.CATCH_UP, terms)
                how = min(how, How.CATCH_UP)
            if proven:
                return claim  # the hot path: its rename is all the evidence there need be
            refused = _weigh(claim, how)
    except OSError as error:
        refused = Refused(Refusal.ERROR, f"{display(name)}: cannot be read: {error.strerror}")
    except BaseException:
        claim.release()
        raise
    if refused is not None:
        claim.release()
        return refused
    return claim


def _weigh(claim: Claim, how: How) -> Refused | None:
    """Gather what is left of the evidence and rule on it; None when the claim stands."""
    shape = Shape.WHOLE
    if claim.spool.layout.legacy:
        found = _shape(claim)
        if isinstance(found, Refused):
            return found
        shape = found
    if shape is Shape.PAIR and how is How.RENAMED:
        how = How.SWEEP  # one rename says nothing of the other half; CLOSED comes from both
    writer = claim.writer
    if writer is Writer.UNKNOWN and claim.touched():  # what was found out above is of the past
        return Refused(Refusal.WRITER, "its writer closed it just now", 0.0, shape)
    ruling = at_any_age(shape, how, writer) or rule(
        shape, how, writer, claim.age(), claim.terms.grace
    )
    claim.action, claim.why = ruling.action, ruling.why
    if ruling.action is Action.WAIT:
        return Refused(Refusal.YOUNG, ruling.why, ruling.wait, shape)
    if ruling.action is Action.LEAVE:
        return Refused(Refusal.WRITER, ruling.why, 0.0, shape)
    return None


def _shape(claim: Claim) -> Shape | Refused:
    """Find out what there is of a legacy entry, and claim its `.db` too where one belongs."""
    layout = claim.spool.layout
    kind = layout.kind(claim.name)
    if kind is Kind.METADATA_HALF:
        if any(claim.spool.stat(name) for name in layout.message_halves(claim.name)):
            return Refused(Refusal.GONE, "its message is there and stands for both")
        claim.kind = "half"
        return Shape.HALF
    if kind is Kind.ENTRY and not _wants_metadata(claim):
        return Shape.WHOLE
    refused = claim.add(layout.metadata_half(claim.name))
    if refused is None:
        claim.kind = "pair" if kind is Kind.MESSAGE_HALF else "pck+db"
        return Shape.PAIR
    if refused.refusal is Refusal.GONE:
        claim.kind = "half"
        return Shape.HALF
    return refused


def _wants_metadata(claim: Claim) -> bool:
    """Whether a `.pck` holds one pickle only, so that its metadata is in a `.db`.

    A damaged one does not: decoding it will say what is wrong with it.
    """
    try:
        return contents.pickles(read_part(claim.parts[0], claim.terms.max_size)) == 1
    except Undecodable:
        return False


def _open_and_lock(claim: Claim, name: bytes, directory: int, own: bytes) -> Part | Refused:
    spool, disk, lock = claim.spool, claim.spool.disk, claim.terms.lock
    writable = lock and spool.write_to_lock
    place = spool.fd if directory < 0 else directory
    try:
        fd = (disk.open_writable if writable else disk.open)(name, place)
    except FileNotFoundError:
        return Refused(Refusal.GONE, "no longer there")
    except OSError as error:
        return _cannot_open(name, error)
    try:
        if lock:
            disk.lock(fd)
        status = _look_and_ask(claim, fd) if claim.asks else os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            now = spool.stat(name, directory)
            if now is not None and now.st_ino == status.st_ino and now.st_dev == status.st_dev:
                size, ctime_ns, mtime_ns = status.st_size, status.st_ctime_ns, status.st_mtime_ns
                return Part(name, fd, status.st_ino, size, ctime_ns, mtime_ns, directory, own)
            refused = Refused(Refusal.GONE, "no longer under this name")
        else:
            refused = _no_entry(status)
    except BlockingIOError:
        refused = Refused(Refusal.BUSY, "claimed by another process or thread")
    except OSError as error:
        refused = Refused(Refusal.ERROR, f"{display(name)}: cannot be claimed: {error.strerror}")
    os.close(fd)
    return refused


def _look_and_ask(claim: Claim, fd: int) -> os.stat_result:
    """Look at a file and ask whether anybody writes to it: both hold of the same moment."""
    found = lease.take(fd)
    status = os.fstat(fd)
    if found is Writer.NONE:
        lease.give_back(fd)
    if found is Writer.SOME or claim.writer is Writer.NONE:
        claim.writer = found
    return status


def _no_entry(status: os.stat_result) -> Refused:
    """Say why what was opened cannot be an entry."""
    if not stat.S_ISREG(status.st_mode):
        return Refused(Refusal.FOREIGN, "not a regular file")
    if status.st_nlink == 0:
        return Refused(Refusal.GONE, "no longer there")
    return Refused(Refusal.FOREIGN, f"has {status.st_nlink} hard links, an entry has one name")


def _cannot_open(name: bytes, error: OSError) -> Refused:
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
        return Refused(Refusal.FOREIGN, "a symbolic link, a socket or a device")
    if error.errno == errno.EAGAIN:
        return Refused(Refusal.BUSY, "leased to another process (a file server), which was told")
    hint = "; check its owner and mode" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return Refused(Refusal.ERROR, f"{display(name)}: cannot be opened: {error.strerror}{hint}")
