"""What a writer of the table is: the programs it needs, the options of its queue, what it writes.

A case is a function that makes its program write `NAME` into a folder, and returns when the program
has ended. It returns what the handler must get: for each name the contents in order, each exactly
once, and nothing else. `ANY_NAME` is the one name that the writer draws itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypedDict, Unpack

from real_writers.servers import Servers

NAME = "x.csv"
ANY_NAME = "*"  # no file has this name
SIZE = 300_000  # bytes of a file
PAUSE = 1.2  # seconds for which a slow writer stops: less than `settle` of the table
SLOW_RATE = 150  # KB a second
RESUMED = 6.0  # `settle` of a queue whose writer is ended and started again, in seconds
PATIENCE = 60.0  # seconds for a program to end
MARKER = "{name}.done"

Expected = dict[str, list[bytes]]
Options = Mapping[str, object]
_NONE: Options = MappingProxyType({})


class WriterFailed(Exception):
    """A program failed; the text is its output."""


class Place(NamedTuple):
    """The directories of one case."""

    queue: str  # the watched folder
    beside: str  # a folder on the same file system
    elsewhere: str  # one on another file system, or "" where none is to be had
    relative: str  # the watched folder as the servers name it
    servers: Servers
    at_work: Callable[[str], None]  # waits until the handler has this name in hand

    def path(self, name: str = NAME) -> str:
        """Return the path of a name in the watched folder."""
        return os.path.join(self.queue, name)

    def source(self, name: str = NAME, seed: int = 0) -> str:
        """Make a file to be sent; return its path."""
        path = os.path.join(self.beside, name)
        with open(path, "wb") as file:
            file.write(contents(self.queue, seed))
        return path


class Case(NamedTuple):
    """One writer."""

    name: str
    needs: tuple[str, ...]
    write: Callable[[Place], Expected]
    settle: float | None = None  # seconds, where the usual ones are too short for its pauses
    options: Options = _NONE  # of its queue, in every column
    marker: Options = _NONE  # of its queue in the last column; empty: it has none
    marks: bool = False  # it makes the marker itself
    waits: bool = False  # it writes or closes later than the events of the folder tell
    unknown: str = ""  # why only the options of the last column can tell

    @property
    def marked_by_us(self) -> bool:
        """Whether the table makes the marker after the writer has ended."""
        return "marker" in self.marker and not self.marks


class More(TypedDict, total=False):
    """The fields of a case that have defaults."""

    settle: float | None
    options: Options
    marker: Options
    marks: bool
    waits: bool
    unknown: str


def contents(queue: str, seed: int = 0) -> bytes:
    """Return what a file of a queue holds."""
    line = hashlib.sha256(f"{queue} {seed}".encode()).hexdigest().encode() + b"\n"
    return line * (SIZE // len(line))


def run(*argv: str, stdin: bytes = b"", okay: tuple[int, ...] = (0,)) -> None:
    """Run a program to its end."""
    try:
        ended = subprocess.run(
            argv, input=stdin, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise WriterFailed(f"{argv[0]} did not end") from None
    if ended.returncode not in okay:
        said = (ended.stderr or ended.stdout).decode(errors="replace").strip().replace("\n", " / ")
        raise WriterFailed(f"{argv[0]} ended with {ended.returncode}: {said[-300:]}")


@contextlib.contextmanager
def running(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the background; it is killed if it still runs at the end."""
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=null, stderr=null) as program:
        try:
            yield program
        finally:
            if program.poll() is None:
                program.kill()


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise WriterFailed("waited in vain for the program")
        time.sleep(0.01)


def begun(place: Place, name: str = NAME) -> bool:
    """Whether something of a file is in the watched folder."""
    return os.path.exists(place.path(name)) and os.path.getsize(place.path(name)) > 0


def whole(place: Place, name: str = NAME) -> Expected:
    """Expect the file that `source` made, once."""
    return {name: [contents(place.queue)]}


CASES: list[Case] = []


def case(
    name: str, *needs: str, **more: Unpack[More]
) -> Callable[[Callable[[Place], Expected]], None]:
    """Add a writer to the table."""

    def add(write: Callable[[Place], Expected]) -> None:
        CASES.append(Case(name, needs, write, **more))

    return add


def command(
    name: str, *needs: str, **more: Unpack[More]
) -> Callable[[Callable[[Place, str], list[str]]], None]:
    """Add a writer that is one command line, built from the place and the source's path."""

    def add(argv: Callable[[Place, str], list[str]]) -> None:
        def write(place: Place) -> Expected:
            run(*argv(place, place.source()))
            return whole(place)

        CASES.append(Case(name, needs, write, **more))

    return add


def shell(script: str, *arguments: str) -> list[str]:
    """Return the command line of a shell script; `$1` and so on are the arguments."""
    return ["sh", "-c", script, "sh", *arguments]
