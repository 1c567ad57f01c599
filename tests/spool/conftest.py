"""A spool on a real directory, children that do something to it, a disk that others act behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from watcher.rules.age import Ages, SystemClock
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, Layout
from watcher.spool.claimed import ClaimOptions
from watcher.spool.disk import DISK, Disk
from watcher.spool.spool import Spool

PATIENCE = 30  # seconds


class Child:
    """A Python process that runs a program line by line with us: it says, we answer."""

    def __init__(self, program: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *map(os.fsencode, map(str, arguments))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def hear(self) -> str:
        """Return its next line; "" when it has ended."""
        assert self.process.stdout is not None
        alarm = threading.Timer(PATIENCE, self.process.kill)
        alarm.start()
        try:
            return self.process.stdout.readline().rstrip("\n")
        finally:
            alarm.cancel()

    def go_on(self) -> None:
        """Let it go on past its next `input()`."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Wait for its end and return its status."""
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """Kill it and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    """Start a `Child`; it is killed at the end of the test."""
    started: list[Child] = []

    def start(program: str, *arguments: object) -> Child:
        started.append(Child(program, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()


class Behind(Disk):
    """A disk behind whose back something happens: `acts["move"]` before, "after move" after."""

    def __init__(self) -> None:
        self.acts: dict[str, Callable[[], object]] = {}
        self.calls: list[str] = []

    def _call(self, what: str, *arguments: object) -> object:
        self.calls.append(what)
        self._act(what)
        result = getattr(Disk, what)(self, *arguments)
        self._act("after " + what)
        return result

    def _act(self, when: str) -> None:
        act = self.acts.pop(when, None)  # once
        if act is not None:
            act()

    def open(self, name, directory):
        return self._call("open", name, directory)

    def open_writable(self, name, directory):
        return self._call("open_writable", name, directory)

    def lock(self, fd):
        return self._call("lock", fd)

    def unlock(self, fd):
        return self._call("unlock", fd)

    def unlink(self, name, directory):
        return self._call("unlink", name, directory)

    def move(self, name, source, target_name, target):
        return self._call("move", name, source, target_name, target)

    def move_aside(self, name, source, target):
        return self._call("move_aside", name, source, target)

    def archive(self, name, source, target_name, target):
        return self._call("archive", name, source, target_name, target)

    def make_directory(self, name, directory, mode=0o700):
        return self._call("make_directory", name, directory, mode)

    def write_note(self, name, directory, data, *, durable=True):  # noqa: ARG002 - as `Disk`
        return self._call("write_note", name, directory, data)

    def write_record(self, name, directory, data):
        return self._call("write_record", name, directory, data)

    def sync(self, directory):
        return self._call("sync", directory)


class Old(Behind):
    """A disk on a file system without RENAME_NOREPLACE: every move is a link and an unlink."""

    def move(self, name, source, target_name, target):
        self.calls.append("move")
        self._act("move")
        self.link_and_unlink(name, source, target_name, target)
        self._act("after move")


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def old_disk() -> Old:
    return Old()


@pytest.fixture
def open_spool(queue: Path) -> Callable[..., Spool]:
    """Open the queue as a spool."""

    def opened(layout: Layout = Layout(), disk: Disk = DISK) -> Spool:  # noqa: B008 - immutable
        return Spool(os.fsencode(queue), layout, disk)

    return opened


@pytest.fixture
def put(queue: Path) -> Callable[..., bytes]:
    """Put a file into the queue as a writer does: written elsewhere, renamed in."""

    def rename_in(name: bytes, data: bytes = b"data") -> bytes:
        scratch = os.path.join(os.fsencode(queue.parent), b"scratch")
        with open(scratch, "wb") as file:
            file.write(data)
        os.rename(scratch, os.path.join(os.fsencode(queue), name))
        return name

    return rename_in


@pytest.fixture
def files(queue: Path) -> Callable[..., dict[bytes, bytes]]:
    """Return the files of the queue, or of the directory of a state, and what is in them."""

    def read(state: State | None = None) -> dict[bytes, bytes]:
        place = os.fsencode(queue)
        if state is not None:
            place = os.path.join(place, b".watcher", STATE_DIRECTORIES[state])
        found: dict[bytes, bytes] = {}
        for name in os.listdir(place) if os.path.isdir(place) else []:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    found[name] = file.read()
        return found

    return read


def terms(grace: float = 300.0, *, lock: bool = True) -> ClaimOptions:
    return ClaimOptions(grace, Ages(SystemClock()), 1 << 20, lock)


@pytest.fixture(name="terms")
def terms_fixture() -> Callable[..., ClaimOptions]:
    """Return the terms of a claim: its grace age in seconds, with the system's clock."""
    return terms


def odd(queue: Path, kind: str, name: bytes) -> None:
    """Make something with an entry's name that is none."""
    path = os.path.join(os.fsencode(queue), name)
    other = os.path.join(os.fsencode(queue.parent), b"elsewhere")
    if kind == "directory":
        os.mkdir(path)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    elif kind in {"device", "device without driver"}:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3) if kind == "device" else (60 << 8))
    else:
        if kind == "symlink to a directory":
            os.mkdir(other)
        elif kind != "dangling symlink":
            with open(other, "wb") as file:
                file.write(b"not ours")
        if kind == "hard link":
            os.link(other, path)
        else:
            os.symlink(other, path)


ODD = [
    "directory",
    "FIFO",
    "socket",
    "device",
    "device without driver",
    "symlink",
    "dangling symlink",
    "symlink to a directory",
    "hard link",
]


@pytest.fixture(params=ODD)
def odd_file(request: pytest.FixtureRequest, queue: Path) -> tuple[bytes, str]:
    """A thing called like an entry that is none; its name and what it is."""
    kind: str = request.param
    if "device" in kind and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    name = b"1.0+ab.pck"
    odd(queue, kind, name)
    return name, kind
