"""Where pickles end: as Python's own disassembler finds it, without making a value."""

from __future__ import annotations

import io
import pickle
import pickletools
import time

import pytest
from hypothesis import given, strategies as st

from watcher import mailman
from watcher.errors import Undecodable
from watcher.mailman import skim
from watcher.mailman.pickled import BY_CODE

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=10,
)
ARGUMENTS = {
    "decimalnl_short": b"12\n",
    "decimalnl_long": b"12L\n",
    "stringnl": b"'a'\n",
    "stringnl_noescape": b"ab\n",
    "stringnl_noescape_pair": b"ab\ncd\n",
    "unicodestringnl": b"ab\n",
    "floatnl": b"1.5\n",
    "uint1": b".",
    "uint2": b"..",
    "int4": b"....",
    "uint4": b"....",
    "uint8": b"........",
    "float8": b"........",
    "string1": b"\x03...",
    "string4": b"\x03\0\0\0...",
    "bytes1": b"\x03...",
    "bytes4": b"\x03\0\0\0...",
    "bytes8": b"\x03\0\0\0\0\0\0\0...",
    "bytearray8": b"\x03\0\0\0\0\0\0\0...",
    "unicodestring1": b"\x03...",
    "unicodestring4": b"\x03\0\0\0...",
    "unicodestring8": b"\x03\0\0\0\0\0\0\0...",
    "long1": b"\x03...",
    "long4": b"\x03\0\0\0...",
}


@pytest.mark.parametrize("opcode", pickletools.opcodes, ids=lambda opcode: opcode.name)
def test_each_opcode_takes_what_the_disassembler_takes(opcode):
    argument = ARGUMENTS[opcode.arg.name] if opcode.arg else b""
    data = opcode.code.encode("latin-1") + argument + (b"" if opcode.code == "." else b".")
    assert skim.end(data + b"rest") == len(data)
    assert next(pickletools.genops(data))[0].name == opcode.name


def test_every_opcode_of_python_is_known_to_the_reader_too():
    known = {code.decode("latin-1") for code in BY_CODE} | {"."}
    assert known == {opcode.code for opcode in pickletools.opcodes}


@given(st.lists(values, max_size=3), st.integers(0, 5))
def test_whole_pickles_are_counted(several, protocol):
    data = b"".join(pickle.dumps(value, protocol) for value in several)
    assert mailman.pickles(data) == min(len(several), 2)


@given(values, st.integers(0, 5), st.data())
def test_a_pickle_cut_short_is_damaged(value, protocol, data):
    whole = pickle.dumps(value, protocol)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(Undecodable, match="truncated"):
        mailman.pickles(cut)


def readable(error):
    assert str(error).isprintable()


@given(st.binary(max_size=60))
def test_any_bytes_are_counted_or_refused(data):
    stream = io.BytesIO(data)
    try:
        count = mailman.pickles(data)
    except Undecodable as error:
        readable(error)
        return
    # where the disassembler, which also reads the arguments, finds pickles, they are as many
    found = 0
    try:
        while found < 2 and stream.tell() < len(data):
            for _ in pickletools.genops(stream):
                pass
            found += 1
    except ValueError:
        return
    assert count == found


@pytest.mark.parametrize("unit", [b"N", b"(", b"I\n", b"c\n\n", b"X\0\0\0\0", b"\x8c\x01a"])
def test_a_megabyte_takes_no_time(unit):
    data = unit * (1_000_000 // len(unit)) + b"."
    began = time.process_time()
    assert mailman.pickles(data) == 1
    assert time.process_time() - began < 2


def test_lengths_beyond_the_end_are_refused():
    for data in (
        b"\x8e" + b"\xff" * 8 + b".",
        b"T\xff\xff\xff\xff.",
        b"\x8d\xff\xff\xff\xff\0\0\0\0.",
        b"I.",
    ):
        with pytest.raises(Undecodable):
            mailman.pickles(data)
