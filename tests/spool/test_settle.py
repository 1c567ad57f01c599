"""Finishing on real directories: only what was claimed goes, and nothing is ever overwritten."""

from __future__ import annotations

import errno
import json
import os

import pytest

from watcher.claim.take import take
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout, in_deferred, note_of
from watcher.rules.stamp import Schedule
from watcher.settle import interrupted, moves
from watcher.spool.birth import birth_ns
from watcher.spool.claimed import Claim
from watcher.spool.disk import Disk

MAILMAN, LEGACY, RAW = Layout(), Layout(legacy=True), Layout(b"", raw=True)
ENTRIES = {
    "mailman": (MAILMAN, [b"1.0+ab.pck"]),
    "legacy pair": (LEGACY, [b"ab.msg", b"ab.db"]),
    "drop folder": (RAW, [b"report.csv"]),
}
PLACES = [State.DEAD, State.HELD, State.ORPHAN]


@pytest.fixture
def claimed(open_spool, put, terms, close_at_end):
    """Claim an entry; return the spool and the parts that were claimed."""

    def claim(disk, layout, names):
        for name in names:
            put(name, b"old " + name)
        spool = open_spool(layout, disk)
        proof = Proof.NONE if layout.legacy else Proof.RENAMED
        made = take(spool, names[0], proof, terms(0))
        assert isinstance(made, Claim)
        disk.calls.clear()
        close_at_end(made.parts)
        return spool, made.parts

    return claim


@pytest.fixture(params=ENTRIES)
def entry(request):
    """An entry of each format: its layout and its files."""
    return ENTRIES[request.param]


def put_away(spool, parts, state=State.DEAD, why="because"):
    return moves.put_away(spool, state, parts, why, {"attempts": 3})


def entries_of(found):
    """Leave out the notes."""
    return {name: data for name, data in found.items() if not name.endswith(b".json")}


# -- done -------------------------------------------------------------------------------------


def test_a_done_entry_is_removed_whole(claimed, behind, entry, files, queue):
    spool, parts = claimed(behind, *entry)
    moves.remove(spool, parts)
    assert files() == {}
    assert [path for path in queue.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "moment", ["now", "move_aside", "after move_aside", "unlink", "after unlink"]
)
def test_done_never_removes_a_replacement(claimed, behind, entry, put, files, queue, moment):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)

    def act():
        for name in names:
            put(name, b"new " + name)

    if moment == "now":
        act()
    else:
        behind.acts[moment] = act
    moves.remove(spool, parts)
    assert behind.acts == {}, "the moment never came"
    assert files() == {name: b"new " + name for name in names}
    assert [path for path in (queue / ".watcher").rglob("*") if path.is_file()] == []


def renaming_before_call(disk, number, act):
    """Act at the `number`th moment, counted from 0; return the list that will say which it was."""
    came: list[str] = []
    left = iter(range(number))

    def moment(what):
        if next(left, None) is None and not came:
            came.append(what)
            act()

    disk._act = moment
    return came


def test_every_call_of_done_stands_a_replacement(claimed, behind, entry, put, files):
    """What the moments above may miss: the replacement comes before the nth call, for every n."""
    layout, names = entry
    for number in range(20):
        spool, parts = claimed(behind, layout, names)
        came = renaming_before_call(behind, number, lambda: put(names[0], b"new"))
        moves.remove(spool, parts)
        del behind._act
        if not came:
            assert number > 2, "no call at all"
            return
        assert set(files().values()) == {b"new"}, came
        for name in files():
            os.unlink(name, dir_fd=spool.fd)
    pytest.fail("it never ends")


@pytest.mark.parametrize("deed", ["moved away", "unlinked"])
def test_done_by_a_handler_that_took_the_file_is_done(claimed, behind, entry, queue, files, deed):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)
    path = queue / os.fsdecode(names[0])
    if deed == "unlinked":
        path.unlink()
    else:
        path.rename(queue.parent / "kept")
    moves.remove(spool, parts)
    assert files() == {}
    assert (queue.parent / "kept").exists() == (deed == "moved away")


