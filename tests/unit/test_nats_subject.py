"""The subject of an entry: what is filled in is one token, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.rules.nats_subject import parse, token
from watcher.rules.option import WrongValue
from watcher.rules.stream_rules import covers


@pytest.mark.parametrize(
    ("template", "metadata", "subject"),
    [
        ("MAIL.{queue}", {}, "MAIL.in"),
        ("MAIL.{metadata.lang}.x", {"lang": "de"}, "MAIL.de.x"),
        ("MAIL.{metadata.lang}", {}, "MAIL._"),
        ("MAIL.{metadata.lang}", {"lang": ""}, "MAIL._"),
        ("MAIL.{metadata.lang}", {"lang": "a.b>*c d"}, "MAIL.a%2Eb%3E%2Ac%20d"),
        ("MAIL.{metadata.n}", {"n": 7}, "MAIL.7"),
        ("MAIL.{metadata.n}", {"n": b"\xff"}, "MAIL.%FF"),
        ("MAIL.x-{queue}-y", {}, "MAIL.x-in-y"),
        ("plain", {}, "plain"),
        ("MAIL.{metadata.a.b}", {"a.b": "c"}, "MAIL.c"),
    ],
)
def test_a_template_is_filled_in(template, metadata, subject):
    assert parse(template).fill("in", metadata) == subject


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a..b",
            ".a",
            "a.",
            "a b",
            "a.*",
            "a.>",
            ">",
            "$JS.API",
            "a.\u00e9",
            "a.{queue",
            "a}",
        ),
        *("{name}", "{metadata.}", "{metadata}", "x" * 200, "a.\r\nPUB x"),
    ],
)
def test_a_wrong_template_is_refused(text):
    with pytest.raises(WrongValue):
        parse(text)


@given(st.text() | st.binary() | st.none() | st.integers())
def test_a_value_is_one_token_of_the_streams_subjects(value):
    subject = f"MAIL.{token(value)}"
    assert covers("MAIL.*", subject)
    assert subject.isascii()
    assert subject.isprintable()
    assert not {" ", "*", ">"} & set(subject)


def test_no_metadata_addresses_the_server():
    fill = parse("{metadata.a}.{metadata.b}.{metadata.c}").fill
    assert fill("q", {"a": "$JS", "b": "API", "c": "INFO"}) == "%24JS.API.INFO"


def test_the_pattern_of_a_template_covers_what_it_fills_in():
    template = parse("MAIL.{queue}.{metadata.lang}")
    assert template.pattern == "MAIL.*.*"
    assert template.keys == ("lang",)
    assert covers(template.pattern, template.fill("a.b", {}))


@pytest.mark.parametrize(
    ("pattern", "subject", "does"),
    [
        ("MAIL.>", "MAIL.in", True),
        ("MAIL.>", "MAIL", False),
        ("MAIL.*", "MAIL.in", True),
        ("MAIL.*", "MAIL.in.x", False),
        ("MAIL.in", "MAIL.in", True),
        ("MAIL.in", "MAIL.*", False),
        ("MAIL.*", "MAIL.*", True),
        (">", "a.b", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b", False),
    ],
)
def test_a_stream_covers_subjects(pattern, subject, does):
    assert covers(pattern, subject) is does


@pytest.mark.parametrize(
    ("value", "is_token"),
    [
        ("\ud800", "%ED%A0%80"),
        ("\udcff", "%FF"),
        pytest.param(10**5000, "_", id="a number that has no text"),
        ("$JS", "%24JS"),
        ("_INBOX", "%5FINBOX"),
        pytest.param(["a"] * 100_000, token(str(["a"] * 100)), id="a long list"),
    ],
)
def test_a_hostile_value_is_a_token_like_another(value, is_token):
    assert token(value) == is_token
