"""Names that come back: a handler's loop waits ever longer, a writer of its own does not."""

from __future__ import annotations

import time
import types

import pytest

from watcher.daemon.returning import FIRST, LONGEST, Returning
from watcher.rules.results import DONE, AttemptEnd, AttemptResult
from watcher.settle.finish import REWRITTEN, WENT

MS = 1_000_000


class Stage:
    """A queue of one name, a clock, and a file whose ctime is what we say."""

    def __init__(self, monkeypatch, **options):
        self.mono, self.real, self.ctime = 0.0, 10**18, 0
        monkeypatch.setattr(time, "time_ns", lambda: self.real)
        self.returning = Returning(lambda: self.mono, **options)

    def go(self, seconds):
        self.mono += seconds
        self.real += round(seconds * 1e9)

    def stat_at(self, _location):
        return types.SimpleNamespace(st_ctime_ns=self.ctime)

    def look(self, name=b"a"):
        return self.returning.look(self, name)

    def handle(self, seconds, replaced=None, report=DONE, name=b"a"):
        """Run the handler; its file is replaced so many seconds after the beginning."""
        began = self.real
        self.go(seconds)
        if replaced is not None:
            self.ctime = began + round(replaced * 1e9)
        self.returning.ended(name, report, (WENT, REWRITTEN))


@pytest.fixture
def stage(monkeypatch):
    return Stage(monkeypatch)


@pytest.mark.parametrize(
    "report",
    [
        DONE,
        AttemptResult(AttemptEnd.GONE, WENT),
        AttemptResult(AttemptEnd.YOUNG, REWRITTEN, 300.0, name=b"a"),
        AttemptResult(AttemptEnd.REJECTED),
        AttemptResult(AttemptEnd.DEFERRED),
    ],
)
def test_a_handler_that_puts_its_result_there_is_called_ever_less_often(stage, report):
    waits = []
    for _ in range(8):
        stage.handle(0.005, replaced=0.004, report=report)
        loop = stage.look()
        waits.append(0.0 if loop is None else round(loop.seconds, 6))
        if loop is not None:
            assert not loop.logged
            assert stage.look().logged, "one line for each wait"
            stage.go(loop.seconds)
            assert stage.look() is None
    assert waits == [0.0, FIRST, 8.0, 32.0, 128.0, LONGEST, LONGEST, LONGEST]


@pytest.mark.parametrize("handler", [0.005, 0.3, 1.7])
@pytest.mark.parametrize("every", [0.1, 1.0, 2.3])
def test_a_writer_that_uses_a_name_again_is_hardly_held_up(stage, every, handler):
    next_write, lost_to_waits = stage.real, 0.0
    began = stage.mono
    while stage.mono - began < 2_000:
        if stage.real < next_write:
            stage.go((next_write - stage.real) / 1e9)
        stage.ctime = next_write + (stage.real - next_write) // round(every * 1e9) * round(
            every * 1e9
        )
        loop = stage.look()
        if loop is not None:
            lost_to_waits += loop.seconds
            stage.go(loop.seconds)
            continue
        next_write = stage.ctime + round(every * 1e9)
        stage.go(handler)
        stage.returning.ended(b"a", DONE, (WENT, REWRITTEN))
    assert lost_to_waits < 100  # of 2,000 seconds


def test_an_entry_that_stays_for_a_later_try_does_not_count_as_coming_back(stage):
    for result in (
        AttemptEnd.RETRY,
        AttemptEnd.KEPT,
        AttemptEnd.YOUNG,
        AttemptEnd.BUSY,
        AttemptEnd.GONE,
    ):
        for _ in range(5):
            stage.handle(0.005, replaced=0.004, report=AttemptResult(result))
            assert stage.look() is None


def test_only_so_many_names_are_remembered_the_latest(monkeypatch):
    stage = Stage(monkeypatch, limit=2)
    for name in (b"a", b"b", b"a", b"c"):
        stage.handle(0.005, replaced=0.004, name=name)
    assert set(stage.returning.names) == {b"a", b"c"}