# -- put away ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", PLACES, ids=lambda state: state.value)
def test_an_entry_is_put_away_whole_with_its_note(claimed, behind, entry, files, state):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)
    assert put_away(spool, parts, state) == names[0]
    assert files() == {}
    found = files(state)
    (note_name,) = set(found) - set(names)
    assert note_name == note_of(names[0], layout)
    assert entries_of(found) == {name: b"old " + name for name in names}
    note = json.loads(found[note_name])
    assert note["state"] == state.value
    assert note["why"] == "because"
    assert note["attempts"] == 3
    assert note["files"] == note["was"] == [os.fsdecode(name) for name in names]
    assert note["entry"] == os.fsdecode(layout.stem(names[0]))


def test_the_note_comes_before_the_move_and_both_directories_are_synced_after(
    claimed, behind, entry
):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)
    put_away(spool, parts)
    calls = [call for call in behind.calls if call != "make_directory"]
    # The note goes to its name by a move of its own.
    assert calls == ["write_note", "move", *["move"] * len(names), "sync", "sync"]


@pytest.mark.parametrize("waits", ["file", "note", "directory", "dangling symlink", "both"])
def test_putting_away_never_overwrites(claimed, behind, entry, files, queue, waits):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)
    spool.make_state_dir(State.DEAD)
    dead = queue / ".watcher/dead"
    note = note_of(names[0], layout)
    if waits in {"file", "both"}:
        (dead / os.fsdecode(names[-1])).write_bytes(b"namesake")
    if waits in {"note", "both"}:
        (dead / os.fsdecode(note)).write_bytes(b"its note")
    if waits == "directory":
        (dead / os.fsdecode(names[0])).mkdir()
    if waits == "dangling symlink":
        (dead / os.fsdecode(names[0])).symlink_to("nowhere")
    before = files(State.DEAD)
    moved = put_away(spool, parts)
    assert moved != names[0]
    assert b"~1" in moved
    after = files(State.DEAD)
    assert before.items() <= after.items()
    assert {
        data for name, data in after.items() if name not in before and b".json" not in name
    } == {b"old " + name for name in names}
    assert files() == {}


def test_a_pair_does_not_share_a_name_with_another_entry_there(claimed, behind, files, queue):
    """Else its `.db` would be taken for the other's, whose note is lost."""
    spool, parts = claimed(behind, LEGACY, [b"ab.msg", b"ab.db"])
    spool.make_state_dir(State.DEAD)
    (queue / ".watcher/dead/ab.pck").write_bytes(b"namesake")
    assert put_away(spool, parts) == b"ab~1.msg"
    assert set(entries_of(files(State.DEAD))) == {b"ab.pck", b"ab~1.msg", b"ab~1.db"}


def test_a_name_that_is_taken_at_the_last_moment_is_not_overwritten(
    claimed, behind, entry, files, queue
):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)
    target = queue / ".watcher/dead" / os.fsdecode(names[0])
    behind.acts["after write_note"] = lambda: target.write_bytes(b"namesake")
    assert b"~1" in put_away(spool, parts)
    assert files(State.DEAD)[names[0]] == b"namesake"
    assert {b"old " + name for name in names} <= set(files(State.DEAD).values())


def test_a_hundred_namesakes_all_survive(claimed, behind, files):
    for number in range(100):
        spool, parts = claimed(behind, RAW, [b"report.csv"])
        fd = os.open("report.csv", os.O_WRONLY, dir_fd=spool.fd)
        os.pwrite(fd, b"%03d" % number, 0)
        os.close(fd)
        put_away(spool, parts)
        for part in parts:
            os.close(part.fd)
    found = entries_of(files(State.DEAD))
    assert {data[:3] for data in found.values()} == {b"%03d" % n for n in range(100)}
    assert len(files(State.DEAD)) == 200


