"""What a worker does about a bug of ours, and about an entry that is too large."""

from __future__ import annotations

import types

import pytest

from watcher.age import Ages, SystemClock
from watcher.attempt import Attempt
from watcher.claim.take import Terms
from watcher.evidence import How
from watcher.handle.function import Function
from watcher.lifecycle import State
from watcher.report import Patience, Result
from watcher.runner import Runner
from watcher.settle.policy import Policy
from watcher.settlement import Settlement


def test_a_bug_of_ours_costs_one_attempt_and_not_the_worker(caplog):
    def broken(*_arguments):
        raise RuntimeError("ours")

    ready = types.SimpleNamespace(heard=lambda _name: 0)
    notice = types.SimpleNamespace(watch=types.SimpleNamespace(spool=object()))
    intake = types.SimpleNamespace(ready=ready)
    worker = types.SimpleNamespace(notice=notice, intake=intake, _attempt=broken)
    report = Runner._attempt_safely(worker, b"x.pck", How.SWEEP)
    assert (report.result, report.why) == (Result.STUCK, "x.pck: RuntimeError: ours")


@pytest.mark.parametrize("size", [10, 11])
def test_an_entry_beyond_the_largest_size_is_out_of_the_way_with_its_reason(
    open_spool, put, files, size
):
    put(b"X.pck", b"x" * size)
    clock, given = SystemClock(), []
    patience = Patience(lambda _seconds: False, lambda _text: None)
    terms = Terms(0.0, Ages(clock), 10)
    settlement = Settlement("q", terms, Policy(), clock, lambda _told: None, patience)
    attempt = Attempt(Function(lambda entry: given.append(entry.message)), settlement)
    report = attempt(open_spool(), b"X.pck", How.RENAMED)
    assert report.result is Result.REJECTED
    assert ("more than the 10 allowed" in report.why) == (size > 10)
    assert files(State.DEAD)[b"X.pck"] == b"x" * size
    assert given == []


@pytest.mark.parametrize(("grace", "result"), [(300.0, Result.YOUNG), (0.0, Result.REJECTED)])
def test_what_no_rename_was_seen_of_is_not_called_damaged_before_its_age(
    open_spool, put, files, grace, result
):
    """A writer that writes in place may have closed it for a moment: the rest is still to come."""
    put(b"X.pck", b"the first half")
    clock, patience = SystemClock(), Patience(lambda _seconds: False, lambda _text: None)
    terms = Terms(grace, Ages(clock))
    settlement = Settlement("q", terms, Policy(), clock, lambda _told: None, patience)
    attempt = Attempt(Function(lambda entry: entry.message), settlement)
    report = attempt(open_spool(), b"X.pck", How.CATCH_UP)
    assert report.result is result
    place = None if result is Result.YOUNG else State.DEAD
    assert files(place)[b"X.pck"] == b"the first half"
