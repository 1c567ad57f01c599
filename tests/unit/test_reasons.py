"""The kind of a reason: what is masked, what stays, and what hostile text costs."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st

from watcher.rules.reasons import LONGEST, UNKNOWN, kind_of

SAME = {
    "addresses and ports": (
        "exit status 75: connect to *: Connection refused",
        "exit status 75: connect to 10.0.0.7:25: Connection refused",
        "exit status 75: connect to 192.168.1.200:587: Connection refused",
        "exit status 75: connect to [::1]:25: Connection refused".replace("[::1]:25", "fe80::1"),
    ),
    "counts and durations": (
        "timeout: still running after *",
        "timeout: still running after 30s",
        "timeout: still running after 1h30m",
    ),
    "quoted text": (
        "KeyError: *",
        "KeyError: 'list-id'",
        'KeyError: "it\'s"',
        "KeyError: b'x'",
    ),
    "an apostrophe begins no quoted text": (
        "can't open *: it isn't there",
        "can't open 'a': it isn't there",
        "can't open 'b c': it isn't there",
    ),
    "paths": (
        "exit status 1: *: No such file or directory",
        "exit status 1: /var/spool/a.csv: No such file or directory",
        "exit status 1: ../x/b: No such file or directory",
        "exit status 1: ~/in: No such file or directory",
    ),
    "objects and hexadecimal": (
        "<Socket object at *> is closed by *",
        "<Socket object at 0x7f21aa00> is closed by deadbeef",
        "<Socket object at 0x7f21aabc> is closed by 4f1c22aa90",
    ),
    "mail addresses and message ids": (
        "no such user <*> in message *",
        "no such user <anna@example.com> in message 17a.b@host",
        "no such user <bo+x@example.org> in message 99z.c@host",
    ),
    "addresses of the web": (
        "POST * gave HTTP 503",
        "POST https://api.example.com/v1/items?id=17 gave HTTP 503",
        "POST http://10.0.0.1/ gave HTTP 503",
    ),
    "names with digits": (
        "exit status 65: * has * columns",
        "exit status 65: r2.csv has 7 columns",
        "exit status 65: sales-2026-11-27.csv has 12 columns",
    ),
    "lists of numbers": (
        "rows * are empty",
        "rows 1, 2, 3 are empty",
        "rows 17 are empty",
    ),
    "white space": ("a b", "a\n  b", " a\tb "),
    "nothing": (UNKNOWN, "", " \n"),
}
DIFFERENT = {
    "exit statuses": ("exit status 75", "exit status 1"),
    "signals": ("killed by signal 11 (SIGSEGV)", "killed by signal 9 (SIGKILL)"),
    "errors of the kernel": ("write: errno 28", "write: errno 5"),
    "statuses of HTTP": ("HTTP/1.1 503 from the API", "HTTP/1.1 404 from the API"),
    "classes": ("KeyError: 'a'", "ValueError: 'a'"),
    "words": ("connection refused", "connection reset"),
}


@pytest.mark.parametrize("name", SAME)
def test_reasons_of_one_cause_have_one_kind(name):
    kind, *reasons = SAME[name]
    assert {reason: kind_of(reason) for reason in reasons} == dict.fromkeys(reasons, kind)


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_tells_causes_apart_stays(name):
    one, other = DIFFERENT[name]
    assert kind_of(one) != kind_of(other)


@given(st.text(max_size=300))
def test_a_kind_is_one_short_line(reason):
    kind = kind_of(reason)
    assert kind
    assert len(kind) <= LONGEST
    assert kind.split() == kind.split(" ")


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_numbers_alone_make_no_other_kind(one, other):
    assert kind_of(f"row {one} of table: bad") == kind_of(f"row {other} of table: bad")


@pytest.mark.parametrize("piece", ["a", "1", "'", '"', "/", "*,", "a.", "http://", "*:", "status "])
def test_hostile_text_costs_no_time(piece):
    begin = time.process_time()
    kind_of(piece * 1_000_000)
    assert time.process_time() - begin < 0.1
