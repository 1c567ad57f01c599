"""The files in a queue before the first actor starts, and the names that writers will draw.

Two kinds of names: a plain one, which may be used again at any moment, and one as Mailman and
`enqueue` draw it, which is never used again. Files of the two kinds are removed differently.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple
from unittest import mock

from explorer.actors import MARKER, PROTOCOLS, message, metadata
from explorer.asking import FIRST_MOMENT, FIRST_PID, random_bytes

import writers
from watcher import mailman
from watcher.commit_one import enqueue
from watcher.rules.stamp import Schedule, stamped

PLAIN = "1000000000.0+aaaa"
DRAWN = "1000000000.0+" + hashlib.sha1(b"a").hexdigest()
DUE = Schedule(1_500_000_000_000, attempts=1, delay=30.0)


def whole(token: str) -> bytes:
    """Return a committed entry's file."""
    return mailman.write_pck(message(token), metadata(token))


class Entry(NamedTuple):
    """One committed file."""

    name: str = PLAIN

    def __call__(self, root: str) -> None:
        _put(root, self.name + ".pck", whole("a"))


class Pair(NamedTuple):
    """A committed pair."""

    name: str = PLAIN

    def __call__(self, root: str) -> None:
        _put(root, self.name + ".msg", message("a"))
        letter = writers.TestMessage(message("a"), metadata("a"))
        _put(root, self.name + ".db", writers._marshalled(letter))


class Lying(NamedTuple):
    """An entry or a pair in a directory of ours."""

    state: str
    entry: Entry | Pair

    def __call__(self, root: str) -> None:
        self.entry(f"{root}/.watcher/{self.state}")


class Deferred(NamedTuple):
    """A deferred entry or pair that is due."""

    entry: Entry | Pair

    def __call__(self, root: str) -> None:
        place = f"{root}/.watcher/deferred"
        self.entry(place)
        for name in os.listdir(place):
            stem, suffix = os.path.splitext(os.fsencode(name))
            due = os.path.join(os.fsencode(place), stamped(DUE, stem, suffix))
            os.rename(f"{place}/{name}", due)


def a_report(root: str) -> None:
    """Put a file into a drop folder."""
    _put(root, "report.csv", message("a"))


def a_report_and_an_archive(root: str) -> None:
    """Put a file into a drop folder that has an archive with a file of its name."""
    a_report(root)
    os.mkdir(os.path.join(root, "archive"), 0o700)
    _put(root, "archive/report.csv", b"of an earlier day")


def a_marked_report(root: str) -> None:
    """Put a file and its marker into a drop folder."""
    a_report(root)
    _put(root, "report.csv" + MARKER, b"")


class Another(NamedTuple):
    """The same, and another entry behind it."""

    first: Callable[[str], None]
    name: str = "behind.csv"

    def __call__(self, root: str) -> None:
        self.first(root)
        raw = self.name.endswith(".csv")
        _put(root, self.name, message("b") if raw else whole("b"))


def deferred_name(name: str) -> str:
    """Return the location of a deferred entry."""
    return "deferred/" + os.fsdecode(stamped(DUE, os.fsencode(name), b".pck"))


@cache
def drawn_by(protocol: str) -> str:
    """Return the name that a writer of token "a" will draw if it is the first actor of a run."""
    fixed = partial(random_bytes, 0, 1)
    with (
        tempfile.TemporaryDirectory() as root,
        mock.patch("time.time", return_value=float(FIRST_MOMENT)),
        mock.patch("time.time_ns", return_value=FIRST_MOMENT * 1_000_000_000),
        mock.patch("os.getpid", return_value=FIRST_PID),
        mock.patch("os.urandom", fixed),
        mock.patch("watcher.commit_one._last_time", [0]),
    ):
        if protocol == "enqueue":
            return enqueue(root, message("a"), metadata("a"))
        letter = writers.TestMessage(message("a"), metadata("a"))
        return PROTOCOLS[protocol](root, letter, writers.no_pause)


def _put(root: str, name: str, data: bytes) -> None:
    with open(os.path.join(root, name), "xb") as file:
        file.write(data)
