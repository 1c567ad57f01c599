"""A small queue with entries for every result, and the required fate of each.

No two files of entries have the same contents. So wherever the bytes of an entry are found whole in
the queue directory, the entry is there.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import marshal
import os
import re
import time
from dataclasses import dataclass, field

from kill_matrix.handler import Call
from watcher import mailman
from watcher.rules.stamp import Schedule, stamped


class Fate(enum.Enum):
    """The state that an entry must be in at the end."""

    DONE = "done"
    DEAD = "dead"
    ORPHAN = "orphans"
    ANY = "any"  # done, or whole in a state directory: an operator moved it
    DELETED = "deleted"  # the same, or removed by an operator
    ARCHIVED = (
        "archived"  # in the archive, as at the beginning, whether it was handled again or not
    )


@dataclass
class Entry:
    """One committed entry: the contents of its files, and what the handler must receive."""

    name: str
    files: dict[str, bytes]  # path below the queue directory -> contents
    message: bytes = b""
    token: str = ""
    fate: Fate = Fate.DONE
    attempt: int = 1  # the number of its first attempt; 0: an operator may have reset it
    open: bool = False  # its writer keeps it open until the command has ended
    handled: bool = True  # it is given to a handler
    called: str = ""  # its name, if other entries have the same; "": `name`

    @property
    def digest(self) -> str:
        """The digest of its message that the handler must record."""
        return hashlib.sha256(self.message).hexdigest()

    def of(self, calls: list[Call]) -> list[Call]:
        """Return the calls for it: by name, and by bytes if other entries have the name."""
        if not self.called:
            return [call for call in calls if call.entry == self.name]
        return [call for call in calls if self.has(call.entry) and call.digest == self.digest]

    def has(self, name: str) -> bool:
        """Whether it may have this name: its own, or a number if a replacement has its own."""
        own = self.called or self.name
        return name == own or re.fullmatch(re.escape(own) + "~[0-9]+", name) is not None


@dataclass
class Scene:
    """A queue directory, its entries, and a writer that still has a file open."""

    path: str
    entries: dict[str, Entry] = field(default_factory=dict)
    bystanders: dict[str, bytes] = field(default_factory=dict)  # files that must not change
    writer: int = -1
    to_come: str = ""  # directory of the files that handlers rename into the queue
    archive: str = ""  # where a done entry must be, once and whole; "": nowhere

    def add(self, entry: Entry) -> None:
        """Write an entry's files."""
        for path, data in entry.files.items():
            _write(os.path.join(self.path, path), data)
        self.entries[entry.name] = entry

    def add_to_come(self, entry: Entry) -> None:
        """Write an entry's file where the handler of its namesake finds it and renames it in."""
        self.to_come = os.path.join(os.path.dirname(self.path), "over")
        for name, data in entry.files.items():
            _write(os.path.join(self.to_come, name), data)
        self.entries[entry.name] = entry

    def waits_to_come(self, entry: Entry) -> bool:
        """Whether it has not been renamed into the queue yet."""
        return any(
            _read(os.path.join(self.to_come, name)) == data
            for name, data in entry.files.items()
            if self.to_come
        )

    def finish_writing(self) -> None:
        """Have the slow writer finish and close its file."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1


def _write(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def _read(path: str) -> bytes:
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read()
    return b""


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
    data = mailman.write_pck(message, {"token": token})
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


def taken(path: str) -> Scene:
    """Make the queue of a handler that takes every entry, whatever its name."""
    return _all_taken(full(path))


def taken_raw(path: str) -> Scene:
    """Make a drop folder for such a handler, in which two entries have the same name."""
    scene = archived(path)
    scene.archive = ""
    return _all_taken(scene)


def _all_taken(scene: Scene) -> Scene:
    for entry in scene.entries.values():
        if entry.handled and entry.fate is Fate.DEAD:
            entry.fate = Fate.DONE
    return scene


def kept(path: str, fate: Fate = Fate.ANY) -> Scene:
    """Make the queue of an operator's commands: entries in every state that they work on."""
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