@pytest.mark.parametrize("moment", ["write_note", "after write_note", "sync"])
def test_a_replacement_is_not_put_away(claimed, behind, put, files, moment):
    spool, parts = claimed(behind, RAW, [b"report.csv"])
    behind.acts[moment] = lambda: put(b"report.csv", b"new")
    put_away(spool, parts)
    assert files() == {b"report.csv": b"new"}
    assert b"new" not in files(State.DEAD).values()


@pytest.mark.parametrize("entry_name", ["mailman", "legacy pair", "drop folder"])
def test_a_replacement_at_the_very_move_goes_back(open_spool, put, terms, files, entry_name):
    """It was renamed over the name between our look and our move: it is to be handled."""
    layout, names = ENTRIES[entry_name]

    class Late(Disk):
        def move(self, name, source, target_name, target):
            if name == names[0] and source == spool.fd:
                put(name, b"new")
            super().move(name, source, target_name, target)

    for name in names:
        put(name, b"old")
    spool = open_spool(layout, Late())
    claim = take(spool, names[0], Proof.NONE, terms(0))
    put_away(spool, claim.parts)
    assert files()[names[0]] == b"new"
    assert b"new" not in files(State.DEAD).values()


@pytest.mark.parametrize("size", [245, 250, 251, 255], ids=str)
@pytest.mark.parametrize("layout", [MAILMAN, LEGACY, RAW], ids=["mailman", "legacy", "raw"])
def test_names_of_any_length_are_put_away_again_and_again(claimed, behind, files, layout, size):
    endings = [b".msg", b".db"] if layout.legacy else [b".pck"]
    names = [b"n" * (size - 4) + ending for ending in endings]
    for _ in range(12):
        spool, parts = claimed(behind, layout, names)
        put_away(spool, parts)
    found = files(State.DEAD)
    assert len(entries_of(found)) == 12 * len(names)
    assert len(found) == 12 * (len(names) + 1)
    for name, data in found.items():
        if name.endswith(b".json"):
            note = json.loads(data)
            assert note["was"] == [os.fsdecode(name) for name in names]
            assert all(os.fsencode(file) in found for file in note["files"])


@pytest.mark.parametrize("name", [b"\xff\xfe.pck", b"two\nlines.pck", b"-rf.pck", b'"quoted".pck'])
def test_a_note_tells_of_any_name(claimed, behind, files, name):
    spool, parts = claimed(behind, MAILMAN, [name])
    put_away(spool, parts, why="bad \udcff byte")
    (note,) = [data for found, data in files(State.DEAD).items() if found.endswith(b".json")]
    assert [os.fsencode(text) for text in json.loads(note)["files"]] == [name]


@pytest.mark.parametrize("suffix", [b".json", b".note.json", b""])
def test_entries_that_are_called_like_notes_are_put_away_too(claimed, behind, files, suffix):
    layout = Layout(suffix, raw=True)
    names = [b"a.json", b"b.json"] if suffix != b".note.json" else [b"a.note.json"]
    for name in names * 2:
        put_away(*claimed(behind, layout, [name]))
    found = files(State.DEAD)
    assert sum(data.startswith(b"old ") for data in found.values()) == 2 * len(names)
    assert sum(data.startswith(b"{") for data in found.values()) == 2 * len(names)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_without_room_for_the_note_the_entry_goes_without(claimed, behind, entry, files, number):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)

    def full():
        raise OSError(number, os.strerror(number))

    behind.acts["write_note"] = full
    put_away(spool, parts)
    assert files(State.DEAD) == {name: b"old " + name for name in names}
    assert files() == {}


@pytest.mark.parametrize("call", ["make_directory", "move", "sync"])
def test_a_disk_that_refuses_is_raised_and_a_second_try_completes(
    claimed, behind, entry, files, call
):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)

    def refuse():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if call == "make_directory":
        behind.acts[call] = refuse
    else:
        behind.acts["after write_note"] = lambda: behind.acts.update({call: refuse})
    with pytest.raises(Exception, match="Input/output"):
        put_away(spool, parts)
    assert {**files(), **entries_of(files(State.DEAD))} == {n: b"old " + n for n in names}
    put_away(spool, parts)
    assert files() == {}
    assert sorted(entries_of(files(State.DEAD)).values()) == sorted(b"old " + n for n in names)


