"""What tests of a running daemon share: a command beside it, a process that takes its events."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_server import run_command

THIEF = Path(__file__).with_name("events_thief.py")
PATIENCE = 30.0


@pytest.fixture
def run(watcher_command: list[str], environment: dict[str, str]) -> Callable[..., str]:
    """Run one command to its end, which must be a success; return what it printed."""

    def running(command: str, queue: Path, *arguments: object) -> str:
        argv = [*watcher_command, command, str(queue), *arguments]
        ended = run_command(argv, env=environment, capture_output=True, timeout=60)
        assert ended.returncode == 0, ended
        return ended.stdout.decode()

    return running


def inotify_of(daemon, queue):
    """Return the daemon's inotify descriptor, and the number of the queue's watch in it."""
    inode = f"{queue.stat().st_ino:x}"
    for fd in os.listdir(f"/proc/{daemon.process.pid}/fd"):
        text = Path(f"/proc/{daemon.process.pid}/fdinfo/{fd}").read_text()
        if found := re.search(rf"^inotify wd:([0-9a-f]+) ino:{inode} ", text, re.MULTILINE):
            return int(fd), int(found[1], 16)
    raise AssertionError("the daemon watches nothing")


class Thief:
    """The process that has the daemon's descriptor, too."""

    def __init__(self, daemon, queue, *, steals):
        fd, watch = inotify_of(daemon, queue)
        argv = [sys.executable, "-I", "-S", THIEF, daemon.process.pid, fd]
        argv += [] if steals else [watch]
        self.process = subprocess.Popen(
            list(map(str, argv)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self.process.stdout.readline() != "ready\n":
            self.end()
            pytest.skip("no permission to get a descriptor of another process")

    def end(self):
        if self.process.poll() is None:
            self.process.communicate(timeout=PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def steal():
    """Start thieves; each one ends with the test."""
    thieves = []

    def start(daemon, queue, *, steals):
        thieves.append(Thief(daemon, queue, steals=steals))
        return thieves[-1]

    yield start
    for thief in thieves:
        thief.end()
