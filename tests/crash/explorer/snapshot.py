"""A queue directory as a value: equal for equal states, whatever the run that led there.

An inode number is replaced by the actor that made the file and its step. Times, and their copies in
notes and ledgers, are left out. The journal is left out: no decision depends on it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping

from explorer.steps import REAL, shown

_EXPLAINS = ("entry", "state", "files", "was", "own", "attempts", "crashes")


def tree(root: str, identity: Mapping[int, str]) -> Iterator[tuple[str, str, int, str]]:
    """Yield path, identity, number of names and contents of each file, in order."""
    yield from _tree(root, "", root, identity)


def _tree(
    root: str, below: str, path: str, identity: Mapping[int, str]
) -> Iterator[tuple[str, str, int, str]]:
    for name in sorted(REAL["listdir"](path)):
        where = f"{below}{shown(os.fsencode(name))}"
        if where.startswith(".watcher/journal"):
            continue
        full = f"{path}/{name}"
        status = REAL["lstat"](full)
        which = identity.get(status.st_ino, "?")
        if stat.S_ISDIR(status.st_mode):
            yield where, which, 0, ""
            yield from _tree(root, where + "/", full, identity)
        else:
            yield where, which, status.st_nlink, contents(root, full, where, identity)


def contents(root: str, full: str, where: str, identity: Mapping[int, str]) -> str:
    """Return the contents of a file, or a digest, without the parts that differ between runs."""
    data = read(full)
    if where.startswith(".watcher/"):
        if where.endswith("/.ledger"):
            return " | ".join(_slot(root, slot, identity) for slot in data.split(b"\n"))
        if where.endswith(".json"):
            return _note(data)
    return f"{len(data)} bytes {hashlib.sha1(data).hexdigest()[:8]}"


def _slot(root: str, slot: bytes, identity: Mapping[int, str]) -> str:
    fields = slot.lstrip(b"\0").split(b" ", 2)
    if len(fields) != 3:
        return ""
    inode, ctime, place = int(fields[0]), int(fields[1]), os.fsdecode(fields[2])
    path = place.removeprefix("queue/") if place.startswith("queue/") else f".watcher/{place}"
    try:
        status = REAL["lstat"](f"{root}/{path}")
        still = (status.st_ino, status.st_ctime_ns) == (inode, ctime)
    except OSError:
        still = False
    return f"{identity.get(inode, '?')} at {shown(os.fsencode(place))}{'' if still else ', gone'}"


def _note(data: bytes) -> str:
    try:
        note = json.loads(data)
    except ValueError:
        return "half a note" if data else "empty"
    return repr([note.get(key) for key in _EXPLAINS])


def read(path: str) -> bytes:
    """Read a whole file, without a step."""
    fd = REAL["open"](path, os.O_RDONLY)
    try:
        return REAL["read"](fd, 1 << 20)
    finally:
        REAL["close"](fd)
