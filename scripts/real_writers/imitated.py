"""Writers that are not installed here: this program makes the system calls that they make.

Browsers, Windows programs, scanners, and exports that write a marker file after their data file.
"""

from __future__ import annotations

import os
import time

from real_writers.case import MARKER, NAME, PAUSE, Expected, Place, case, contents, whole

_IGNORED = (b"~$x.csv", b"Thumbs.db", b"desktop.ini")


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


@case("append, close, reopen after a pause")
def _appended(place: Place) -> Expected:
    return _pages(place, PAUSE, PAUSE, PAUSE)


@case("scanner: a page each 0.2 to 4 s", settle=6.0, marker={"marker": MARKER})
def _scanned(place: Place) -> Expected:
    return _pages(place, 0.2, 1.0, 4.0, 0.0)


def _pages(place: Place, *pauses: float) -> Expected:
    """Append a page and close the file, once for each pause."""
    data = contents(place.queue)
    size = len(data) // len(pauses) + 1
    for number, pause in enumerate(pauses):
        with open(place.path(), "ab") as file:
            file.write(data[number * size : (number + 1) * size])
        time.sleep(pause)
    return whole(place)


@case("SMB copy of Windows, closes twice, 6 s apart", settle=8.0)
def _closed_twice(place: Place) -> Expected:
    data = contents(place.queue)
    with open(place.path(), "wb") as file:
        file.truncate(len(data))
        file.write(data)
    time.sleep(6.0)
    with open(place.path(), "r+b"):
        os.utime(place.path(), (1_000_000_000, 1_000_000_000))
    return whole(place)


@case("Windows: ~$x.csv, Thumbs.db, desktop.ini beside")
def _windows(place: Place) -> Expected:
    for name in _IGNORED:
        _write(place.path(os.fsdecode(name)), b"not an entry\n")
    _write(place.path(), contents(place.queue))
    return whole(place)


@case("Windows: X.CSV; match, ignore_case", options={"match": ["*.csv"], "ignore_case": True})
def _capitals(place: Place) -> Expected:
    _write(place.path("X.CSV"), contents(place.queue))
    _write(place.path("THUMBS.DB"), b"not an entry\n")
    return whole(place, "X.CSV")


@case("Chrome: .crdownload, then rename")
def _chrome(place: Place) -> Expected:
    part = place.path("Unconfirmed 4711.crdownload")
    _slowly(part, contents(place.queue))
    os.rename(part, place.path())
    return whole(place)


@case("browser: .part and .crdownload left behind")
def _left(place: Place) -> Expected:
    for name in ("y.csv.part", "z.csv.crdownload"):
        _write(place.path(name), b"part of a file\n")
    return {}


@case(
    "Firefox: an empty file, .part renamed over it",
    unknown="an empty file stands there for as long as the download takes, longer than settle",
)
def _firefox(place: Place) -> Expected:
    _write(place.path(), b"")
    part = place.path("x.Ab12Cd34.csv.part")
    _slowly(part, contents(place.queue), parts=4)
    os.rename(part, place.path())
    return whole(place)


def _slowly(path: str, data: bytes, parts: int = 2) -> None:
    """Write a file in parts, with a pause after each."""
    size = len(data) // parts + 1
    with open(path, "wb", buffering=0) as file:
        for at in range(0, len(data), size):
            file.write(data[at : at + size])
            time.sleep(PAUSE)


@case(
    "export: x.csv, then x.csv.done",
    marker={"marker": MARKER},
    marks=True,
    unknown="which file is a marker must be said",
)
def _marked(place: Place) -> Expected:
    _write(place.path(), contents(place.queue))
    time.sleep(PAUSE)
    _write(place.path(NAME + ".done"), b"")
    return whole(place)


@case(
    "export: x.csv, then x.ok; match",
    options={"match": ["*.csv"]},
    marker={"marker": "{stem}.ok"},
    marks=True,
)
def _marked_by_stem(place: Place) -> Expected:
    _write(place.path(), contents(place.queue))
    _write(place.path("x.ok"), b"")
    return whole(place)
