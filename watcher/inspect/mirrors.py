"""Recognise a folder that another program mirrors, by what such programs leave in it or above it.

Guarantees: nothing is changed; at most `LOOKS` names of each folder are read.
Fails: never; a folder that cannot be read is not recognised.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from watcher.rules.finding import WARNING, Check
from watcher.rules.names import display
from watcher.spool.spool import Spool

LOOKS = 10_000  # names of one directory
_RANDOM = re.compile(rb"\..+\.(?=[A-Za-z0-9]*[A-Z0-9])[A-Za-z0-9]{6}")  # mkstemp, as rsync does it


class Trace(NamedTuple):
    """What a program leaves in the folders that it mirrors."""

    program: str
    both_ways: bool
    names: re.Pattern[bytes]
    regular: bool = False  # only a regular file: in a home directory the name is something else
    above: bool = True  # also looked for in the directories above the queue

    def fits(self, item: os.DirEntry[bytes]) -> bool:
        """Whether a file in a folder is such a trace."""
        if self.names.fullmatch(item.name) is None:
            return False
        return not self.regular or item.is_file(follow_symlinks=False)


TRACES = (
    Trace("Syncthing", True, re.compile(rb"\.stfolder|\.stignore|[.~]syncthing[.~].+")),
    Trace("rsync", False, re.compile(rb"\.~tmp~|\.rsync-partial|\.rsync-filter")),
    Trace("rsync", False, _RANDOM, regular=True, above=False),
    Trace("Unison", True, re.compile(rb"\.unison\..+")),
    Trace("Nextcloud", True, re.compile(rb"\._?sync_.*\.db|\.(?:nextcloud|owncloud)sync\.log")),
    Trace("Dropbox", True, re.compile(rb"\.dropbox"), regular=True),
    Trace("Dropbox", True, re.compile(rb"\.dropbox\.cache")),
)


class Mirror(NamedTuple):
    """A folder that seems to be mirrored."""

    folder: bytes
    trace: Trace
    name: bytes  # by which it was recognised

    def __str__(self) -> str:
        seen = display(os.path.join(self.folder, self.name))
        return f"{self.trace.program} seems to mirror {display(self.folder)} ({seen})"


def mirrors_of(path: bytes) -> Iterator[Mirror]:
    """Yield the mirrors that a queue lies in, one for each program, the nearest first."""
    known: set[str] = set()
    folder = os.path.realpath(path)
    for level in itertools.count():
        for mirror in _in_folder(folder, queue=level == 0):
            if mirror.trace.program not in known:
                known.add(mirror.trace.program)
                yield mirror
        if folder == b"/":
            return
        folder = os.path.dirname(folder)


def _in_folder(folder: bytes, *, queue: bool) -> Iterator[Mirror]:
    try:
        with os.scandir(folder) as items:
            for item in itertools.islice(items, LOOKS):
                for trace in TRACES:
                    if (queue or trace.above) and trace.fits(item):
                        yield Mirror(folder, trace, item.name)
    except OSError:
        return


def check_mirrors(spool: Spool) -> Iterator[Check]:
    """Say what a mirror does to a queue, and what to set."""
    for mirror in mirrors_of(spool.path):
        words = [f"{mirror}: {_consequence(mirror.trace)}"]
        if _is_below(spool.home.path, mirror.folder):
            words.append(
                "it may copy or remove .watcher/ with the entries in it: set state_dir to a"
                f" directory outside {display(mirror.folder)}"
            )
        yield Check(WARNING, "mirrored", "; ".join(words))


def _consequence(trace: Trace) -> str:
    if trace.both_ways:
        return "what is handled here is deleted at the other side too"
    return "what is handled here comes again with its next run, unless it removes the source files"


def _is_below(path: bytes, folder: bytes) -> bool:
    path = os.path.realpath(path)
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
