"""Pickles: benign ones are read as pickle reads them, hostile ones cost nothing."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from watcher import mailman
from watcher.errors import Undecodable
from watcher.mailman import pickled, values as values_read

MB = 1_000_000
CORPUS = Path(__file__).parent.parent / "corpus"
GENUINE = [
    path.read_bytes()
    for folder in ("mm21", "mm3")
    for path in sorted((CORPUS / folder).glob("*/*.pck"))
][::7]
MESSAGE = pickle.dumps(b"x", 2)
MERSENNE = (1 << 61) - 1  # numbers that differ by it have one hash
ENTRY_READERS = (mailman.read_pck, mailman.read_pck_message, mailman.pickles)


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def entry(body):
    """Return an entry whose metadata is {"k": what the opcodes of `body` leave}."""
    return MESSAGE + b"\x80\x02}" + text("k") + body + b"s."


def whole(data):
    return mailman.to_json(mailman.read_pck(data).metadata)


# -- benign ---------------------------------------------------------------------------------------

atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 2000), 1 << 2000),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
)
keys = st.one_of(atoms, st.tuples(atoms, atoms))
values = st.recursive(
    st.one_of(atoms, st.sets(keys, max_size=4), st.frozensets(keys, max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        inner.map(lambda value: [value, value, (value,)]),  # the memo at work
    ),
    max_leaves=20,
)


def plain(value):
    """Return what compares by value and type: 1 is not True, nan is nan, -0.0 is not 0.0."""
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return [kind, *map(plain, value)]
    if isinstance(value, set | frozenset):
        return [kind, *sorted(map(plain, value), key=repr)]
    if isinstance(value, dict):
        return [kind, *([plain(key), plain(item)] for key, item in value.items())]
    return [kind, repr(value)]


@given(values, st.integers(0, 5))
def test_a_benign_pickle_is_read_as_pickle_reads_it(value, protocol):
    data = pickle.dumps(value, protocol)
    found, end = pickled.read(data)
    assert end == len(data)
    assert plain(found) == plain(pickle.loads(data))


@given(st.dictionaries(st.text(max_size=5), values, max_size=4), st.integers(0, 5))
def test_a_benign_entry_is_read_as_pickle_reads_it(metadata, protocol):
    data = pickle.dumps(b"\xe9 message", protocol) + pickle.dumps(metadata, protocol)
    assert mailman.pickles(data) == 2
    found = mailman.read_pck(data)
    assert found.message == b"\xe9 message"
    assert plain(found.metadata) == plain(metadata)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"U\x01a.", "a"),
        (b"U\x01\xe9.", b"\xe9"),
        (b"T\x02\x00\x00\x00ab.", "ab"),
        (b"S'a\\'\\x41\\n\\101\\\\'\n.", "a'A\nA\\"),
        (b'S"it\'s"\n.', "it's"),
        (b"S'\\xe9'\n.", b"\xe9"),
        (b"V\\u00e9\\n\n.", "\xe9\\n"),
        (b"I01\n.", True),
        (b"I00\n.", False),
        (b"I-7\n.", -7),
        (b"L12L\n.", 12),
        (b"F1.5\n.", 1.5),
        (b"(I1\nI2\nl.", [1, 2]),
        (b"(lp1\nI1\nag1\nI2\na0.", [1, 2]),  # cPickle counts its memo from 1
        (b"(dp0\nS'a'\np1\nI1\ns.", {"a": 1}),
    ],
)
def test_what_only_python_2_writes(data, value):
    assert plain(pickled.read(data)[0]) == plain(value)


# -- hostile: refused, at no cost -----------------------------------------------------------------

REFUSED = {
    "nothing": b"",
    "no opcode": MESSAGE + b"\xff.",
    "no stack": MESSAGE + b".",
    "only marks": MESSAGE + b"(((.",
    "a mark that is not there": entry(b"t"),
    "an object of nothing": entry(b"(o"),
    "a call of a number": entry(b"K\x01)R"),
    "a class as a value": entry(b"c__builtin__\nset\n"),
    "os.system": entry(b"cos\nsystem\nU\x02id\x85R"),
    "a class named with a line break": entry(b"\x8c\x02o\n\x8c\x04a\xc2\x85\x1b\x93"),
    "a class named over a megabyte": entry(b"c" + b"o" * 1000 + b"\n" + b"s" * MB + b"\n"),
    "bytes of a terabyte": entry(b"\x8e" + struct.pack("<Q", 1 << 40)),
    "text of 8 exabytes": entry(b"\x8d" + struct.pack("<Q", 1 << 63)),
    "text of -1": entry(b"T" + struct.pack("<i", -1)),
    "a number of 4 GB": entry(b"\x8b" + struct.pack("<i", -1)),
    "a frame beyond the end": MESSAGE + b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.",
    "protocol 6": MESSAGE + b"\x80\x06}.",
    "a memo of 4 G": entry(b"Nr\xff\xff\xff\xff"),
    "a memo below zero": entry(b"Np-1\n"),
    "an empty memo": entry(b"h\x07"),
    "a float that is none": entry(b"F" + b"z" * MB + b"\n"),
    "a number that is none": entry(b"I" + b"\x1b\r" * 400 + b"\n"),
    "a number too long": entry(b"L" + b"9" * MB + b"L\n"),
    "a string without quotes": entry(b"Sabc\n"),
    "text that is not UTF-8": entry(b"X\x02\0\0\0\xff\xff"),
    "unicode beyond Unicode": entry(b"V\\Uffffffff\n"),
    "a list as a key": entry(b"}]Ns"),
    "a dict as a member": entry(b"\x8f(}\x90"),
    "a key without a value": entry(b"}(Nu"),
    "items for a number": entry(b"K\x01(Ne"),
    "a state for a list": entry(b"]}b"),
    "a datetime of 3 bytes": entry(b"cdatetime\ndatetime\nC\x03abc\x85R"),
    "a datetime in month 99": entry(b"cdatetime\ndatetime\nC\x0a\x07\xd0cccccc\x00\x00\x85R"),
    "a timedelta of eons": entry(b"cdatetime\ntimedelta\n\x8a\x09" + b"\x7f" * 9 + b"\x85R"),
    "a persistent id": entry(b"Pabc\n"),
    "an extension code": entry(b"\x82\x01"),
    "a buffer": entry(b"\x97"),
    "a list in itself": entry(b"]q\x00h\x00a"),
    "a dict in itself": MESSAGE + b"}q\x00U\x01kh\x00s.",
    "a tuple in itself": entry(b"]q\x00(h\x00tq\x01ah\x01"),
    "two keys that read as one": MESSAGE + b"}(K\x01NU\x011Nu.",
    "a message of a number": b"K\x01.}.",
    "a message of lone surrogates": b"X\x03\0\0\0\xed\xa0\x80.}.",
    "metadata of a list": MESSAGE + b"].",
    "a third pickle": MESSAGE + b"}." + b"}.",
    "one pickle": MESSAGE,
    "100,000 lists deep": entry(b"]" * 100_000 + b"a" * 99_999),
    "100,000 dicts deep": entry(b"}K\x01" * 100_000 + b"}" + b"s" * 100_000),
    "1,000,000 tuples deep": entry(b"N" + b"\x85" * MB),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused_in_a_line_that_an_operator_can_read(data, bounded):
    assert bounded(whole, data) != "read"


class Bomb:
    """What makes a directory when Python's own pickle loads it."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_refused_has_done_nothing(protocol, tmp_path):
    armed, made = tmp_path / "armed", tmp_path / "made"
    pickle.loads(pickle.dumps(Bomb(armed), protocol))
    assert armed.exists(), "it is one that goes off"
    bomb = Bomb(made)
    whole_entries = [
        pickle.dumps(bomb, protocol) + b"}.",
        MESSAGE + pickle.dumps({"k": bomb}, protocol),
        MESSAGE + b"}." + pickle.dumps(bomb, protocol),
    ]
    for data in whole_entries:
        with pytest.raises(Undecodable):
            mailman.read_pck(data)
        assert mailman.pickles(data) == 2, "to count them is to make nothing of them"
        assert not made.exists()


