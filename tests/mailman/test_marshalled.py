"""Marshal of Python 1.5.2 to 2.7: what those wrote is read, hostile files cost nothing."""

from __future__ import annotations

import marshal
import struct

import pytest
from hypothesis import given, strategies as st

from tests.mailman.python2_values import ATOMS, as_read, values_of
from watcher import mailman
from watcher.errors import Undecodable
from watcher.mailman import marshalled

MB = 1_000_000
MERSENNE = (1 << 61) - 1  # numbers that differ by it have one hash


def long(number):
    return struct.pack("<i", number)


def entry(value):
    """Return a .db of {"k": value}."""
    return b"{s" + long(1) + b"k" + value + b"0"


def digits(number):
    """Return a whole number as digits of 15 bits, as Python 2 wrote its longs."""
    found = []
    rest = abs(number)
    while rest:
        found.append(struct.pack("<h", rest & 32767))
        rest >>= 15
    return b"l" + long(-len(found) if number < 0 else len(found)) + b"".join(found)


def whole(data):
    return mailman.to_json(mailman.read_db(data))


def written(value, version):
    """Return a value as Python 2 would write it (its marshal is not on this machine's Python)."""
    kind = type(value)
    if value is None or kind is bool:
        return {None: b"N", True: b"T", False: b"F"}[value]
    if kind is int:
        return b"i" + long(value) if -(1 << 31) <= value < 1 << 31 else digits(value)
    if kind is float:
        text = repr(value).encode()
        return b"f" + bytes([len(text)]) + text if version < 2 else b"g" + struct.pack("<d", value)
    if kind is str:
        data = value.encode("utf-8", "surrogatepass")
        return b"u" + long(len(data)) + data
    if kind is bytes:
        return (b"t" if version else b"s") + long(len(value)) + value
    if kind is dict:
        items = (written(key, version) + written(item, version) for key, item in value.items())
        return b"{" + b"".join(items) + b"0"
    code = {list: b"[", tuple: b"("}[kind]
    return code + long(len(value)) + b"".join(written(item, version) for item in value)


values = values_of(ATOMS | st.floats())


@given(values, st.integers(0, 2))
def test_what_python_2_wrote_is_read(value, version):
    assert repr(marshalled.read(written(value, version))) == repr(as_read(value))


@given(values, st.integers(0, 2))
def test_what_this_python_writes_in_those_versions_is_read(value, version):
    data = marshal.dumps(value, version)
    assert repr(marshalled.read(data)) == repr(as_read(marshal.loads(data)))


def test_a_reference_is_the_text_that_was_seen():
    data = b"(" + long(3) + b"t" + long(2) + b"ab" + b"R" + long(0) + b"t" + long(1) + b"\xe9"
    assert marshalled.read(data) == ("ab", "ab", b"\xe9")


def test_other_numbers_of_python_2():
    assert marshalled.read(b"I" + struct.pack("<q", -(1 << 40))) == -(1 << 40)
    assert marshalled.read(b"x\x031.5\x02-2") == 1.5 - 2j
    assert marshalled.read(b"y" + struct.pack("<dd", 1.5, -2)) == 1.5 - 2j
    assert marshalled.read(digits(-(1 << 40))) == -(1 << 40)
    assert marshalled.read(b".") is ...


def test_received_time_is_a_number_although_it_was_stored_as_text():
    def numbered_name(text):
        return written({b"received_time": text}, 0)

    assert mailman.read_db(numbered_name(b"1017783548.5")) == {"received_time": 1017783548.5}
    for wrong in (b"soon", b"9\n9", b"\x1b"):
        with pytest.raises(Undecodable, match="received_time"):
            mailman.read_db(numbered_name(wrong))