def test_what_is_gone_already_is_not_put_away(claimed, behind, entry, files, queue):
    layout, names = entry
    spool, parts = claimed(behind, layout, names)
    for name in names:
        (queue / os.fsdecode(name)).unlink()
    put_away(spool, parts)
    assert entries_of(files(State.DEAD)) == {}


# -- pairs, half moved ------------------------------------------------------------------------


class Cut(Exception):
    """The process died here."""


@pytest.fixture
def half_moved(open_spool, put, terms):
    """Cut a move of a pair to a state's directory in two; return the .db as claimed then."""

    def cut(state):
        class Dying(Disk):
            def move(self, name, source, target_name, target):
                if name == b"ab.db":
                    raise Cut
                super().move(name, source, target_name, target)

        put(b"ab.msg", b"message")
        put(b"ab.db", b"metadata")
        spool = open_spool(LEGACY, Dying())
        claim = take(spool, b"ab.msg", Proof.NONE, terms(0))
        with pytest.raises(Cut):
            put_away(spool, claim.parts, state)
        claim.release()
        again = open_spool(LEGACY)
        half = take(again, b"ab.db", Proof.NONE, terms(0))
        assert half.form == "half"
        return again, half.parts[0]

    return cut


@pytest.mark.parametrize("state", [State.DEAD, State.HELD], ids=lambda s: s.value)
@pytest.mark.parametrize("namesakes", [0, 1, 2])
def test_a_pair_half_moved_is_followed(half_moved, claimed, behind, files, queue, state, namesakes):
    for _ in range(namesakes):
        put_away(*claimed(behind, LEGACY, [b"ab.msg", b"ab.db"]), state)
    spool, half = half_moved(state)
    ending = b"~%d" % namesakes if namesakes else b""
    assert interrupted.rejoin_put_away(spool, half) == b"ab" + ending + b".db"
    assert files() == {}
    assert files(state)[b"ab" + ending + b".db"] == b"metadata"
    assert files(state)[b"ab" + ending + b".msg"] == b"message"


HOSTILE = {
    "empty": b"",
    "garbage": b"\x00\xff{",
    "a number": b"7",
    "nested deep": b"[" * 200_000,
    "files no list": b'{"files": {"ab.db": 1}}',
    "files no text": b'{"files": [1, null, ["ab.db"], {"a": 2}]}',
    "paths": b'{"files": ["../../ab.db", "/etc/passwd", "ab.db/.."]}',
    "huge": b'{"files": ["' + b"x" * (2 << 20) + b'"]}',
    "a huge number": b'{"files": [' + b"9" * 5_000 + b"]}",
}


@pytest.mark.parametrize("note", HOSTILE)
def test_a_note_that_says_nothing_moves_nothing(half_moved, files, queue, note):
    spool, half = half_moved(State.DEAD)
    (queue / ".watcher/dead/ab.json").write_bytes(HOSTILE[note])
    assert interrupted.rejoin_put_away(spool, half) is None
    assert files() == {b"ab.db": b"metadata"}


@pytest.mark.parametrize("what", ["missing", "directory", "FIFO", "symlink", "dangling symlink"])
def test_a_note_that_is_none_moves_nothing_and_stops_nothing(
    half_moved, files, queue, what, descriptors
):
    spool, half = half_moved(State.DEAD)
    note = queue / ".watcher/dead/ab.json"
    real = note.rename(queue.parent / "real.json")
    if what == "directory":
        note.mkdir()
    elif what == "FIFO":
        os.mkfifo(note)
    elif what != "missing":
        note.symlink_to(real if what == "symlink" else "nowhere")
    assert interrupted.rejoin_put_away(spool, half) is None
    before = descriptors()
    assert interrupted.rejoin_put_away(spool, half) is None
    assert descriptors() == before
    assert files() == {b"ab.db": b"metadata"}


