"""What a reply of a mail server means; which recipients an entry has; what is never sent."""

from __future__ import annotations

import contextlib
import time

import pytest

from watcher.rules import server_address
from watcher.rules.mail_address import HEADERS, wrong_with
from watcher.rules.mail_envelope import LARGEST_HEAD, NoEnvelope, envelope, without_bcc
from watcher.rules.mail_replies import (
    ACCEPTED,
    Fate,
    Outcome,
    Reply,
    Stage,
    conclude,
    meaning,
    too_many,
)
from watcher.rules.option import WrongValue
from watcher.rules.results import LONGEST_REASON, Verdict

BEFORE = (Stage.GREETING, Stage.HELLO, Stage.TLS, Stage.AUTH)
AFTER = (Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END)
GOOD = {Stage.GREETING: 220, Stage.TLS: 220, Stage.AUTH: 235, Stage.DATA: 354}


@pytest.mark.parametrize("stage", Stage)
def test_every_code_has_a_meaning_at_every_stage(stage):
    fine = [code for code in range(1000) if meaning(stage, Reply(code)).fate is Fate.FINE]
    assert fine == ([GOOD[stage]] if stage in GOOD else [*range(200, 300)])
    assert meaning(stage, Reply(421)) == (Fate.LATER, True)
    for code in (400, 450, 451, 452, 454, 499):
        assert meaning(stage, Reply(code)) == (Fate.LATER, False)
    refused = Fate.OPERATOR if stage in BEFORE else Fate.REFUSED
    assert meaning(stage, Reply(550, "5.1.1 x")) == (refused, False)
    assert meaning(stage, Reply(503)) == (Fate.OPERATOR if stage in BEFORE else Fate.LATER, True)
    for code in (530, 534, 535, 538):
        assert meaning(stage, Reply(code)).fate is Fate.OPERATOR
    for code in (0, 100, 199, 300, 399, 600, 999):
        if code != GOOD.get(stage):
            assert meaning(stage, Reply(code)) == (Fate.LATER, True)


@pytest.mark.parametrize(
    ("reply", "fate", "next_time"),
    [
        (Reply(452, "too many"), Fate.LATER, True),
        (Reply(452, "4.5.3 too many"), Fate.LATER, True),
        (Reply(452, "4.2.2 mailbox full"), Fate.LATER, False),
        (Reply(552, "too many"), Fate.LATER, True),
        (Reply(552, "5.5.3 too many"), Fate.LATER, True),
        (Reply(552, "5.2.2 mailbox full"), Fate.REFUSED, False),
        (Reply(451, "4.5.3 x"), Fate.LATER, False),
    ],
)
def test_a_full_mailbox_is_told_from_too_many_recipients(reply, fate, next_time):
    assert meaning(Stage.RCPT, reply).fate is fate
    assert too_many(reply) is next_time


LATER, REFUSED = Outcome(Fate.LATER, "451 x"), Outcome(Fate.REFUSED, "550 y")
OPERATOR = Outcome(Fate.OPERATOR, "530 z")


@pytest.mark.parametrize(
    ("outcomes", "learned", "verdict", "reason"),
    [
        ((ACCEPTED, ACCEPTED), False, Verdict.DONE, ""),
        ((LATER,), False, Verdict.RETRY, "r0: 451 x"),
        ((LATER, LATER), False, Verdict.RETRY, "451 x"),
        ((REFUSED,), False, Verdict.REJECT, "r0: 550 y"),
        (
            (ACCEPTED, REFUSED),
            False,
            Verdict.REJECT,
            "1 of 2 recipients refused: r1: 550 y; accepted: r0",
        ),
        (
            (ACCEPTED, REFUSED, LATER),
            False,
            Verdict.RETRY,
            (
                "1 of 3 recipients not accepted yet: r2: 451 x;"
                " 1 of 3 recipients refused: r1: 550 y; accepted: r0"
            ),
        ),
        (
            (REFUSED, OPERATOR),
            True,
            Verdict.RETRY,
            "1 of 2 recipients not accepted yet: r1: 530 z; 1 of 2 recipients refused: r0: 550 y",
        ),
        (
            (ACCEPTED, OPERATOR),
            False,
            Verdict.MISCONFIGURED,
            "1 of 2 recipients not accepted yet: r1: 530 z; accepted: r0",
        ),
        ((OPERATOR, OPERATOR), False, Verdict.MISCONFIGURED, "530 z"),
        (
            (ACCEPTED, OPERATOR),
            True,
            Verdict.RETRY,
            "1 of 2 recipients not accepted yet: r1: 530 z; accepted: r0",
        ),
    ],
)
def test_the_result_for_an_entry_follows_from_its_recipients(outcomes, learned, verdict, reason):
    named = {f"r{number}": outcome for number, outcome in enumerate(outcomes)}
    result = conclude(named, learned=learned)
    assert (result.verdict, result.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("recipient", "named"),
    [("", "''"), ("a\r\nb", r"'a\r\nb'"), ("x" * 300, "'" + "x" * 99 + "..."), ("ø@x", "ø@x")],
)
def test_a_recipient_that_is_no_address_is_quoted(recipient, named):
    assert conclude({recipient: REFUSED}).reason == f"{named}: 550 y"
    assert named in conclude({"a@x": ACCEPTED, recipient: REFUSED}).reason


def test_a_reason_is_short_whatever_the_server_says():
    many = {f"r{n}": Outcome(Fate.REFUSED, str(Reply(550, f"{n} " + "x" * 999))) for n in range(99)}
    assert len(conclude(many).reason) <= LONGEST_REASON + 3


# -- envelopes ---------------------------------------------------------------------------------

