"""A raw queue whose writers rename, and programs of their own that embed it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from watcher.handle.hand_over import HandOver
from watcher.observe import log
from watcher.spool import last_words

ROOT = Path(__file__).parents[2]
HEAD = """
import os, signal, sys, threading, time
import watcher
queue_dir = sys.argv[1]
options = {"format": "raw", "writers": "rename"}
"""


@pytest.fixture(autouse=True)
def as_another_process(monkeypatch) -> Iterator[None]:
    """Keep to the test what a program that embeds a queue sets for its whole process."""
    monkeypatch.setattr(last_words, "_forgone", [])
    monkeypatch.setattr(log, "_log", log._log)
    action = signal.getsignal(signal.SIGIO)
    yield
    signal.signal(signal.SIGIO, action)


@pytest.fixture
def queue_dir(tmp_path) -> Path:
    directory = tmp_path / "queue"
    directory.mkdir()
    return directory


@pytest.fixture
def put(queue_dir, tmp_path) -> Callable[..., None]:
    """Rename files into the queue, each with its name as its content."""

    def rename_in(*names: str) -> None:
        for name in names:
            (tmp_path / "new").write_text(name)
            os.rename(tmp_path / "new", queue_dir / name)

    return rename_in


@pytest.fixture
def where(queue_dir) -> Callable[[], dict[str, list[str]]]:
    """Return the names in the queue and in its state directories, without stamps."""

    def look() -> dict[str, list[str]]:
        found = {"queue": sorted(one.name for one in queue_dir.iterdir() if one.is_file())}
        for state in ("deferred", "dead"):
            directory = queue_dir / ".watcher" / state
            names = os.listdir(directory) if directory.is_dir() else []
            found[state] = sorted(name for name in names if not name.endswith(".json"))
        return {state: names for state, names in found.items() if names}

    return look


@pytest.fixture
def start(queue_dir) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a program of its own; it is killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", HEAD + program, str(queue_dir)],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def hand_over() -> HandOver:
    """A place to hand entries over; `limits` has how many may be in hand, each time it changed."""
    limits: list[int] = []
    made = HandOver(limits.append)
    made.limits = limits  # type: ignore[attr-defined]
    return made
