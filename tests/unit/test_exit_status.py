"""What an exit status means, for every status there is; the reason is one line whatever is said."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given, strategies as st

from watcher.rules.results import (
    LONGEST_REASON,
    HandlerResult,
    Verdict,
    crashed,
    from_exit_status,
    shortened,
)

REJECTING = {64, 65, 66, 67, 68, 69, 70, 72, 73, 74, 76, 77}
RETRYING = {71, 75}
OPERATORS = {78, 126, 127}


def expected(status: int) -> Verdict:
    """The table of docs/design.md, "Handler results", written out once more."""
    if status == 0:
        return Verdict.DONE
    if status in OPERATORS:
        return Verdict.MISCONFIGURED
    return Verdict.REJECT if status in REJECTING else Verdict.RETRY


@pytest.mark.parametrize("status", range(256))
def test_every_exit_status_has_its_verdict(status):
    outcome = from_exit_status(status, "why")
    assert outcome.verdict is expected(status)
    if status:
        assert outcome == HandlerResult(
            outcome.verdict, f"exit status {status}: why", None, "why", status
        )


def test_the_sets_above_are_the_designs():
    assert REJECTING | RETRYING | {78} == set(range(64, 79))
    assert not REJECTING & RETRYING


@pytest.mark.parametrize("number", range(1, signal.NSIG))
def test_every_signal_retries_and_is_named_in_the_reason(number):
    outcome = from_exit_status(-number)
    assert outcome.verdict is Verdict.RETRY
    assert outcome.reason == f"signal {number}"
    assert outcome.exit_status == -number


def test_the_reason_is_the_last_line_of_stderr_and_the_rest_is_kept():
    outcome = from_exit_status(75, "first\n\nlast one  \n \n")
    assert outcome.reason == "exit status 75: last one"
    assert outcome.stderr == "first\n\nlast one  \n \n"


def test_done_keeps_nothing():
    assert from_exit_status(0, "chatter") == HandlerResult(Verdict.DONE)


@given(st.text())
def test_a_reason_is_one_short_line_that_does_nothing_to_a_terminal(text):
    for reason in (from_exit_status(1, text).reason, shortened(text)):
        assert reason.isprintable()
        assert len(reason) <= LONGEST_REASON + 3


def test_a_long_reason_is_cut_with_dots():
    assert shortened("x" * 10_000) == "x" * LONGEST_REASON + "..."
    assert shortened("x" * LONGEST_REASON) == "x" * LONGEST_REASON
    assert shortened("red \x1b[31m\nnext") == "red \\x1b[31m\\nnext"


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (0, "", "exited with status 0"),
        (75, "", "exited with status 75"),
        (-11, "", "killed by signal 11 (SIGSEGV)"),
        (-24, "more than 1s", "killed by signal 24 (SIGXCPU): more than 1s"),
        (-50, "", "killed by signal 50"),
        (
            None,
            "it said\n" + "x" * 1000,
            "closed its connection and went on; killed: it said\\nxxx",
        ),
    ],
)
def test_the_death_of_a_worker_is_a_crash_whatever_its_status(status, said, reason):
    outcome = crashed(status, "its words", said)
    assert outcome.verdict is Verdict.CRASHED
    assert (outcome.exit_status, outcome.stderr, outcome.after) == (status, "its words", None)
    assert outcome.reason == reason if len(said) < 1000 else outcome.reason.startswith(reason)
    assert len(outcome.reason) <= LONGEST_REASON + 3
