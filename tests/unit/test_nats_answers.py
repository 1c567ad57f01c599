"""What the answers of a JetStream server mean for an entry."""

from __future__ import annotations

import pytest

from watcher.rules.nats_answers import (
    LARGE_HEADERS,
    NO_STREAM,
    TOO_LARGE,
    held,
    is_final,
    refused,
    too_large,
)
from watcher.rules.results import LONGEST_REASON, Verdict


def test_a_message_that_the_stream_never_takes_is_rejected():
    result = refused(TOO_LARGE, "message size exceeds maximum allowed", "MAIL.in")
    assert result.verdict is Verdict.REJECT
    assert "maximum message size" in result.reason
    result = refused(LARGE_HEADERS, "header size exceeds maximum allowed of 64k", "MAIL.in")
    assert result.verdict is Verdict.REJECT
    assert "its metadata is too large" in result.reason
    result = refused(10077, "message too large", "MAIL.in")
    assert result.verdict is Verdict.REJECT
    assert "32 MB" in result.reason
    result = too_large(2_000_000, 1_048_576)
    assert result.verdict is Verdict.REJECT
    assert "max_payload" in result.reason


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (NO_STREAM, "no stream takes the subject MAIL.in"),
        (10047, "storage is full"),
        (10023, "resources"),
        (10060, "see `subject`"),
        (10109, "sealed"),
        (99999, "words of the server"),
    ],
)
def test_everything_else_holds_the_queue_and_costs_no_attempt(code, words):
    result = refused(code, "words of the server", "MAIL.in")
    assert result.verdict is Verdict.MISCONFIGURED
    assert not result.ran
    assert words in result.reason


def test_a_stream_that_stores_nothing_is_called_full_if_it_is():
    assert "nats check" in refused(10077, "maximum bytes exceeded", "s").reason
    assert refused(10077, "no space left on device", "s").reason == "no space left on device"


def test_a_reason_is_one_short_line():
    reason = held("a\nb" + "x" * 10_000).reason
    assert "\n" not in reason
    assert len(reason) <= LONGEST_REASON + 3
    assert refused(1, "", "s").reason == "error 1"


@pytest.mark.parametrize(
    ("status", "code", "final"),
    [
        (400, 10054, True),
        (503, 10077, True),
        (503, 10008, False),
        (503, 503, False),
        (404, 1, True),
        (409, 10158, False),  # the first of two publishes with one id is on its way
        (429, 10167, False),  # too many requests
    ],
)
def test_what_passes_is_asked_again(status, code, final):
    assert is_final(status, code) is final
