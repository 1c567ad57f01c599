"""Sixteen megabytes of anything: refused or read in bounded memory and time."""

from __future__ import annotations

import struct

import pytest

from watcher import mailman

MB = 1 << 20
SIZE = 16 * MB
FIRST = b"U\x01x."
LETTER = b"cemail.message\nMessage\n)\x81"


def text(data):
    return b"X" + struct.pack("<I", len(data)) + data


def long(number):
    return struct.pack("<i", number)


def filled(unit, size=SIZE):
    return unit * (size // len(unit))


def entry(body):
    return FIRST + b"}U\x01k(" + body + b"ls."


def db(body):
    return b"{s\1\0\0\0k" + body + b"0"


def part(headers, body, policy):
    made = LETTER + b"}(" + text(b"_headers") + b"](" + headers + b"e" + text(b"_payload") + body
    return made + (text(b"policy") + b"N" if policy else b"") + b"ub"


def header(name, value):
    return text(name) + text(value) + b"\x86"


def header_object(words, charset=b"utf-8"):
    chunk = text(words) + text(charset) + b"\x86"
    return b"cemail.header\nHeader\n)\x81}(" + text(b"_chunks") + b"](" + chunk + b"eub"


def message(headers, body, policy):
    return part(headers, body, policy) + b".}."


def parts_of_one_type(policy):
    kind = header(b"Content-Type", b"multipart/mixed; boundary=x")
    slow = header(b"Content-Type", b'text/plain; x="' + b";" * 8_170)
    parts = part(slow, text(b"x"), policy) + b"q\x00" + b"h\x00" * 120
    return (
        part(kind, b"](" + parts + b"e", policy)
        + b".}"
        + text(b"pad")
        + text(b"p" * 300_000)
        + b"s."
    )


PICKLES = {
    "tuples in tuples": lambda: FIRST + b"N" + b"\x85" * SIZE + b".",
    "lists": lambda: entry(b"]" * SIZE),
    "dicts": lambda: entry(filled(b"}NNs")),
    "sets": lambda: entry(b"\x8f" * SIZE),
    "objects": lambda: entry(b"cemail.message\nMessage\nq\x00" + filled(b"h\x00)\x81")),
    "nothing but None": lambda: entry(b"N" * SIZE),
    "marks": lambda: entry(b"(" * SIZE),
    "the memo": lambda: entry(b"N" + b"\x94" * SIZE),
    "short texts": lambda: entry(filled(b"U\x02ab")),
    "texts that one character makes wide": lambda: entry(
        filled(text("\U0001f600".encode() + b"a" * 200))
    ),
    "a text that its last character makes wide": lambda: (
        text(b"a" * SIZE + "\U0001f600".encode()) + b".}."
    ),
    "the same, of protocol 0": lambda: b"V" + b"a" * SIZE + b"\\U0001f600\n.}.",
    "short lines of a body": lambda: message(b"", text(filled(b"ab\n")), policy=True),
    "From at each line": lambda: message(b"", text(filled(b"From \n")), policy=False),
    "headers": lambda: message(filled(header(b"To", b"x")), b"N", policy=True),
    "a long header": lambda: message(header(b"To", filled(b"a ")), b"N", policy=True),
}
SLOW = {
    "parts of one Content-Type": lambda: parts_of_one_type(policy=True),
    "parts of one Content-Type, Python 2": lambda: parts_of_one_type(policy=False),
    "lines that no white space begins": lambda: message(
        header(b"To", filled(b"a\n", MB // 2)), b"N", policy=True
    ),
    "a Header written as one line": lambda: message(
        text(b"To") + header_object(b"a " * 30_000) + b"\x86", b"N", policy=False
    ),
    "charsets that do not exist": lambda: entry(
        b"".join(header_object(b"", b"iso-2022-%d" % each) for each in range(9_000))
    ),
    "Headers of empty chunks": lambda: entry(
        LETTER.replace(b"message\nMessage", b"header\nHeader")
        + b"}("
        + text(b"_chunks")
        + b"]("
        + text(b"")
        + text(b"utf-8")
        + b"\x86q\x00"
        + b"h\x00" * 900
        + b"eq\x01ub"
        + filled(b"cemail.header\nHeader\n)\x81}" + text(b"_chunks") + b"h\x01sb", MB // 2)
    ),
    "a boundary in a codec that is slow": lambda: message(
        header(b"Content-Type", b"multipart/mixed; boundary*=punycode''" + b"a" * 8_000)
        + header(b"To", b"x"),
        b"](" + part(b"", text(b"x"), policy=True) + b"e",
        policy=True,
    ),
}
MARSHALS = {
    "tuples": lambda: db(b"(" + long(SIZE // 6) + filled(b"(\1\0\0\0N")),
    "None": lambda: db(b"[" + long(SIZE) + b"N" * SIZE),
    "lists": lambda: db(b"[" + long(SIZE // 5) + filled(b"[\0\0\0\0")),
    "dicts": lambda: db(b"[" + long(SIZE // 2) + filled(b"{0")),
    "texts": lambda: db(b"[" + long(SIZE // 7) + filled(b"t\2\0\0\0ab")),
    "a text that its last character makes wide": lambda: db(
        b"u" + long(SIZE + 4) + b"a" * SIZE + "\U0001f600".encode()
    ),
    "the ASCII form: lines": lambda: b"a" + b"\n" * SIZE,
    "the ASCII form: 8 MB of lists": lambda: b"a = [" + filled(b"[],", 8 * MB - 20) + b"]",
    "the ASCII form: 8 MB of escapes": lambda: b"a = u'" + filled(b"x\\n", 8 * MB - 20) + b"'",
}

# What reads as many objects, or as long a text, as the limits allow: seconds each.
SECONDS = {
    "tuples in tuples",
    "tuples",
    "lists",
    "dicts",
    "objects",
    "the memo",
    "short texts",
    "texts",
    "headers",
    "the ASCII form: 8 MB of lists",
    "the ASCII form: 8 MB of escapes",
}


def everything(data):
    mailman.to_json(mailman.read_pck(data).metadata)


def everything_of_db(data):
    mailman.to_json(mailman.read_db(data))


def cases(made):
    """Return all of them as parameters; those that take seconds are slow."""
    return [
        pytest.param(make, id=name, marks=[pytest.mark.slow] if name in SECONDS else [])
        for name, make in made.items()
    ]


@pytest.mark.parametrize("made", cases(PICKLES))
def test_16_mb_of_a_pickle_take_less_than_200_mb(made, costs):
    cost = costs(everything, made())
    assert cost["memory"] < 200 * MB
    assert cost["seconds"] < 2 + SIZE / MB


@pytest.mark.parametrize("made", cases(MARSHALS))
def test_16_mb_of_a_db_take_less_than_300_mb(made, costs):
    cost = costs(everything_of_db, made())
    assert cost["memory"] < 300 * MB
    assert cost["seconds"] < 2 + SIZE / MB


@pytest.mark.parametrize("made", SLOW.values(), ids=SLOW)
def test_what_took_quadratic_time_takes_a_second_a_megabyte(made, costs):
    data = made()
    assert costs(everything, data)["seconds"] < 2 + len(data) / MB
