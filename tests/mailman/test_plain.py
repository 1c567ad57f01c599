"""What we write can be read again: by us, by pickle, and by a Python 2 where there is one."""

from __future__ import annotations

import datetime as dt
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from watcher import mailman
from watcher.errors import Undecodable, Usage
from watcher.mailman import plain, skim

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=5)
        | inner.map(lambda value: [value, value])
    ),
    max_leaves=20,
)
metadata = st.dictionaries(st.text(max_size=10), values, max_size=6)


@given(st.binary(), metadata)
def test_what_is_written_is_read_again(message, given_metadata):
    data = mailman.write_pck(message, given_metadata)
    assert mailman.pickles(data) == 2
    found = mailman.read_pck(data)
    assert found.message == message
    assert repr(found.metadata) == repr(given_metadata)


@given(st.binary(), metadata)
def test_what_is_written_is_two_pickles_of_a_protocol_that_python_2_reads(message, given_metadata):
    data = mailman.write_pck(message, given_metadata)
    assert data[:2] == b"\x80\x02"
    first = pickle.loads(data)
    assert first == message
    assert type(first) is bytes


def python_2():
    """Return the path of a Python 2.7 that runs, or None."""
    found = [*Path("~/.pyenv/versions").expanduser().glob("2.7*/bin/python2.7")]
    for path in (*found, shutil.which("python2.7")):
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    return None


PYTHON2 = python_2()
READ_WITH_PYTHON_2 = """
import cPickle, pickle, sys
stream = open(sys.argv[1], "rb")
message, metadata = cPickle.load(stream), cPickle.load(stream)
assert stream.read() == ""
stream.seek(0)
assert (pickle.load(stream), pickle.load(stream)) == (message, metadata)
assert type(message) is str
assert metadata["listname"] == "test@example.com" and metadata["raw"] == "\\xff"
with open(sys.argv[2], "wb") as out:
    for protocol in (0, 1, 2):
        pickle.dump(message, out, protocol)
        cPickle.dump(metadata, out, protocol)
"""


@pytest.mark.skipif(PYTHON2 is None, reason="no Python 2.7 here")
def test_python_2_reads_it_and_we_read_what_python_2_makes_of_it(tmp_path):
    message = b"Subject: \xe9\n\n" + bytes(range(256))
    values = {
        "listname": "test@example.com", "raw": b"\xff", "wide": "\u20ac\U0001f4e7", "big": 1 << 80,
        "tree": [1, None, True, -0.5, (b"\x80", {"a": "b"})],
    }  # fmt: skip
    (tmp_path / "in").write_bytes(mailman.write_pck(message, values))
    subprocess.run(
        [PYTHON2, "-c", READ_WITH_PYTHON_2, tmp_path / "in", tmp_path / "out"], check=True
    )
    data = (tmp_path / "out").read_bytes()
    for _ in range(3):
        middle = skim.end(data)
        end = skim.end(data, middle)
        found = mailman.read_pck(data[:end])
        assert found == (message, values)
        data = data[end:]
    assert data == b""


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        {1},
        dt.datetime(2026, 1, 1),  # noqa: DTZ001
        object(),
        Text("x"),
        [frozenset()],
        {"a": {1: 2}},
        1 << 8_000,
        ...,
        range(3),
        bytearray(b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_mailman_may_not_read_is_refused_and_its_key_named(value):
    with pytest.raises(Usage, match="'the key'"):
        mailman.write_pck(b"", {"fine": 1, "the key": value})


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(Usage, match="b'raw'"):
        mailman.write_pck(b"", {b"raw": 1})


def nested(depth):
    value = "leaf"
    for _ in range(depth):
        value = [value]
    return value


def test_as_deep_as_can_be_written_can_be_read_and_no_deeper_can_be_written():
    deepest = {"a": nested(plain.MAX_DEPTH)}
    assert mailman.read_pck(mailman.write_pck(b"", deepest)).metadata == deepest
    with pytest.raises(Usage):
        mailman.write_pck(b"", {"a": nested(plain.MAX_DEPTH + 1)})
    with pytest.raises(Undecodable):
        mailman.read_pck(pickle.dumps(b"", 2) + pickle.dumps({"a": nested(plain.MAX_DEPTH + 1)}, 2))


def test_what_refers_to_itself_is_not_written():
    endless = []
    endless.append(endless)
    laughs = ["ha"]
    for _ in range(45):
        laughs = [laughs, laughs]
    for value in (endless, laughs, [[0] * 1000] * 100):
        with pytest.raises(Usage):
            mailman.write_pck(b"", {"a": value})


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(1, 3_000))
def test_what_is_written_of_repeated_parts_is_read_again_or_refused_at_once(times, length):
    value = {"a": [["x"] * length] * times}
    try:
        data = mailman.write_pck(b"", value)
    except Usage:
        assert times * length > plain.SPARE / 2
    else:
        assert mailman.read_pck(data).metadata == value


def test_importing_the_readers_imports_none_of_the_slow_modules():
    slow = ("email", "ast", "datetime", "json", "base64", "pickle", "struct")
    code = (
        "import sys; before = set(sys.modules); import watcher.mailman;"
        f" print(*({{*{slow}}} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", ["pickled", "marshalled", "literal", "message", "values"])
def test_no_reader_imports_what_could_run_the_input(module):
    code = (
        f"import sys; import watcher.mailman.{module};"
        " print(*({'pickle', '_pickle', 'ast'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
