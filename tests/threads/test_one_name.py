"""Two workers of one process have files of one name: a writer renamed a new one over it.

The steps of both, line by line, in every order of two switches, on a real directory (see
`stepping`). They share the spool, the process directory in which a done file lies on its way out,
and the names in it.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import pytest

from watcher.claim.take import take
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.names import Layout
from watcher.rules.results import NotClaimed
from watcher.settle import moves, put_back, unlink
from watcher.spool import process_dir
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.spool import Spool

NAME = b"report.csv"
TERMS = ClaimOptions(0.0, Ages(SystemClock()))


@pytest.fixture
def queues(tmp_path: Path):
    """Open a drop folder for each order, in memory: one file is claimed, a second replaced it."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=memory) as place:
        numbers = itertools.count()

        def make() -> tuple[Path, Spool, Claim]:
            directory = Path(place, str(next(numbers)))
            directory.mkdir()
            spool = Spool(os.fsencode(directory), Layout(b".csv", raw=True))
            process_dir.process_dir_for(spool)
            commit(directory, b"first")
            first = claimed(spool)
            commit(directory, b"second")
            return directory, spool, first

        yield make


def commit(directory: Path, content: bytes) -> None:
    scratch = directory / "scratch.tmp"
    scratch.write_bytes(content)
    scratch.rename(directory / os.fsdecode(NAME))


def claimed(spool: Spool) -> Claim:
    claim = take(spool, NAME, Proof.RENAMED, TERMS)
    assert isinstance(claim, Claim), claim
    return claim


def finish(spool: Spool, claim: Claim) -> None:
    """Do what a worker does with a done entry."""
    moves.remove(spool, claim.parts)
    claim.release()


def left(directory: Path) -> dict[str, bytes]:
    """Return the files of entries, wherever they lie."""
    found = {}
    for place in (directory, *(directory / ".watcher" / "inflight").iterdir()):
        for path in place.iterdir():
            if path.is_file() and not path.name.startswith("."):
                found[str(path.relative_to(directory))] = path.read_bytes()
    return found


@pytest.mark.slow
def test_both_are_removed_and_nothing_stays_aside(steps, queues):
    stepper = steps(unlink, put_back, process_dir)

    def make():
        directory, spool, one = queues()
        two = claimed(spool)

        def check():
            assert left(directory) == {}

        return lambda: finish(spool, one), lambda: finish(spool, two), check

    assert stepper.every_order(make) > 500


@pytest.mark.slow
def test_a_replacement_that_the_other_worker_takes_is_done_once_or_stays(steps, queues):
    stepper = steps(unlink, put_back, process_dir)

    def make():
        directory, spool, one = queues()
        done = []

        def the_other():
            found = take(spool, NAME, Proof.RENAMED, TERMS)
            if not isinstance(found, NotClaimed):
                done.append(found.parts[0].size)
                finish(spool, found)

        def check():
            there = left(directory)
            assert there == ({} if done else {"report.csv": b"second"})
            assert done in ([], [len(b"second")])

        return lambda: finish(spool, one), the_other, check

    assert stepper.every_order(make) > 500


@pytest.mark.slow
def test_a_replacement_that_comes_meanwhile_is_never_removed(steps, queues):
    """The writer's rename is between any two lines of the workers, too."""
    stepper = steps(unlink, put_back, process_dir)

    def make():
        directory, spool, one = queues()
        two = claimed(spool)

        def finish_and_write():
            finish(spool, two)
            commit(directory, b"third")

        def check():
            assert left(directory) == {"report.csv": b"third"}

        return lambda: finish(spool, one), finish_and_write, check

    assert stepper.every_order(make) > 500