def test_every_cut_of_a_genuine_file_is_refused(refusal):
    data = min(GENUINE, key=len)
    for end in range(len(data)):
        refusal(mailman.read_pck, data[:end])


# -- hostile: 1 MB, in about a second and bounded memory -------------------------------------------


def laughs(levels, inner=b"N"):
    """Return a list of 10 references to a list of 10 references to …"""
    return (
        b"("
        + inner
        + b"lq\x00"
        + b"".join(
            b"0(" + b"h" + bytes([level]) + (b"h" + bytes([level])) * 9 + b"lq" + bytes([level + 1])
            for level in range(levels)
        )
    )


def numbers(count):
    return (b"\x8a\x0b" + (MERSENNE * index).to_bytes(11, "little") for index in range(count))


BOMBS = {
    "a million lists": entry(b"](" + b"]" * MB + b"e"),
    "a million dicts": entry(b"](" + b"}" * MB + b"e"),
    "a million sets": entry(b"](" + b"\x8f" * MB + b"e"),
    "a million frozensets": entry(b"](" + b"(\x91" * (MB // 2) + b"e"),
    "dicts of one item": entry(b"](" + b"}NNs" * (MB // 4) + b"e"),
    "sets by calls": entry(b"c__builtin__\nset\nq\x000(" + b"h\x00)R" * (MB // 4) + b"l"),
    "a million in the memo": entry(b"N" + b"\x94" * MB),
    "gaps in the memo": entry(
        b"N" + b"".join(b"r" + struct.pack("<I", 9 * i) for i in range(MB // 5))
    ),
    "a million marks": entry(b"(" * MB + b"N"),
    "marks in turn": entry(b"N" + b"(1" * (MB // 2)),
    "tuples of tuples": entry(b"(" * (MB // 2) + b"t" * (MB // 2)),
    "doubles taken again": entry(b"N" + b"2" * (MB // 2) + b"0" * (MB // 2)),
    "one list into a set again": entry(
        b"c__builtin__\nset\nq\x00("
        + b"M\x01\x05" * 100_000
        + b"lq\x01("
        + b"h\x00h\x01\x85R0" * 90_000
        + b"t"
    ),
    "one text encoded again": entry(
        b"c_codecs\nencode\nq\x00"
        + text("a" * 500_000)
        + text("latin1")
        + b"\x86q\x01("
        + b"h\x00h\x01R" * 90_000
        + b"t"
    ),
    "one state again": b"\x80\x02cemail.message\nMessage\n)\x81q\x00}("
    + b"".join(text(f"k{number}") + b"N" for number in range(20_000))
    + b"uq\x01"
    + b"0h\x00h\x01b" * 100_000
    + b".}.",
    "a set of one hash": entry(b"\x8f(" + b"".join(numbers(75_000)) + b"\x90"),
    "a dict of one hash": entry(
        b"}(" + b"".join(number + b"N" for number in numbers(70_000)) + b"u"
    ),
    "a set of one hash, by a call": entry(
        b"c__builtin__\nfrozenset\n(" + b"".join(numbers(75_000)) + b"l\x85R"
    ),
    "a set of one hash, called again": entry(
        b"c__builtin__\nset\nq\x00("
        + b"".join(numbers(900))
        + b"lq\x01("
        + b"h\x00h\x01\x85R" * 160_000
        + b"l"
    ),
    "tuples of one hash": entry(
        b"}(" + b"".join(number + b"\x85N" for number in numbers(70_000)) + b"u"
    ),
    "floats of one hash": entry(
        b"\x8f("
        + b"".join(b"G" + struct.pack(">d", MERSENNE * 2.0**i) for i in range(900)) * 110
        + b"\x90"
    ),
    "a long key compared again": entry(
        b"}"
        + text("a" * 400_000)
        + b"q\x00Ns"
        + text("a" * 400_000)
        + b"q\x010"
        + b"h\x01Ns" * 40_000
    ),
    "lists of lists of lists": entry(laughs(12)),
    "dicts of dicts": entry(
        b"}q\x00"
        + b"".join(
            b"0}(" + b"".join(b"K%ch%c" % (i, n) for i in range(10)) + b"uq%c" % (n + 1)
            for n in range(12)
        )
    ),
    "a long text in a list": entry(
        b"(" + text("a" * 900_000) + b"q\x00" + b"h\x00" * 50_000 + b"l"
    ),
    "a long text of lists": entry(laughs(6, text("a" * 900_000))),
    "a set in a list": entry(
        b"\x8f(" + text("a" * 9_000) * 50 + b"\x90q\x000(" + b"h\x00" * 250_000 + b"l"
    ),
    "a tuple as a key again": entry(
        b"((" + text("a" * 9_000) + b"2" * 14 + b"tq\x00" + b"}h\x00Ns" * 150_000 + b"l"
    ),
    "a long number in a list": entry(
        b"(\x8b" + struct.pack("<i", 1000) + b"\x7f" * 1000 + b"q\x00" + b"h\x00" * 400_000 + b"l"
    ),
    "dicts in a list": entry(b"(}NNsq\x00" + b"h\x00" * 450_000 + b"l"),
    "a megabyte of escapes": entry(b"S'" + b"\\\\" * (MB // 2) + b"'\n"),
    "lines without an end": entry(b"V\n0" * (MB // 3)) + b"V" + b"a" * MB,
    "a message of a million parts": b"\x80\x02cemail.message\nMessage\n)\x81q\x00}(U\x08_payload(l("
    + b"h\x00" * (MB // 2)
    + b"eub.}.",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_or_read_at_the_cost_of_its_size(data, bounded):
    assert bounded(whole, data)


# -- anything --------------------------------------------------------------------------------------


def readable(error):
    assert str(error).isprintable()


FRAGMENTS = [bytes([code]) for code in range(256)] + [
    *(b"%c%c" % (code, index) for code in b"hq" for index in range(4)),
    *(b"c%b\n%b\n" % (module.encode(), name.encode()) for module, name in values_read.ALLOWED),
    *(
        text(word)
        for word in (
            "_headers",
            "_payload",
            "_chunks",
            "policy",
            "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
            "latin1",
        )
    ),
    *(
        b")\x81",
        b"}(",
        b"ub",
        b"\x86",
        b"\x85R",
        b"K\x01",
        b"I1\n",
        b"C\x0a\x07\xd0\x01\x01\x01\x01\x01\x00\x00\x01",
    ),
]
soup = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(b"".join)


def only_undecodable(data):
    for reader in ENTRY_READERS:
        try:
            found = reader(data)
            if reader is mailman.read_pck:
                mailman.to_json(found.metadata)
        except Undecodable as error:
            readable(error)


@given(soup)
def test_nothing_but_undecodable_escapes_from_opcodes_in_any_order(body):
    for data in (body, body + b".", MESSAGE + body + b".", entry(body), body + b".}."):
        only_undecodable(data)


@given(st.binary(max_size=200))
def test_nothing_but_undecodable_escapes_from_any_bytes(body):
    only_undecodable(body)
    only_undecodable(MESSAGE + body)


@given(st.sampled_from(GENUINE), st.data())
def test_nothing_but_undecodable_escapes_from_damaged_genuine_files(genuine, data):
    damaged = bytearray(genuine)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        length = data.draw(st.integers(0, 3))
        damaged[place : place + length] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from(FRAGMENTS))
        )
    only_undecodable(bytes(damaged))


def test_a_number_of_as_many_digits_as_allowed_is_read_and_no_longer_one():
    assert pickled.read(b"I" + b"9" * 1_000 + b"\n.")[0] == 10**1_000 - 1
    for data in (b"I" + b"9" * 1_001 + b"\n.", b"L" + b"9" * 1_001 + b"L\n."):
        with pytest.raises(Undecodable, match="refused: a number of"):
            pickled.read(data)