MAILMAN3 = {"recipients": {"b@x", "a@x"}, "sender": "s3@x", "envsender": "poster@x"}
MAILMAN2 = {"recips": ["b@x", "a@x", "b@x"], "envsender": "s2@x", "sender": "other@x"}
TEXT = (
    b'From: "A, B" <f@x>\r\nTo: a@x, =?utf-8?q?B?= <b@x>\r\nCC: c@x,\r\n\td@x\r\nbcc: e@x\r\n'
    b"\r\nTo: z@x"
)


@pytest.mark.parametrize(
    ("sender", "to", "metadata", "found"),
    [
        (None, None, MAILMAN3, ("s3@x", ("a@x", "b@x"))),
        (None, None, MAILMAN2, ("s2@x", ("b@x", "a@x"))),
        (None, None, {"recips": b"a@x", "envsender": b"s@x"}, ("s@x", ("a@x",))),
        (None, None, {"recips": ("a@x",), "envsender": ""}, ("", ("a@x",))),
        ("<>", None, {"recips": ["a@x"]}, ("", ("a@x",))),
        ("f@x", "t@x", MAILMAN3, ("f@x", ("t@x",))),
        ("f@x", ("t@x", "u@x"), {}, ("f@x", ("t@x", "u@x"))),
        (HEADERS, HEADERS, MAILMAN3, ("f@x", ("a@x", "b@x", "c@x", "d@x", "e@x"))),
    ],
)
def test_where_an_envelope_comes_from(sender, to, metadata, found):
    assert envelope(sender, to, metadata, TEXT)[:2] == found


@pytest.mark.parametrize(
    ("sender", "to", "metadata", "message"),
    [
        (None, None, {}, TEXT),
        (None, "a@x", {}, TEXT),
        ("f@x", None, {}, TEXT),
        ("f@x", None, {"recipients": {"a": 1}}, TEXT),
        ("f@x", None, {"recipients": []}, TEXT),
        (None, None, {"recipients": ["a@x"], "sender": None}, TEXT),
        (None, None, {"recipients": ["a@x"], "sender": 5}, TEXT),
        (None, None, {"recipients": ["a@x"], "sender": "a\r\nb"}, TEXT),
        ("f@x", HEADERS, {}, b"Subject: x\n\nTo: a@x\n"),
        (HEADERS, "a@x", {}, b""),
        ("f@x", HEADERS, {}, b"To: " + b"(" * 50_000 + b"\n\n"),
        ("f@x", HEADERS, {}, b"To: a@x\nX: " + b"x" * LARGEST_HEAD + b"\n\n"),
        ("f@x", [f"{n}" * 40 for n in range(99_999)], {}, TEXT),
    ],
)
def test_no_envelope_is_guessed(sender, to, metadata, message):
    with pytest.raises(NoEnvelope):
        envelope(sender, to, metadata, message)


@pytest.mark.parametrize("piece", [b"<", b'"', b"a@x,", b"(a)", b"["])
def test_hostile_headers_cost_no_more_than_a_moment(piece):
    began = time.process_time()
    text = b"To: " + piece * (100_000 // len(piece)) + b"\n\n"
    with contextlib.suppress(NoEnvelope):
        envelope("f@x", HEADERS, {}, text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "address",
    ["", "a b@x", "a\tb", "a\r\nb", "a\0", "<a@x>", "a>b", "-a@x", "x" * 255, "\udc80", "a\u2028b"],
)
def test_an_address_that_is_none_is_never_sent(address):
    assert wrong_with(address)
    found = envelope("f@x", ["a@x", address], {}, b"")
    assert found.recipients == ("a@x",)
    assert list(found.wrong) == [address]


@pytest.mark.parametrize("address", ["a@x", "root", "a+b=c@d.e", "ø@x", "a" * 254, '"a"@[::1]'])
def test_an_address_is_for_the_server_to_judge(address):
    assert not wrong_with(address)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (b"Bcc: a\nTo: b\n\nBcc: c", b"To: b\n\nBcc: c"),
        (b"To: b\r\nBCC : a,\r\n b\r\n\r\nx", b"To: b\r\n\r\nx"),
        (b"Bcc: a", b""),
        (b"\nBcc: a", b"\nBcc: a"),
        (b"Bcc: a\n b\n\tc\nX: y\n\r\nz", b"X: y\n\r\nz"),
        (b"Bccs: a\n\n", b"Bccs: a\n\n"),
        (b"X: a\r\rBcc: b", b"X: a\r\rBcc: b"),
        (b"", b""),
    ],
)
def test_bcc_is_taken_out_of_the_headers_alone(message, kept):
    assert without_bcc(message) == kept


# -- servers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown", "local"),
    [
        ("localhost:25", "localhost:25", True),
        ("127.0.0.9:24", "127.0.0.9:24", True),
        ("[::1]:24", "[::1]:24", True),
        ("[2001:db8::1]:24", "[2001:db8::1]:24", False),
        ("mx.example.org:465", "mx.example.org:465", False),
        ("localhost.example:25", "localhost.example:25", False),
        ("/run/lmtp", "/run/lmtp", True),
    ],
)
def test_a_server_has_a_host_and_a_port_or_a_path(text, shown, local):
    address = server_address.parse(text)
    assert (str(address), address.is_local) == (shown, local)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", ":25", "x:", "x:0", "x:99999", "x:٣", "::1:25", "[x]:25", "[::1:25"),
        *("a b:25", "é:25", "/" + "x" * 107, "/a\0b", "x/y:25"),
    ],
)
def test_what_is_no_server_is_refused(text):
    with pytest.raises(WrongValue):
        server_address.parse(text)