REFUSED = {
    "nothing": b"",
    "an end": b"0",
    "a dict cut short": b"{",
    "a key without its value": b"{N0",
    "a key that is a list": b"{[" + long(0) + b"N0",
    "an end in a list": entry(b"[" + long(1) + b"0"),
    "code": entry(b"c" + long(0)),
    "a stop": entry(b"S"),
    "a flag of Python 3": entry(b"\xe9" + long(1)),
    "more after the end": entry(b"N") + b"N",
    "text of -1": entry(b"s" + long(-1)),
    "text of 2 GB": entry(b"s" + long((1 << 31) - 1)),
    "-1 objects": entry(b"[" + long(-1)),
    "2 G objects": entry(b"[" + long((1 << 31) - 1)),
    "2 G digits": entry(b"l" + long(-(1 << 31))),
    "a long number": entry(b"l" + long(4000) + b"\xff\x7f" * 4000),
    "digits below zero": entry(b"l" + long(2) + b"\xff\xff\xff\xff"),
    "a reference to nothing": entry(b"R" + long(0)),
    "a reference below zero": entry(b"t" + long(0) + b"R" + long(-1)),
    "a float that is none": entry(b"f\x03\x1b\n\x85"),
    "a float of nothing": entry(b"f\x00"),
    "unicode that is not UTF-8": entry(b"u" + long(2) + b"\xff\xff"),
    "200,000 lists deep": entry((b"[" + long(1)) * 200_000),
    "1,000,000 tuples deep": entry((b"(" + long(1)) * 200_000 + b"N"),
    "200,000 dicts deep": entry(b"{N" * 200_000),
    "two keys that read as one": b"{i" + long(1) + b"Ns" + long(1) + b"1N0",
    "metadata of a list, behind a brace": b"{" * 3,
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused_in_a_line_that_an_operator_can_read(data, bounded):
    assert bounded(whole, data) != "read"


BOMBS = {
    "dicts": entry(b"[" + long(MB // 2) + b"{0" * (MB // 2)),
    "lists": entry(b"[" + long(MB // 5) + (b"[" + long(0)) * (MB // 5)),
    "a list announced in each list": entry((b"[" + long(500_000)) * 40 + b"N" * 600_000),
    "numbers": entry(b"[" + long(MB // 5) + (b"i" + long(70_000)) * (MB // 5)),
    "a long text again": entry(
        b"[" + long(20_001) + b"t" + long(900_000) + b"a" * 900_000 + (b"R" + long(0)) * 20_000
    ),
    "interned texts": entry(b"[" + long(MB // 6) + (b"t" + long(1) + b"a") * (MB // 6)),
    "keys of one hash": entry(
        b"{" + b"".join(digits(MERSENNE * number) + b"N" for number in range(1, 50_000)) + b"0"
    ),
    "floats of one hash": entry(
        b"{"
        + b"".join(
            b"g" + struct.pack("<d", 2.0 ** (61 * (n % 16)) * (n + 1)) + b"N" for n in range(90_000)
        )
        + b"0"
    ),
    "a long key again": entry(
        b"{t"
        + long(300_000)
        + b"a" * 300_000
        + b"N"
        + b"s"
        + long(300_000)
        + b"a" * 300_000
        + b"N"
        + (b"R" + long(0) + b"N") * 60_000
        + b"0"
    ),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_or_read_at_the_cost_of_its_size(data, bounded):
    assert bounded(whole, data)


def readable(error):
    assert str(error).isprintable()


FRAGMENTS = [
    *(b"%c" % code for code in b"NTF0.S{cR?"),
    *(
        code + long(count)
        for code in (b"[", b"(", b"s", b"t", b"u", b"l", b"R", b"i")
        for count in (0, 1, 2, -1)
    ),
    b"f\x031.5",
    b"x\x01a\x011",
    b"I",
    b"g",
    b"y",
    b"k",
    b"\xe9",
    b"\xff\x7f",
]


@given(
    st.one_of(
        st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join), st.binary(max_size=60)
    )
)
def test_nothing_but_undecodable_escapes(body):
    for data in (body, b"{" + body, entry(body), entry(body + b"0")):
        try:
            whole(data)
        except Undecodable as error:
            readable(error)


def test_a_marshal_nests_to_a_depth_and_no_deeper():
    deepest = (b"[" + long(1)) * marshalled.MAX_DEPTH
    assert marshalled.read(deepest + b"N") != []
    with pytest.raises(Undecodable, match="refused: nested deeper than"):
        marshalled.read(deepest + b"[" + long(1) + b"N")