def test_a_half_that_no_move_explains_is_not_followed(claimed, behind, files, put, terms):
    put_away(*claimed(behind, LEGACY, [b"ab.msg", b"ab.db"]))
    put(b"ab.db", b"another")
    spool, parts = claimed(behind, LEGACY, [b"ab.db"])
    assert interrupted.rejoin_put_away(spool, parts[0]) is None
    assert files(State.DEAD)[b"ab.db"] == b"old ab.db"


def test_nothing_is_made_to_look_for_what_is_not_there(open_spool, claimed, behind, queue):
    spool, parts = claimed(behind, LEGACY, [b"ab.db"])
    assert interrupted.rejoin_put_away(spool, parts[0]) is None
    assert interrupted.reunite(spool, b"ab.db") is None
    assert interrupted.finish_move(spool, b"ab.db") is False
    assert not (queue / ".watcher").exists()


@pytest.mark.parametrize("moment", ["after write_note", "move"])
@pytest.mark.parametrize("state", [State.DEAD, State.DEFERRED], ids=lambda state: state.value)
def test_what_was_replaced_meanwhile_leaves_no_note(claimed, behind, put, files, moment, state):
    spool, parts = claimed(behind, RAW, [b"report.csv"])

    def replace():
        if moment == "move" and behind.calls.count("move") == 1:
            behind.acts["move"] = replace  # the first is the note's
        else:
            put(b"report.csv", b"newer")

    behind.acts[moment] = replace
    if state is State.DEAD:
        assert put_away(spool, parts) is None
    else:
        assert moves.defer(spool, parts, Schedule(0), "why", {}) is None
    assert behind.acts == {}, "the moment never came"
    assert files() == {b"report.csv": b"newer"}
    assert files(state) == {}


# -- orphans ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orphan", "late"),
    [(b"ab.db", b"ab.msg"), (b"ab.msg", b"ab.db"), (b"ab.db", b"ab.pck"), (b"ab.pck", b"ab.db")],
)
def test_orphans_reunite_with_the_half_that_turns_up(
    claimed, behind, put, files, queue, orphan, late
):
    layout = LEGACY
    put(orphan, b"old")
    spool, parts = claimed(behind, Layout(b".none", legacy=True), [orphan]) if orphan.endswith(
        b".pck") else claimed(behind, layout, [orphan])  # fmt: skip
    spool.layout = layout
    put_away(spool, parts, State.ORPHAN)
    put(late, b"late")
    assert interrupted.reunite(spool, late) == orphan
    assert files() == {orphan: b"old " + orphan, late: b"late"}
    assert files(State.ORPHAN) == {}
    assert interrupted.reunite(spool, late) is None


@pytest.mark.parametrize(("orphan", "late"), [(b"ab.db", b"ab.msg"), (b"ab.msg", b"ab.db")])
def test_the_journal_is_told_before_an_orphan_comes_back(claimed, behind, put, queue, orphan, late):
    """Once it is back, another may be done with the pair before we look at it again."""
    spool, parts = claimed(behind, LEGACY, [orphan])
    put_away(spool, parts, State.ORPHAN)
    put(late)
    told = []

    class Looks(Disk):
        def move(self, *names):
            spool.journal.flush()
            told.append((queue / ".watcher/journal").read_text().split()[-4:])
            super().move(*names)

    spool.disk = Looks()
    assert interrupted.reunite(spool, late) == orphan
    file = f"{parts[0].ino}@{birth_ns(parts[0].fd) or 0}"
    assert told == [["orphan", "reunite", file, orphan.decode()]]


def test_reuniting_overwrites_nothing(claimed, behind, put, files):
    spool, parts = claimed(behind, LEGACY, [b"ab.db"])
    put_away(spool, parts, State.ORPHAN)
    put(b"ab.db", b"newer")
    assert interrupted.reunite(spool, b"ab.msg") is None
    assert files() == {b"ab.db": b"newer"}
    assert files(State.ORPHAN)[b"ab.db"] == b"old ab.db"


