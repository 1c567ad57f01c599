"""Puts a state of a disk into a directory, recovers from it, and says which promise is broken."""

from __future__ import annotations

import gc
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from power_loss.losses import Disk, states
from power_loss.recording import Recorder
from watcher.age import Ages, SystemClock
from watcher.claim.take import Terms
from watcher.entry import Entry
from watcher.handle.function import Function
from watcher.settle.policy import Policy
from watcher.spool.layout import Layout
from watcher.spool.spool import Spool
from watcher.sweep import Limits, Orders, Sweep

ACKNOWLEDGED, DONE = "acknowledged", "done"  # the words of a scenario: `Recorder.say`
_SWEEPS = 3


class Scenario(NamedTuple):
    """One transition: what is there before it, what makes it, and what must not be lost."""

    name: str
    layout: Layout
    prepare: Callable[[str], None]
    make: Callable[[str, Recorder], None]
    message: bytes  # as a handler is given it
    there: bool = True  # whether the entry is durably there before anything happens


class Result(NamedTuple):
    """What came of one scenario on one kind of disk."""

    name: str
    weak: bool
    operations: int
    states: int
    broken: list[str]


def try_all(scenario: Scenario, base: str, *, weak: bool, blind: tuple[str, ...] = ()) -> Result:
    """Record a scenario, lose the power at every point of it, and recover from every state."""
    root = f"{base}/recorded"
    shutil.rmtree(root, ignore_errors=True)
    os.mkdir(root)
    scenario.prepare(root)
    start = read(root)
    recorder = Recorder(root)
    recorder.blind = frozenset(blind)
    with recorder.recording():
        scenario.make(root, recorder)
    gc.collect()
    tried: dict[tuple[bool, bool, Disk], str] = {}
    broken: list[str] = []
    for issued, state in states(start, recorder.ops, weak=weak):
        words = {op.path for op in recorder.ops[:issued] if op.what == "word"}
        wanted = DONE not in words and (scenario.there or ACKNOWLEDGED in words)
        known = (wanted, DONE in words, state)
        if known not in tried:
            tried[known] = why = recovered(scenario, state, f"{base}/found", wanted=wanted)
            if why:
                broken.append(f"after {issued} operations: {why}: {told(state)}")
    return Result(scenario.name, weak, len(recorder.ops), len(tried), broken)


def read(root: str) -> Disk:
    """Return what is on the disk now: all of it durable."""
    directories, files, contents = {"."}, set(), set()
    for place, inner, names in os.walk(root):
        at = os.path.relpath(place, root)
        directories.update(os.path.normpath(f"{at}/{name}") for name in inner)
        for name in names:
            path = f"{place}/{name}"
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and not name.startswith(("journal", ".ledger")):
                files.add((os.path.normpath(f"{at}/{name}"), status.st_ino))
                with open(path, "rb") as file:
                    contents.add((status.st_ino, file.read()))
    return Disk(frozenset(directories), frozenset(files), frozenset(contents))


def recovered(scenario: Scenario, state: Disk, root: str, *, wanted: bool) -> str:
    """Sweep as the first process after the failure; return what is broken, or nothing."""
    write(state, root)
    given: list[bytes] = []
    _sweep(scenario.layout, root, given)
    torn = [each for each in given if each != scenario.message]
    if torn:
        return f"a handler was given {torn[0][:40]!r}"
    if not wanted:
        return ""
    if given or any(scenario.message in data for data in _files(root)):
        return ""
    return "LOST"


def _sweep(layout: Layout, root: str, given: list[bytes]) -> None:
    def handle(entry: Entry) -> None:
        given.append(entry.message)

    clock = SystemClock()
    for _ in range(_SWEEPS):
        spool = Spool(os.fsencode(root), layout)
        orders = Orders("q", Terms(0.0, Ages(clock)), Policy(jitter=0.0))
        list(Sweep(spool, orders, Function(handle), Limits()).lines(lambda _told: None))
        del spool, orders
        gc.collect()


def _files(root: str) -> Iterator[bytes]:
    for place, _, names in os.walk(root):
        for name in names:
            if name.endswith((".pck", ".msg", ".csv", ".db")):
                with open(f"{place}/{name}", "rb") as file:
                    yield file.read()


def write(state: Disk, root: str) -> None:
    """Make a directory of a state; a file with two names is one file."""
    shutil.rmtree(root, ignore_errors=True)
    for directory in sorted(state.directories):
        os.makedirs(f"{root}/{directory}", mode=0o700, exist_ok=True)
    contents, made = dict(state.contents), {}
    for path, inode in sorted(state.files):
        target = f"{root}/{path}"
        if inode in made:
            os.link(made[inode], target)
            continue
        with open(target, "wb") as file:
            file.write(contents[inode])
        made[inode] = target


def told(state: Disk) -> str:
    """Show a state on a line."""
    sizes = {inode: len(data) for inode, data in state.contents}
    return ", ".join(f"{path} ({sizes[inode]})" for path, inode in sorted(state.files)) or "nothing"
