"""What each HTTP answer means, and what Retry-After and Location say."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.rules.http_answer import (
    LONGEST_ASKED,
    redirect,
    retry_after,
    verdict_of,
    without_query,
)
from watcher.rules.results import Verdict

DONE, RETRY, REJECT = Verdict.DONE, Verdict.RETRY, Verdict.REJECT
MISCONFIGURED = Verdict.MISCONFIGURED


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 202, 204, 207, 299), DONE),
        ((408, 425, 429, 500, 501, 502, 503, 504, 507, 599), RETRY),
        ((400, 402, 404, 405, 406, 409, 410, 413, 414, 415, 422, 431, 451, 499), REJECT),
        ((401, 403, 407), MISCONFIGURED),
        ((300, 301, 302, 303, 304, 307, 308), MISCONFIGURED),
        ((0, 100, 101, 199, 600, 999), RETRY),
    ],
)
def test_each_status_has_its_verdict(statuses, verdict):
    for status in statuses:
        assert verdict_of(status, complete=True, repeated=False) is verdict, status


def test_a_success_before_the_server_had_everything_is_none():
    assert verdict_of(200, complete=False, repeated=False) is RETRY
    assert verdict_of(413, complete=False, repeated=False) is REJECT


def test_a_conflict_is_final_only_if_no_earlier_request_can_be_its_cause():
    assert verdict_of(409, complete=True, repeated=False) is REJECT
    assert verdict_of(409, complete=True, repeated=True) is RETRY


AT = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:51:37 GMT"
NOW = 784111777.0  # AT


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("120", "", 120.0),
        (" 7 ", AT, 7.0),
        ("1", "", 1.0),
        ("0", "", 0.0),
        ("-5", "", 0.0),
        ("1.5", "", 0.0),
        ("soon", "", 0.0),
        ("", "", 0.0),
        ("99999999999", "", LONGEST_ASKED),
        ("9" * 5000, "", 0.0),
        ("²", "", 0.0),
        (LATER, AT, 120.0),
        (LATER, "", 120.0),  # NOW is AT
        (LATER, "Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        (LATER, "nonsense", 120.0),
        (AT, LATER, 0.0),
        (AT, AT, 0.0),
        ("Sunday, 06-Nov-94 08:51:37 GMT", AT, 120.0),
        ("Sun Nov  6 08:51:37 1994", AT, 120.0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", AT, 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", AT, LONGEST_ASKED),
    ],
)
def test_retry_after_is_read(value, date, seconds):
    assert retry_after(value, date, NOW) == seconds


@given(st.text(), st.text())
def test_no_header_makes_the_reader_fail(value, date):
    seconds = retry_after(value, date, NOW)
    assert 0.0 <= seconds <= LONGEST_ASKED


URL = "https://mail.example.org/in?list=a"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/new", "https://mail.example.org/new"),
        ("new?x=1#part", "https://mail.example.org/new?x=1"),
        ("https://mail.example.org/b", "https://mail.example.org/b"),
        ("https://MAIL.example.org:443/b", "https://MAIL.example.org:443/b"),
        ("//mail.example.org/b", "https://mail.example.org/b"),
        ("https://mail.example.org:8443/b", ""),
        ("https://evil.example/b", ""),
        ("//evil.example/b", ""),
        ("https://mail.example.org@evil.example/b", ""),
        ("https://user:word@mail.example.org/b", ""),
        ("http://mail.example.org/in", ""),
        ("ftp://mail.example.org/in", ""),
        ("javascript:alert(1)", ""),
        ("https://[::1/", ""),
        ("https://mail.example.org:99999/", ""),
        ("", ""),
    ],
)
def test_a_redirect_is_followed_on_the_same_server_only(location, target):
    for status in (307, 308):
        found = redirect(URL, status, location)
        assert found.url == target
        assert bool(found.why) == (not target)
    assert not redirect(URL, 302, location).url
    assert not redirect(URL, 303, location).url


@given(st.text())
def test_no_location_leads_away(location):
    found = redirect(URL, 307, location).url
    assert not found or found.startswith(("https://mail.example.org/", "https://mail.example.org?"))


def test_a_message_shows_no_query_and_no_password():
    assert without_query("https://u:p@h.example:8/a?token=x#y") == "https://h.example:8/a"
    assert without_query("https://[") == "no URL"
