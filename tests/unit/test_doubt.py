"""Whose fault a MISCONFIGURED result is: the table, over whole stories of a queue."""

from __future__ import annotations

import pytest

from watcher.rules.doubt import EAGER, MOST_COUNTED, Doubt
from watcher.rules.results import HANDLED, HandlerResult, Verdict

BROKEN = HandlerResult(Verdict.MISCONFIGURED, "exit status 127", exit_status=127, ran=False)
FAILED = HandlerResult(Verdict.RETRY, "exit status 1", exit_status=1)
NOT_RUN = HandlerResult(Verdict.RETRY, "no memory", attempted=False, ran=False)
REFUSED = HandlerResult(Verdict.REJECT, "cannot be decoded", ran=False)


def tell(doubt, name, outcome=BROKEN, ticket=None):
    """Make an attempt that begins now (or began with `ticket`); say what it counts as."""
    ticket = doubt.ticket if ticket is None else ticket
    return doubt.weigh(name, ticket, outcome).verdict


def convict(doubt, name):
    assert tell(doubt, name) is Verdict.MISCONFIGURED
    tell(doubt, b"good", HANDLED)


def test_the_first_failure_holds_the_queue_and_counts_against_no_entry():
    doubt = Doubt()
    assert not doubt.held
    assert tell(doubt, b"a") is Verdict.MISCONFIGURED
    assert doubt.held


def test_a_few_others_are_tried_at_once_and_then_no_more():
    doubt = Doubt()
    for number in range(EAGER):
        assert not doubt.held or doubt.eager
        tell(doubt, b"%d" % number)
    assert doubt.held
    assert not doubt.eager


def test_the_same_entry_again_is_no_other():
    doubt = Doubt()
    for _ in range(EAGER * 2):
        assert tell(doubt, b"a") is Verdict.MISCONFIGURED
    assert doubt.eager, "a new entry is tried as soon as it comes"


@pytest.mark.parametrize(
    "outcome", [HANDLED, FAILED, HandlerResult(Verdict.REJECT, "exit status 65")]
)
def test_where_the_handler_runs_for_another_the_failure_is_the_entrys_own(outcome):
    doubt = Doubt()
    tell(doubt, b"bad")
    tell(doubt, b"good", outcome)
    assert not doubt.held
    assert tell(doubt, b"bad") is Verdict.RETRY
    assert not doubt.held, "one bad entry does not hold the queue twice"
    assert tell(doubt, b"bad") is Verdict.RETRY, "in the end it is dead"


@pytest.mark.parametrize("outcome", [NOT_RUN, REFUSED, HandlerResult(Verdict.STOPPED, ran=False)])
def test_an_attempt_that_never_came_to_the_handler_says_nothing_of_it(outcome):
    doubt = Doubt()
    tell(doubt, b"bad")
    tell(doubt, b"other", outcome)
    assert doubt.held


def test_what_began_before_the_failure_says_nothing_of_the_handler_now():
    doubt = Doubt()
    before = doubt.ticket
    tell(doubt, b"bad")
    tell(doubt, b"slow", HANDLED, before)
    assert doubt.held
    earlier = doubt.ticket
    tell(doubt, b"good", HANDLED)
    tell(doubt, b"other")
    tell(doubt, b"slow", HANDLED, earlier)
    assert doubt.held, "nor does what began in an earlier doubt"


def test_a_handler_that_is_mended_costs_no_entry_an_attempt():
    doubt = Doubt()
    names = [b"%d" % number for number in range(50)]
    assert {tell(doubt, name) for name in names} == {Verdict.MISCONFIGURED}
    tell(doubt, b"first", HANDLED)
    assert {tell(doubt, name, HANDLED) for name in names} == {Verdict.DONE}
    assert tell(doubt, names[0]) is Verdict.MISCONFIGURED, "what succeeded is innocent again"


def test_a_handler_that_breaks_again_costs_few_entries_an_attempt():
    doubt = Doubt()
    names = [b"%d" % number for number in range(50)]
    for name in names:
        tell(doubt, name)
    tell(doubt, b"good", HANDLED)
    verdicts = [tell(doubt, name) for name in names]
    assert verdicts.count(Verdict.RETRY) == MOST_COUNTED
    assert doubt.held
    verdicts = [tell(doubt, name) for name in names]
    assert verdicts.count(Verdict.RETRY) == 0, "while the queue is held nothing counts"


def test_one_that_was_convicted_dies_alone_without_another_witness():
    doubt = Doubt()
    convict(doubt, b"bad")
    assert {tell(doubt, b"bad") for _ in range(MOST_COUNTED * 3)} == {Verdict.RETRY}


def test_many_bad_entries_among_good_ones_count_each():
    doubt = Doubt()
    for number in range(MOST_COUNTED * 3):
        convict(doubt, b"%d" % number)
    for number in range(MOST_COUNTED * 3):
        assert tell(doubt, b"%d" % number) is Verdict.RETRY
        tell(doubt, b"good", HANDLED)
