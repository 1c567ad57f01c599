"""What of a message's headers a dead letter has."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.jetstream.messages import Message
from watcher.rules.dead_letter import fitting, is_plain, size_of

HEADERS = st.dictionaries(st.text("abcXYZ-", min_size=1), st.text(max_size=50), max_size=9)


@given(HEADERS, st.integers(-5, 400))
def test_what_is_kept_fits(headers, room):
    kept = fitting(headers, room)
    assert size_of(kept) <= max(0, room)
    assert kept.items() <= headers.items()


@given(HEADERS)
def test_all_is_kept_that_has_room_to_the_byte(headers):
    assert fitting(headers, size_of(headers)) == headers


def test_the_first_headers_are_those_that_are_kept():
    headers = {"Id": "1", "Reason": "r" * 40, "X": "2"}
    assert list(fitting(headers, size_of({"Id": "1"}))) == ["Id"]
    assert list(fitting(headers, size_of({"Id": "1", "X": "2"}))) == ["Id", "X"]
    assert fitting(headers, 0) == fitting(headers, -1) == {}


def test_a_header_whose_name_no_client_may_send_is_left_out():
    assert fitting({"a(b": "1", "": "2", "é": "3", "ok": "4"}, 1000) == {"ok": "4"}


def test_the_size_is_what_the_server_counts():
    assert size_of({"a": "é"}) == len("NATS/1.0\r\na: é\r\n\r\n".encode())
    assert size_of({"a": "b"}) == Message("s", b"", {"a": "b"}).size


@pytest.mark.parametrize("tail", ["a", "a.b", "x" * 255, "a!b", "{q}", "~"])
def test_plain_tokens_stay(tail):
    assert is_plain(tail)


@pytest.mark.parametrize("tail", ["", ".", "a..b", "a.", "a*", ">", "a b", "é", "x" * 256, "\x0b"])
def test_what_no_subject_may_have_does_not(tail):
    assert not is_plain(tail)