def test_orphans_reunite_without_their_note(claimed, behind, put, files, queue):
    spool, parts = claimed(behind, LEGACY, [b"ab.db"])
    put_away(spool, parts, State.ORPHAN)
    (queue / ".watcher/orphans/ab.json").unlink()
    assert interrupted.reunite(spool, put(b"ab.msg")) == b"ab.db"
    assert set(files()) == {b"ab.db", b"ab.msg"}


# -- a move by link and unlink, cut between the two -------------------------------------------


@pytest.mark.parametrize("state", PLACES, ids=lambda state: state.value)
@pytest.mark.parametrize("namesakes", [0, 1])
@pytest.mark.parametrize("name", [b"1.0+ab.pck", b"n" * 251 + b".pck"], ids=["short", "long"])
def test_a_move_cut_between_link_and_unlink_is_finished(
    claimed, old_disk, behind, files, monkeypatch, state, namesakes, name
):
    for _ in range(namesakes):
        put_away(*claimed(behind, MAILMAN, [name]), state)
    spool, parts = claimed(old_disk, MAILMAN, [name])
    unlink = os.unlink

    def die(what, *, dir_fd):
        if what == name:
            raise Cut
        unlink(what, dir_fd=dir_fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", die)
        with pytest.raises(Cut):
            put_away(spool, parts, state)
    assert set(files()) == {name}
    assert interrupted.finish_move(spool, name)
    assert files() == {}
    kept = entries_of(files(state))
    assert list(kept.values()) == [b"old " + name] * (namesakes + 1)
    assert not interrupted.finish_move(spool, name)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (b"20210101T000000.000Z-a1-c0-d1-w1-ab.pck", b"20220101T000000.000Z-a2-c0-d1-w1-ab.pck"),
        (b"20220101T000000.000Z-a1-c0-d1-w1-ab.pck", b"20210101T000000.000Z-a2-c0-d1-w1-ab.pck"),
        (b"20220101T000000.000Z-a9-c0-d1-w1-ab.pck", b"20210101T000000.000Z-a10-c0-d1-w1-ab.pck"),
        (b"20210101T000000.000Z-a1-c0-d1-w1-ab.pck", b"20220101T000000.000Z-a1-c0-d1-w1-ab.pck"),
    ],
    ids=["by both", "by attempts", "by their number", "by moment"],
)
def test_of_two_stamps_of_one_file_the_later_stays_whichever_is_met_first(
    open_spool, files, queue, earlier, later
):
    """Else an attempt is forgotten; and were both to go, the entry."""
    spool = open_spool(MAILMAN)
    spool.make_state_dir(State.DEFERRED)
    place = queue / ".watcher/deferred"
    (place / os.fsdecode(earlier)).write_bytes(b"data")
    (place / os.fsdecode(later)).hardlink_to(place / os.fsdecode(earlier))
    assert not interrupted.finish_move(spool, in_deferred(later))
    assert set(files(State.DEFERRED)) == {earlier, later}
    assert interrupted.finish_move(spool, in_deferred(earlier))
    assert files(State.DEFERRED) == {later: b"data"}
    assert not interrupted.finish_move(spool, in_deferred(later))


def test_a_file_that_only_looks_like_a_cut_move_is_left_alone(claimed, behind, put, files, queue):
    put_away(*claimed(behind, MAILMAN, [b"ab.pck"]))
    put(b"ab.pck", b"another")
    (queue.parent / "elsewhere").hardlink_to(queue / "ab.pck")
    spool, _ = claimed(behind, MAILMAN, [b"other.pck"])
    assert not interrupted.finish_move(spool, b"ab.pck")
    assert files()[b"ab.pck"] == b"another"
    (queue / "third").hardlink_to(queue / ".watcher/dead/ab.pck")
    (queue / "ab.pck").unlink()
    (queue / "ab.pck").hardlink_to(queue / "third")
    assert not interrupted.finish_move(spool, b"ab.pck"), "three names: not ours alone"
