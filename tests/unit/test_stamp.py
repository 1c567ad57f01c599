"""The stamp in a deferred entry's name: what goes in comes out, and names sort by due time."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.rules.names import NAME_MAX
from watcher.rules.stamp import Schedule, fits, overdue, parse, stamped

SECONDS = st.integers(0, 9_999_999_999_000).map(lambda ms: ms / 1000)
SCHEDULES = st.builds(
    Schedule,
    due_ms=st.integers(0, 253_402_300_799_999),
    attempts=st.integers(0, 999_999_999),
    crashes=st.integers(0, 999_999_999),
    delay=SECONDS,
    waited=SECONDS,
    identity=st.integers(0, (1 << 64) - 1),
)
STEMS = st.binary(min_size=1, max_size=150).map(
    lambda b: b.replace(b"\0", b"_").replace(b"/", b"_")
)


def test_the_documented_example() -> None:
    name = stamped(Schedule(1795431193250, 3, 0, 30.0, 95.5), b"NAME", b".pck")
    assert name == b"20261123T105313.250Z-a3-c0-d30-w95.5-NAME.pck"


@given(SCHEDULES, STEMS)
def test_what_goes_in_comes_out(schedule: Schedule, stem: bytes) -> None:
    name = stamped(schedule, stem, b".pck")
    assert len(name) <= NAME_MAX
    found = parse(name)
    assert found is not None
    assert found[0]._replace(delay=0, waited=0) == schedule._replace(delay=0, waited=0)
    assert found[0].delay == pytest.approx(schedule.delay, abs=0.001)
    assert found[0].waited == pytest.approx(schedule.waited, abs=0.001)
    assert found[1] == stem + b".pck"
    assert fits(schedule, stem, b".pck")


@given(SCHEDULES, SCHEDULES)
def test_names_sort_by_the_moment_they_fall_due(one: Schedule, other: Schedule) -> None:
    if one.due_ms < other.due_ms:
        assert stamped(one, b"z", b".pck") < stamped(other, b"a", b".pck")


@given(SCHEDULES)
def test_a_stamped_name_can_be_stamped_again(schedule: Schedule) -> None:
    inner = stamped(schedule, b"X", b".pck")
    outer = stamped(Schedule(5), inner.removesuffix(b".pck"), b".pck")
    found = parse(outer)
    assert found is not None
    assert found[1] == inner


def test_a_long_name_is_cut_and_says_so() -> None:
    name = stamped(Schedule(0), b"n" * 250, b".pck")
    assert len(name) <= NAME_MAX - len(b"..json") + len(b".pck")
    assert not fits(Schedule(0), b"n" * 250, b".pck")
    assert parse(name) is not None


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"X.pck",
        b"20261123T105313.250Z-a3-c0-d30-w95.5-",
        b"20260231T105313.250Z-a3-c0-d30-w95.5-X.pck",  # the 31st of February
        b"20261123T105360.250Z-a3-c0-d30-w95.5-X.pck",
        b"20261123T105313.250Z-a3-c0-d30-w-X.pck",
        b"20261123T105313Z-a3-c0-d30-w95.5-X.pck",
        b"20261123T105313.250Z-a-3-c0-d30-w95.5-X.pck",
        b"20261123T105313.250Z-a3-c0-d1e5-w95.5-X.pck",
        "\uff12\uff10261123T105313.250Z-a3-c0-d30-w95.5-X.pck".encode(),  # digits, but not ASCII
    ],
)
def test_what_is_no_stamp(name: bytes) -> None:
    assert parse(name) is None


def test_a_moment_before_or_after_all_calendars_is_the_nearest() -> None:
    assert stamped(Schedule(-5), b"X", b"").startswith(b"19700101T000000.000Z")
    assert stamped(Schedule(10**18), b"X", b"").startswith(b"99991231T235959.999Z")


@pytest.mark.parametrize(
    ("ahead_ms", "expected"),
    [(-1, True), (0, True), (1, False), (30_000, False), (30_002, True), (10**12, True)],
)
def test_what_lies_further_ahead_than_it_was_to_wait_is_due(ahead_ms: int, expected: bool) -> None:
    """The clock that stamped it has been set back since: nothing waits for a year."""
    now_ms = 1_795_431_193_250
    assert overdue(Schedule(now_ms + ahead_ms, delay=30.0), now_ms) is expected


def test_the_identity_of_a_commit_is_in_the_stamp_and_comes_back():
    schedule = Schedule(1795431193250, 3, 0, 30.0, 95.5, 0x18CA3B5F6D2E1A07)
    name = stamped(schedule, b"report", b".csv")
    assert name == b"20261123T105313.250Z-a3-c0-d30-w95.5-k18ca3b5f6d2e1a07-report.csv"
    assert parse(name) == (schedule, b"report.csv")
    assert stamped(schedule._replace(identity=1), b"a", b"").endswith(b"-k0000000000000001-a")


@pytest.mark.parametrize(
    "own",
    [b"k18ca3b5f6d2e1a07-x", b"k0000000000000000-", b"k-x", b"kfeed-x.csv", b"K" * 17],
)
@pytest.mark.parametrize("identity", [0, 5])
def test_a_name_that_looks_like_an_identity_stays_a_name(own, identity):
    schedule = Schedule(1795431193250, 1, 0, 30.0, 0.0, identity)
    assert parse(stamped(schedule, own, b"")) == (schedule, own)
