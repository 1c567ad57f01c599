"""Which files in a state directory may belong to one entry, without a listing for each question.

A file in a state directory is called NAME, NAME~1 and so on, or STAMP-NAME. The directory is listed
once; the names are kept in memory by NAME until the directory's own times change.

Guarantees: answers about a directory of up to `SMALL` names are never out of date. A larger one
that changes all the time is listed for at most a twentieth of the time; a name that came since the
last listing may be missing for that long. Up to `MOST` names of a directory are kept in memory; a
larger directory is read each time.
Fails: OSError if the directory cannot be read.
"""

from __future__ import annotations

import os
import re
import threading
import time
import weakref
from collections.abc import Iterator
from typing import NamedTuple

from watcher.rules.stamp import parse
from watcher.spool.dirs import names_in
from watcher.spool.spool import Spool

SMALL = 1_000  # names
MOST = 131_072  # names: the entries that a queue has timers for, with their notes
_SHARE = 20  # a listing is used for this many times as long as it took
_TICK = 0.05  # seconds: two changes within it may leave the same mtime
_KEY = 100  # bytes of NAME: the rest of a longer one may have been cut
_NUMBER = re.compile(rb"(?:~[0-9]{1,9})+\Z")


class _Listing(NamedTuple):
    """The names in a directory, by NAME."""

    times: tuple[int, int, int]  # inode, mtime, ctime of the directory
    settled: bool  # whether any later change shows in the times
    names: dict[bytes, list[bytes]]
    until: float  # monotonic seconds: used until then, whatever changed

    def holds(self, times: tuple[int, int, int]) -> bool:
        """Whether the listing may be used, with the directory's present times."""
        if self.times == times and self.settled:
            return True
        return self.times[0] == times[0] and time.monotonic() < self.until


class _Kept:
    """The listings of one spool, by descriptor."""

    def __init__(self) -> None:
        self._listings: dict[int, _Listing] = {}
        self._lock = threading.Lock()

    def find(self, directory: int, key: bytes) -> list[bytes]:
        with self._lock:
            status = os.fstat(directory)
            times = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            kept = self._listings.get(directory)
            if kept is not None and kept.holds(times):
                return kept.names.get(key, [])
            began, now = time.monotonic(), time.time()
            found: dict[bytes, list[bytes]] = {}
            count = 0
            for name in _names(directory):
                count += 1
                if count > MOST:
                    self._listings.pop(directory, None)
                    return [each for each in _names(directory) if key in _keys(each)]
                for each in _keys(name):
                    found.setdefault(each, []).append(name)
            ended = time.monotonic()
            until = ended + (ended - began) * _SHARE if count > SMALL else 0.0
            settled = now - status.st_mtime > _TICK
            self._listings[directory] = _Listing(times, settled, found, until)
            return found.get(key, [])


def namesakes(spool: Spool, directory: int, own: bytes) -> list[bytes]:
    """Return the names that a file called `own` may have in a state directory, and a few more."""
    with _LOCK:
        kept = _KEPT.setdefault(spool, _Kept())
    return list(kept.find(directory, _bare(own)))


_KEPT: weakref.WeakKeyDictionary[Spool, _Kept] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def _keys(name: bytes) -> set[bytes]:
    """Return the keys of a name: as it is, and without a stamp if it looks stamped."""
    stamp = parse(name)
    return {_bare(name)} if stamp is None else {_bare(name), _bare(stamp[1])}


def _bare(name: bytes) -> bytes:
    stem, dot, suffix = name.rpartition(b".")
    return (_NUMBER.sub(b"", stem) + dot + _NUMBER.sub(b"", suffix))[:_KEY]


def _names(directory: int) -> Iterator[bytes]:
    return (name for name in names_in(directory) if name[:1] != b".")
