"""How an attempt at the copy of a message ends, where the copy itself was changed meanwhile."""

from __future__ import annotations

import os

import pytest

from watcher.attempt import Attempt
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.names import Layout
from watcher.rules.results import AttemptEnd, HandlerResult, Verdict
from watcher.rules.retry import Policy
from watcher.settle.finish_delivery import MessageFinisher
from watcher.settle.refused import DiskRetry
from watcher.spool.claimed import ClaimOptions


class Mover:
    """A handler that has the entry moved, as `move` does; `at_work` runs in between."""

    def __init__(self, target, at_work):
        self.target, self.at_work = target, at_work

    def run(self, entry):
        _ = entry.key
        self.at_work(entry.path)
        return HandlerResult(Verdict.DONE, move_to=os.fsencode(self.target))

    def terminate(self):
        pass


class Messages:
    """What the server would be told."""

    def __init__(self):
        self.acknowledged = []

    def done(self, name):
        self.acknowledged.append(name)


@pytest.mark.parametrize(
    ("added", "end", "acknowledged"),
    [("", AttemptEnd.DONE, [b"a.csv"]), ("more", AttemptEnd.YOUNG, [])],
)
def test_a_message_is_acknowledged_once_its_copy_is_where_it_belongs(
    added, end, acknowledged, open_spool, put, tmp_path
):
    def write(path):
        with open(path, "a", encoding="ascii") as file:
            file.write(added)

    target = tmp_path / "target"
    target.mkdir()
    put(b"a.csv", b"data")
    clock = SystemClock()
    patience = DiskRetry(lambda _seconds: False, lambda _text: None)
    terms = ClaimOptions(0.0, Ages(clock))
    finisher = MessageFinisher("q", terms, Policy(), clock, lambda _told: None, patience)
    finisher.messages = messages = Messages()
    attempt = Attempt(Mover(target, write), finisher)
    report = attempt(open_spool(Layout(b"", raw=True)), b"a.csv", Proof.RENAMED)
    assert (report.result, messages.acknowledged) == (end, acknowledged)
    assert os.listdir(target) == (["a.csv"] if acknowledged else [])