def raw(
    called: str,
    which: str = "",
    place: str = "",
    fate: Fate = Fate.DONE,
    *,
    stamp: Schedule | None = None,
) -> Entry:
    """Return a file of a drop folder; `which` makes its contents differ from its namesakes'."""
    name = f"{called}, {which}"
    message = _message(name)
    file = f"{called}.csv"
    if stamp is not None:
        file = stamped(stamp, called.encode(), b".csv").decode()
    attempt = 1 if stamp is None else stamp.attempts + 1
    return Entry(name, {place + file: message}, message, "", fate, attempt, called=called)


def reused(path: str) -> Scene:
    """Make a drop folder whose names are used again while their files are handled or wait."""
    scene = Scene(path)
    os.mkdir(path)
    ours = ".watcher/"
    due = Schedule(time.time_ns() // 1_000_000 - 1000, attempts=1, delay=0.05)
    for called, fate in (("due", Fate.DONE), ("reject", Fate.DEAD), ("retry-3", Fate.DONE)):
        scene.add(raw(called, "deferred", ours + "deferred/", fate, stamp=due))
        scene.add_to_come(raw(called, "fresh", fate=fate))
    scene.add(raw("aside", "left", _DEAD))
    scene.add(raw("aside", "fresh"))
    scene.add(raw("done", "first"))
    scene.add_to_come(raw("done", "renamed over it"))
    scene.add(raw("retry-2", "the only"))
    slow = raw("slow", "the only")
    slow.open = True
    scene.add(slow)
    _keep_open(scene, "slow.csv")
    return scene


def archived(path: str) -> Scene:
    """Make a drop folder with an archive, in which two entries get the same name."""
    scene = Scene(path, archive="archive/")
    os.mkdir(path)
    ours = ".watcher/"
    due = Schedule(time.time_ns() // 1_000_000 - 1000, attempts=1, delay=0.05)
    scene.add(raw("due", "deferred", ours + "deferred/", stamp=due))
    scene.add(raw("retry-3", "deferred", ours + "deferred/", stamp=due))
    scene.add(raw("aside", "left", _DEAD))
    scene.add(raw("aside", "fresh"))
    scene.add(raw("one", "the only"))
    scene.add(raw("retry-2", "the only"))
    scene.add(raw("reject", "the only", fate=Fate.DEAD))
    return scene


def in_archive(path: str) -> Scene:
    """Make a drop folder whose entries are in its archive; one name is twice there."""
    scene = Scene(path, archive="archive/")
    os.mkdir(path)
    for which, file in (("first", "one"), ("second", "one~1"), ("the only", "report~1~0")):
        entry = raw(file.rpartition("~")[0] or file, which)
        entry.files = {f"archive/{file}.csv": entry.message}
        entry.fate, entry.attempt = Fate.ARCHIVED, 0
        scene.add(entry)
    scene.add(raw("one", "newer"))
    return scene


def leaving(path: str) -> Scene:
    """Make the queue of a handler that leaves a child running with every result."""
    scene = Scene(path)
    os.mkdir(path)
    for entry in (
        pck("retry-3"),
        pair("retry-pair-2"),
        pck("one"),
        pair("pair"),
        pck("reject", fate=Fate.DEAD),
        pair("rejectpair", fate=Fate.DEAD),
    ):
        scene.add(entry)
    return scene


def reloaded(path: str) -> Scene:
    """Make the queue of a daemon that reloads twice, with entries in hand."""
    scene = full(path)
    for number in range(6):
        scene.add(pck(f"reload{number}"))
        scene.add(pck(f"retry-{number}-2"))
    return scene


_DEAD = ".watcher/inflight/4194304.0badcafe/"  # no process can have this number


def _left_by_the_dead(scene: Scene) -> None:
    """Make the process directory of a dead process, with entries that it had in hand."""
    place = _DEAD
    scene.add(pck("aside", place))
    entry = pck("inhand")
    entry.attempt = 2
    scene.add(entry)
    status = os.stat(os.path.join(scene.path, "inhand.pck"))
    line = f"{status.st_ino} {status.st_ctime_ns} queue/inhand.pck\n".encode()
    _write(os.path.join(scene.path, place, ".ledger"), line.ljust(512, b"\0"))


def _slow_writer(scene: Scene) -> None:
    """Begin a pair whose message stays open for writing: it must not be handled, at any age."""
    entry = pair("slow")
    entry.open = True
    scene.add(entry)
    _keep_open(scene, "slow.msg")


def _keep_open(scene: Scene, name: str) -> None:
    path = os.path.join(scene.path, name)
    scene.writer = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
