"""The ASCII form of a .db: what repr() of Python 2 wrote is read, and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from tests.mailman.python2_values import ATOMS, as_read, values_of
from watcher import mailman
from watcher.errors import Undecodable
from watcher.mailman import literal

MB = 1_000_000
MERSENNE = (1 << 61) - 1  # numbers that differ by it have one hash


def line(value):
    return b"k = " + value + b"\n"


def whole(data):
    return mailman.to_json(mailman.read_db(data))


def repr2(value):
    """Return repr() as Python 2 writes it: bytes without a prefix, text with a u, L for longs."""
    kind = type(value)
    if kind is bytes:
        return ascii(value)[1:]
    if kind is str:
        return "u" + ascii(value)
    if kind is int:
        return repr(value) + ("L" if abs(value) > 1 << 31 else "")
    if kind is dict:
        return "{" + ", ".join(f"{repr2(key)}: {repr2(item)}" for key, item in value.items()) + "}"
    if kind is list:
        return "[" + ", ".join(map(repr2, value)) + "]"
    if kind is tuple:
        return "(" + ", ".join(map(repr2, value)) + (",)" if len(value) == 1 else ")")
    return repr(value)


values = values_of(ATOMS | st.floats(allow_nan=False, allow_infinity=False))


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), values, max_size=4
    )
)
def test_what_python_2_wrote_is_read(metadata):
    data = "".join(f"{key} = {repr2(value)}\n" for key, value in metadata.items()).encode("ascii")
    assert repr(literal.read(data)) == repr(as_read(metadata))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (b"1", 1),
        (b"-1L", -1),
        (b"0L", 0),
        (b"1.", 1.0),
        (b"-1.5e-07", -1.5e-07),
        (b"1e+20", 1e20),
        (b"''", ""),
        (b'"it\'s"', "it's"),
        (b"'a L 1L \\' 2L'", "a L 1L ' 2L"),
        (b"'\\xe9'", b"\xe9"),
        (b"'\xe9'", b"\xe9"),
        (b"u'\\xe9\\u20ac\\U0001f600'", "\xe9\u20ac\U0001f600"),
        (b"u'\\ud800'", "\ud800"),
        (b"'\\u20ac'", "\\u20ac"),  # no escape in a str of Python 2
        (b"'a\\\\'", "a\\"),
        (b"'# no comment'", "# no comment"),
        (b"()", ()),
        (b"(1,)", (1,)),
        (b"[1, [], {}]", [1, [], {}]),
        (b"{ 'a' : 1 , 'b':(None,True) }", {"a": 1, "b": (None, True)}),
    ],
)
def test_a_literal(source, value):
    found = literal.read(line(source))["k"]
    assert repr(found) == repr(value)


def test_lines_that_hold_nothing_are_passed_over():
    assert literal.read(b"\r\n# written by hand\n\n  a = 1\r\nb=2") == {"a": 1, "b": 2}


def test_a_float_too_large_is_infinite_and_json_says_so():
    assert literal.read(line(b"1e999"))["k"] == math.inf
    assert whole(line(b"1e999")) == '{"k": {"$float": "inf"}}'


REFUSED = {
    "a call": b"__import__('os').system('id')",
    "a name": b"os",
    "a word in a name": b"Nonesuch",
    "an attribute": b"''.join",
    "a sum": b"1+1",
    "a sum of 5,000": b"1" + b"+1" * 5_000,
    "a sum of 500,000": b"1" + b"+1" * 499_990,
    "a million minus": b"-" * MB + b"1",
    "two minus": b"--1",
    "a million nots": b"not " * (MB // 4) + b"1",
    "a million attributes": b"a" + b".a" * (MB // 2),
    "a million ifs": b"1 if 1 else " * (MB // 12) + b"1",
    "a million lambdas": b"lambda:" * (MB // 7) + b"1",
    "a million comparisons": b"1<" * (MB // 2) + b"1",
    "a million digits": b"9" * MB,
    "a million hexadecimal digits": b"0x" + b"f" * MB,
    "a million digits of a float": b"0." + b"9" * MB,
    "5,000 digits": b"9" * 5_000,
    "two Ls": b"1LL",
    "digits and letters": b"12ab",
    "an octal number": b"0777",
    "an f-string": b"f'{1}'",
    "a format": b"'%s' % 1",
    "bytes of Python 3": b"b'a'",
    "a raw string": b"r'a'",
    "many strings": b"'a' " * (MB // 4),
    "a string without an end": b"'abc",
    "a string without an end, of escapes": b"'" + b"\\'" * (MB // 2),
    "quotes and backslashes": b"'\\" * (MB // 2) + b"L",
    "a long without an end": b"-" + b"1" * (MB - 20) + b"LL",
    "two values": b"1 2",
    "nothing": b"",
    "a comma": b",",
    "a comma in a list": b"[,]",
    "two commas": b"[1,,2]",
    "no comma": b"[1 2]",
    "a list cut short": b"[1, 2",
    "a tuple closed as a list": b"(1, 2]",
    "a dict without a value": b"{1: }",
    "a dict without a colon": b"{1, 2}",
    "a dict of a dict": b"{**{}}",
    "a list as a key": b"{[]: 1}",
    "a colon in a list": b"[1: 2]",
    "a set": b"set([1])",
    "a null byte": b"1\0",
    "a continued line": b"1 \\",
    "a comment": b"1 # one",
    "an escape": b"\x1b[2J",
    "a character beyond Unicode": b"u'\\Uffffffff'",
    "100,000 lists deep": b"[" * 100_000 + b"]" * 100_000,
    "100,000 brackets that do not match": b"[(" * 50_000,
    "1,000,000 tuples deep": b"(" * MB,
    "200,000 dicts deep": b"{1:" * 200_000,
}


@pytest.mark.parametrize("source", REFUSED.values(), ids=REFUSED)
def test_refused_in_a_line_that_an_operator_can_read(source, bounded):
    told = bounded(whole, line(source))
    assert told != "read"
    assert "line 1" in told


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe",
        b"k" * MB,
        b"k" + b" \t" * (MB // 2),
        b"=1",
        b"1k = 1",
        b"k == 1",
        b"a b = 1",
        b"k.x = 1",
        b"import os",
        b"k = 1; j = 2",
        b"(k) = 1",
        b"k\0 = 1",
        b"\x1b = 1",
    ],
)
def test_a_line_that_is_no_key_and_value_is_refused(data, bounded):
    assert bounded(whole, data) != "read"


BOMBS = {
    "numbers": b"[" + b"1," * (MB // 2) + b"]",
    "longs": b"[" + b"1L," * (MB // 3) + b"]",
    "texts": b"[" + b"'a'," * (MB // 4) + b"]",
    "lists": b"[" + b"[]," * (MB // 3) + b"]",
    "dicts": b"[" + b"{}," * (MB // 3) + b"]",
    "dicts of one item": b"[" + b"{1:1}," * (MB // 6) + b"]",
    "tuples": b"[" + b"(1,)," * (MB // 5) + b"]",
    "a dict of one key": b"{" + b"1:1," * (MB // 4) + b"}",
    "escapes": b"'" + b"\\\\" * (MB // 2) + b"'",
    "escapes of unicode": b"u'" + b"\\u0041" * (MB // 6) + b"'",
    "Ls in quotes": b"'" + b"1L" * (MB // 2) + b"'",
    "blanks": b" " * MB + b"1" + b" " * MB,
    "keys of one hash": b"{"
    + b"".join(b"%d:1," % (MERSENNE * number) for number in range(45_000))
    + b"}",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_or_read_at_the_cost_of_its_size(source, bounded):
    assert bounded(whole, line(source))


def test_a_million_lines_are_refused_or_read(bounded):
    assert bounded(whole, b"\n" * MB)
    assert bounded(whole, b"k=1\n" * (MB // 4))


def test_the_recipients_of_a_large_list_are_one_line():
    recipients = [f"member-{number}@example.com" for number in range(60_000)]
    data = line(repr(recipients).encode())
    assert len(data) > 1 << 20
    assert mailman.read_db(data) == {"k": recipients}


def readable(error):
    assert str(error).isprintable()


FRAGMENTS = [
    b"k",
    b" = ",
    b"\n",
    b"'",
    b'"',
    b"\\",
    b"u'",
    b"[",
    b"]",
    b"(",
    b")",
    b"{",
    b"}",
    b":",
    b",",
    b"-",
    b"1",
    b"1.5",
    b"L",
    b"e9",
    b"None",
    b"True",
    b"'a'",
    b"\xe9",
    b"\\x",
    b"\\u12",
    b"\\U0010ffff",
    b"\\N{DIGIT ONE}",
    b"\0",
    b"#",
    b".",
    b"0",
    b" ",
    b"\r",
]


@given(
    st.one_of(
        st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join), st.binary(max_size=60)
    )
)
def test_nothing_but_undecodable_escapes(body):
    for data in (body, line(body), line(b"u'" + body + b"'"), line(b"[" + body + b"]")):
        try:
            whole(data)
        except Undecodable as error:
            readable(error)


def test_a_literal_nests_as_deep_as_metadata_may_and_no_deeper():
    depth = literal.MAX_DEPTH
    assert literal.read(b"k = " + b"[" * depth + b"]" * depth)["k"] != []
    with pytest.raises(Undecodable, match=r"line 1 .* nested deeper than"):
        literal.read(b"k = " + b"[" * (depth + 1) + b"1" + b"]" * (depth + 1))
