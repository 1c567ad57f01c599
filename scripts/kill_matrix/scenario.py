"""A small queue whose entries go every way there is, and what is known of each.

Everything that an entry consists of is the only file of its contents, so that wherever its bytes
are found whole in the queue directory, it is there.
"""

from __future__ import annotations

import enum
import hashlib
import marshal
import os
import time
from dataclasses import dataclass, field

from watcher import contents
from watcher.spool.schedule import Schedule, stamped


class Fate(enum.Enum):
    """What becomes of an entry, when all is over."""

    DONE = "done"
    DEAD = "dead"
    ORPHAN = "orphans"
    ANY = "any"  # done, or whole in a directory of ours: an operator was at work
    DELETED = "deleted"  # the same, or removed by an operator


@dataclass
class Entry:
    """One accepted entry: the contents of its files, and what a handler must be given of it."""

    name: str
    files: dict[str, bytes]  # path below the queue directory -> contents
    message: bytes = b""
    token: str = ""
    fate: Fate = Fate.DONE
    attempt: int = 1  # the number of its first attempt; 0: an operator may have set it back
    open: bool = False  # its writer has it open until the command has ended
    handled: bool = True  # it comes to a handler at all

    @property
    def digest(self) -> str:
        """What the handler's record must say of its message."""
        return hashlib.sha256(self.message).hexdigest()


@dataclass
class Scene:
    """A queue directory, its entries, and the writer that is still at work in it."""

    path: str
    entries: dict[str, Entry] = field(default_factory=dict)
    bystanders: dict[str, bytes] = field(default_factory=dict)  # what nobody may touch
    writer: int = -1

    def add(self, entry: Entry) -> None:
        """Put an entry's files on disk."""
        for path, data in entry.files.items():
            _write(os.path.join(self.path, path), data)
        self.entries[entry.name] = entry

    def finish_writing(self) -> None:
        """Let the slow writer finish and close."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


def _write(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def _message(name: str) -> bytes:
    return f"Subject: {name}\n\nThe only message of {name}.\n".encode()


def pck(
    name: str, place: str = "", fate: Fate = Fate.DONE, *, stamp: Schedule | None = None
) -> Entry:
    """Return an entry of one file, as `enqueue` writes it."""
    message, token = _message(name), f"token of {name}"
    file = f"{name}.pck"
    if stamp is not None:
        file = stamped(stamp, name.encode(), b".pck").decode()
    data = contents.write_pck(message, {"token": token})
    attempt = 1 if stamp is None else stamp.attempts + 1
    return Entry(name, {place + file: data}, message, token, fate, attempt)


def pair(
    name: str, place: str = "", fate: Fate = Fate.DONE, *, stamp: Schedule | None = None
) -> Entry:
    """Return a pair as Mailman 2.0 wrote it."""
    message, token = _message(name), f"token of {name}"
    stem = name if stamp is None else stamped(stamp, name.encode(), b".msg").decode()[:-4]
    metadata = marshal.dumps({b"token": token.encode()}, 2)
    files = {f"{place}{stem}.db": metadata, f"{place}{stem}.msg": message}
    attempt = 1 if stamp is None else stamp.attempts + 1
    return Entry(name, files, message, token, fate, attempt)


def full(path: str) -> Scene:
    """Make the queue of the daemon and of the sweep."""
    scene = Scene(path)
    os.mkdir(path)
    now_ms = time.time_ns() // 1_000_000
    due = Schedule(now_ms - 1000, attempts=1, delay=0.05)
    ours = ".watcher/"
    dead = pck("reject-before", ours + "dead/", Fate.DEAD)
    dead.handled = False
    scene.add(dead)
    scene.add(pck("due", ours + "deferred/", stamp=due))
    scene.add(pck("retry-again-3", ours + "deferred/", stamp=due))
    scene.add(pair("duepair", ours + "deferred/", stamp=due))
    _left_by_the_dead(scene)
    scene.add(pair("pair"))
    scene.add(pck("one"))
    scene.add(pck("retry-2"))
    scene.add(pair("retry-pair-2"))
    scene.add(pck("reject", fate=Fate.DEAD))
    scene.add(pair("rejectpair", fate=Fate.DEAD))
    half = Entry("half", {"half.msg": _message("half")}, fate=Fate.ORPHAN, handled=False)
    scene.add(half)
    _slow_writer(scene)
    scene.bystanders = {"unfinished.pck.tmp": b"as far as its writer came"}
    for name, data in scene.bystanders.items():
        _write(os.path.join(path, name), data)
    return scene


def kept(path: str, fate: Fate = Fate.ANY) -> Scene:
    """Make the queue of an operator: something in every state that a command is for."""
    scene = Scene(path)
    os.mkdir(path)
    due = Schedule(time.time_ns() // 1_000_000 - 1000, attempts=1, delay=0.05)
    for place, stamp in (("dead", None), ("held", None), ("deferred", due)):
        where = f".watcher/{place}/"
        for entry in (
            pck(f"{place}one", where, fate, stamp=stamp),
            pair(f"{place}pair", where, fate, stamp=stamp),
        ):
            entry.attempt = 0
            scene.add(entry)
    for entry in (pck("heldagain", ".watcher/held/", fate, stamp=due), pck("one"), pair("pair")):
        entry.attempt = 0
        scene.add(entry)
    return scene


def _left_by_the_dead(scene: Scene) -> None:
    """Leave what a process that died had aside, and what it had in hand."""
    place = ".watcher/inflight/4194304.0badcafe/"  # no process can have this number
    scene.add(pck("aside", place))
    entry = pck("inhand")
    entry.attempt = 2
    scene.add(entry)
    status = os.stat(os.path.join(scene.path, "inhand.pck"))
    line = f"{status.st_ino} {status.st_ctime_ns} queue/inhand.pck\n".encode()
    _write(os.path.join(scene.path, place, ".ledger"), line.ljust(512, b"\0"))


def _slow_writer(scene: Scene) -> None:
    """Begin a pair whose message stays open: it may not be handled yet, however old it is."""
    entry = pair("slow")
    entry.open = True
    scene.add(entry)
    path = os.path.join(scene.path, "slow.msg")
    scene.writer = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
