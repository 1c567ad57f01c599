"""The name of a message in a Maildir: the same at every attempt, and plain to any reader."""

import pytest

from watcher.rules.age import SECOND
from watcher.rules.maildir_name import SLACK, may_be_in, may_be_second, unique_name, without_flags

KEY = "0123456789abcdef" * 4
HALF = KEY[:32].encode()
NOW = 1_700_000_000 * SECOND


@pytest.mark.parametrize(
    ("mtime_ns", "host", "name"),
    [
        (NOW + 123_456_789, b"mx.example", b"1700000000.M123456K%s.mx.example,S=42"),
        (NOW, b"a/b:c,d\\", b"1700000000.M0K%s.a\\057b\\072c\\054d\\134,S=42"),
        (NOW, b"", b"1700000000.M0K%s.localhost,S=42"),
        (NOW, b"h" * 300, b"1700000000.M0K%s." + b"h" * 64 + b",S=42"),
        (-5 * SECOND, b"h", b"0.M0K%s.h,S=42"),
    ],
)
def test_the_name_is_made_of_time_key_host_and_size(mtime_ns, host, name):
    made = unique_name(mtime_ns, KEY, host, 42)
    assert made == name % HALF
    assert b"/" not in made
    assert b":" not in made


@pytest.mark.parametrize(
    ("name", "same"),
    [
        (b"1.M0Kab.h,S=1", True),
        (b"1.M0Kab.h,S=1:2,", True),
        (b"1.M0Kab.h,S=1:2,FRS", True),
        (b"1.M0Kab.h,S=10:2,S", False),
        (b"11.M0Kab.h,S=1:2,S", False),
        (b":2,S", False),
    ],
)
def test_a_message_that_was_read_has_flags_behind_its_name(name, same):
    assert (without_flags(name) == b"1.M0Kab.h,S=1") is same


@pytest.mark.parametrize(
    ("changed_ns", "born_ns", "maybe"),
    [
        (NOW, None, True),
        (NOW, NOW, True),
        (NOW + 1, NOW, True),
        (NOW - SLACK, NOW, True),
        (NOW - SLACK - 1, NOW, False),
    ],
)
def test_what_was_delivered_is_not_in_a_directory_that_did_not_change_since(
    changed_ns, born_ns, maybe
):
    assert may_be_in(changed_ns, born_ns) is maybe


@pytest.mark.parametrize(
    ("attempt", "crashes", "born_ns", "maybe"),
    [
        (1, 0, NOW + SLACK + 1, False),
        (1, 0, NOW + SLACK, True),
        (1, 0, NOW - 1, True),
        (1, 0, None, True),
        (2, 0, NOW + SLACK + 1, True),
        (1, 1, NOW + SLACK + 1, True),
    ],
)
def test_an_entry_that_came_after_the_start_has_had_no_attempt_before_its_first(
    attempt, crashes, born_ns, maybe
):
    assert may_be_second(attempt, crashes, born_ns, NOW) is maybe
