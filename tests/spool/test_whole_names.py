"""The raw format: an entry's name is its file's whole name, also of what earlier versions left."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from watcher.claim.take import take
from watcher.claim.take_deferred import take_deferred
from watcher.handle.entry import Entry
from watcher.inspect.find_entry import find, look_up
from watcher.inspect.list_entries import list_entries
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import DEFERRED, STATE_DIRECTORIES, Layout, note_of, old_note_of
from watcher.rules.patterns import compiled
from watcher.rules.stamp import Schedule, stamped
from watcher.settle import moves
from watcher.spool import notes
from watcher.spool.claimed import Claim
from watcher.spool.part import identity_of

CSV = Layout(b".csv", raw=True)
TWO = Layout(b"", raw=True, match=compiled(("*.csv", "*.txt"), numbered=True))
ANY = Layout(b"", raw=True)
JSON = Layout(b".json", raw=True)


@pytest.fixture
def take_entry(put, terms):
    """Put a file into the queue, and claim it."""

    def taking(spool, name, data):
        put(name, data)
        claim = take(spool, name, Proof.RENAMED, terms(0))
        assert isinstance(claim, Claim)
        return claim

    return taking


@pytest.fixture
def before(queue):
    """Lay an entry and its note into a state directory, as earlier versions did."""

    def lay(state, file, note, own, data=b"old"):
        directory = queue / ".watcher" / os.fsdecode(STATE_DIRECTORIES[state])
        directory.mkdir(parents=True, exist_ok=True)
        for parent in (directory, directory.parent):
            parent.chmod(0o700)
        (directory / os.fsdecode(file)).write_bytes(data)
        told = {"why": "as before", "files": [os.fsdecode(file)], "own": [own], "committed_ns": 5}
        (directory / os.fsdecode(note)).write_text(json.dumps(told))
        return directory

    return lay


@pytest.mark.parametrize(
    ("layout", "name", "note", "old"),
    [
        (CSV, b"report.csv", b"report.csv.json", b"report.json"),
        (CSV, b"report~1.csv", b"report~1.csv.json", b"report~1.json"),
        (TWO, b"report.csv", b"report.csv.json", b"report.csv.json"),
        (ANY, b"report.csv", b".report.csv.json", b".report.csv.json"),
        (JSON, b"report.json", b".report.json.json", b".report.json"),
        (Layout(), b"X.pck", b"X.json", b"X.json"),
    ],
)
def test_a_note_has_the_whole_name_and_the_one_before_is_known(layout, name, note, old):
    assert note_of(name, layout) == note
    assert old_note_of(name, layout) == (None if old == note else old)


def test_two_entries_that_differ_in_their_ending_have_a_note_each(open_spool, files, take_entry):
    spool = open_spool(TWO)
    for name in (b"a.csv", b"a.txt"):
        claim = take_entry(spool, name, name)
        moves.put_away(spool, State.DEAD, claim.parts, f"of {name.decode()}", {})
        claim.release()
    assert set(files(State.DEAD)) == {b"a.csv", b"a.csv.json", b"a.txt", b"a.txt.json"}
    listed = {each.name: each.why for each in list_entries(spool)}
    assert listed == {b"a.csv": "of a.csv", b"a.txt": "of a.txt"}


def test_a_second_file_of_the_name_keeps_its_ending(open_spool, files, take_entry):
    for layout in (CSV, TWO):
        spool = open_spool(layout)
        claim = take_entry(spool, b"a.csv", b"x")
        moves.put_away(spool, State.DEAD, claim.parts, "", {})
        claim.release()
    assert set(files(State.DEAD)) == {
        b"a.csv", b"a.csv.json", b"a~1.csv", b"a~1.csv.json"
    }  # fmt: skip
    assert {each.name for each in list_entries(open_spool(TWO))} == {b"a.csv", b"a~1.csv"}


@pytest.mark.parametrize(
    ("state", "file"),
    [
        (State.DEAD, b"report.csv"),
        (State.HELD, b"report~1.csv"),
        (State.DEFERRED, stamped(Schedule(0, 2, identity=7), b"report", b".csv")),
    ],
)
def test_what_an_earlier_version_put_away_is_read_with_its_note(open_spool, before, state, file):
    old = file.removesuffix(b".csv") + b".json"
    directory = before(state, file, old, "report.csv")
    spool = open_spool(CSV)
    (listed,) = list_entries(spool, (state,))
    assert (listed.why, listed.files) == ("as before", (file,))
    assert listed.name.startswith(b"report")
    assert listed.name.endswith(b".csv")
    found = find(spool, listed.name)
    assert found.parts[0].name == file
    found.close()
    notes.remove(spool, spool.state_dir(state), file)
    assert [path.name for path in directory.iterdir()] == [os.fsdecode(file)]


def test_an_earlier_versions_deferred_entry_keeps_its_key_and_its_note_goes_with_it(
    open_spool, before, terms
):
    file = stamped(Schedule(0, 2, identity=7), b"report", b".csv")
    directory = before(State.DEFERRED, file, file.removesuffix(b".csv") + b".json", "report.csv")
    spool = open_spool(CSV)
    claim = take_deferred(spool, DEFERRED + file, terms(0))
    assert claim.stem == b"report.csv"
    digest = hashlib.sha256(b"old").digest()
    expected = hashlib.sha256(b"report\0" + b"7\0" + digest).hexdigest()
    assert key_of(spool, claim) == expected
    assert moves.remove(spool, claim.parts)
    claim.release()
    assert list(directory.iterdir()) == []


def test_a_fresh_entry_has_the_key_that_earlier_versions_gave_it(open_spool, take_entry):
    spool = open_spool(CSV)
    claim = take_entry(spool, b"report.csv", b"new")
    digest = hashlib.sha256(b"new").digest()
    head = b"report\0%x\0" % identity_of(claim.parts[0])
    assert key_of(spool, claim) == hashlib.sha256(head + digest).hexdigest()
    claim.release()


def test_a_note_of_the_old_name_that_is_another_entrys_is_left(open_spool, before):
    directory = before(State.DEAD, b"report.txt", b"report.json", "report.txt")
    (directory / "report.csv").write_bytes(b"x")
    spool = open_spool(CSV)
    assert notes.read_note(spool.state_dir(State.DEAD), b"report.csv", CSV) == {}
    notes.remove(spool, spool.state_dir(State.DEAD), b"report.csv")
    assert (directory / "report.json").exists()


def test_only_the_whole_name_finds_an_entry(open_spool, put):
    put(b"report.csv", b"x")
    spool = open_spool(CSV)
    assert look_up(spool, [b"report"], [State.READY]) == [[]]
    assert len(look_up(spool, [b"report.csv"], [State.READY])[0]) == 1


@pytest.mark.parametrize("layout", [CSV, TWO, ANY])
@pytest.mark.parametrize("size", [200, 248, 249, 250, 254, 255])
def test_names_of_any_length_have_notes_of_their_own(open_spool, files, take_entry, layout, size):
    name = b"n" * (size - 4) + b".csv"
    spool = open_spool(layout)
    for number in range(12):
        claim = take_entry(spool, name, b"%d" % number)
        moves.put_away(spool, State.DEAD, claim.parts, f"number {number}", {})
        claim.release()
    listed = list(list_entries(spool, (State.DEAD,)))
    assert sorted(each.why for each in listed) == sorted(f"number {number}" for number in range(12))
    assert len(files(State.DEAD)) == 24
    assert all(each.name.endswith(b".csv") for each in listed if layout is not ANY)


def key_of(spool, claim):
    """Return the key that a handler is given."""
    layout = spool.layout
    return Entry(
        queue="q",
        name=claim.stem,
        key_name=layout.key_name(claim.stem),
        directory=spool.path,
        parts=claim.parts,
        form=claim.form,
        is_unique_name=layout.is_unique_name(claim.stem),
        identity=0 if claim.schedule is None else claim.schedule.identity,
    ).key
