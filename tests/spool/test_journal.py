"""The journal: lines are whole after any failure of disk or process; no rotation loses a line."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import time

import pytest

from watcher.inspect import journal_replay
from watcher.inspect.journal_hosts import with_hosts
from watcher.inspect.journal_reader import read_lines
from watcher.rules.journal_keep import Keep
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout
from watcher.spool import journal as writing, journal_files, journal_line, state_files
from watcher.spool.birth import birth_of
from watcher.spool.journal import Journal
from watcher.spool.journal_line import is_mark, line_of, parse_line
from watcher.spool.journal_past import Past
from watcher.spool.journal_rotation import JournalFiles
from watcher.spool.journal_spill import append_spill
from watcher.spool.vanished import OF_ONE

FINISHED = (State.CLAIMED, Move.FINISH)
HOSTILE = b"a b\n%\xff~.pck"


@pytest.fixture
def ours(tmp_path):
    """`.watcher`, and the directory of one process in it, with a descriptor of each."""
    (tmp_path / "inflight/1.x").mkdir(parents=True)
    fds = [os.open(tmp_path / name, os.O_RDONLY) for name in (".", "inflight/1.x")]
    yield tmp_path, fds[0], fds[1]
    for fd in fds:
        os.close(fd)


@pytest.fixture
def journal(ours):
    return Journal(lambda: ours[1], lambda: ours[2], Layout())


def names(fd):
    """Return the names in the lines, as the audit reads them."""
    lines = [parse_line(line) for line, _ in read_lines(fd) if not is_mark(line)]
    assert None not in lines
    return [line.name for line in lines if line.move not in {b"begin", b"carried"}]


def written(path):
    """Return the lines of a file of the journal, without the marks."""
    return [line for line in path.read_bytes().splitlines(keepends=True) if not is_mark(line)]


def test_a_line_says_what_the_page_says(monkeypatch):
    monkeypatch.setattr(journal_line, "_process", [4711])
    line = line_of(1763895193250113000, State.CLAIMED, Move.FINISH, 1315862, b"NAME.pck")
    assert line == b"1763895193.250113 4711 claimed finish 1315862 NAME.pck\n"


def test_any_name_and_any_detail_come_back(ours, journal):
    journal.record(State.DEAD, Move.REQUEUE, 5, HOSTILE, "by a\nb 100% \udcff")
    journal.flush()
    _, raw = written(ours[0] / "journal")
    line = parse_line(raw)
    assert (line.name, line.move, line.inode) == (HOSTILE, b"requeue", 5)
    assert line.detail.startswith(b"by a\nb 100% ")


def test_a_line_is_there_before_it_is_flushed(ours, journal):
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    assert b"X.pck" not in (ours[0] / "journal").read_bytes()
    assert names(ours[1]) == [b"X.pck"]


def test_what_a_dead_process_had_not_flushed_is_written_by_another(ours, journal):
    for number in range(100):
        journal.record(State.CLAIMED, Move.FINISH, number + 1, b"%d" % number)
    del journal  # without a flush
    append_spill(ours[2], JournalFiles.inside(ours[1], Layout()))
    append_spill(ours[2], JournalFiles.inside(ours[1], Layout()))
    assert names(ours[1]) == [b"%d" % number for number in range(100)]


def test_a_line_that_was_written_but_not_forgotten_counts_once(ours, journal):
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    spill = (ours[0] / "inflight/1.x/.journal").read_bytes()
    journal.flush()
    (ours[0] / "inflight/1.x/.journal").write_bytes(spill)  # it died just after the write
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.ended) == (1, {"done": 1})


def test_lines_that_were_written_but_not_forgotten_count_once(ours, journal):
    for move in (Move.DEFER, Move.FINISH):
        journal.record(State.CLAIMED, move, 5, b"X.pck")
    spill = (ours[0] / "inflight/1.x/.journal").read_bytes()
    journal.flush()
    (ours[0] / "inflight/1.x/.journal").write_bytes(spill)
    for _ in range(2):
        audit = journal_replay.replay(ours[1], Layout())
        assert (audit.seen, audit.ended) == (1, {"done": 1})
        append_spill(ours[2], JournalFiles.inside(ours[1], Layout()))


def at(second, state, move, inode, name):
    return line_of(second * 10**9, state, move, inode, name)


def spill_of(lines):
    data = b"".join(lines)
    return (b"%08d" % (8 + len(data)) + data).ljust(writing.SIZE, b"\0")


def test_late_lines_are_sorted_by_their_time(ours):
    """Lines of a sweep that waited for its handler, or of a process that died long ago."""
    (ours[0] / "inflight/1.x/.journal").write_bytes(
        spill_of([at(100, State.CLAIMED, Move.DEFER, 5, b"X.pck")])
    )
    (ours[0] / "journal").write_bytes(
        at(200, State.CLAIMED, Move.FINISH, 5, b"X.pck")
        + at(300, State.CLAIMED, Move.FINISH, 6, b"Y.pck")
    )
    for _ in range(2):
        audit = journal_replay.replay(ours[1], Layout())
        assert (audit.seen, audit.open, audit.ended) == (2, {}, {"done": 2})
        append_spill(ours[2], JournalFiles.inside(ours[1], Layout()))
    assert b" ready late 0 - 1 lines\n" in (ours[0] / "journal").read_bytes()


def test_lines_after_the_clock_was_set_back_come_after_the_others(ours):
    (ours[0] / "journal").write_bytes(
        at(9_990, State.CLAIMED, Move.DEFER, 5, b"X.pck")
        + at(10_000, State.CLAIMED, Move.DEFER, 6, b"Y.pck")
        + at(100, State.DEFERRED, Move.REQUEUE, 5, b"X.pck")
        + at(101, State.CLAIMED, Move.FINISH, 5, b"X.pck")
        + at(102, State.CLAIMED, Move.FINISH, 7, b"Z.pck")
        + at(103, State.CLAIMED, Move.FINISH, 6, b"Y.pck")
    )
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.open, audit.ended) == (3, {}, {"done": 3})


def test_a_process_marks_its_late_lines(ours, journal, monkeypatch):
    monkeypatch.setattr(writing, "LATE", -1.0)
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    _, late, line = written(ours[0] / "journal")
    assert late.endswith(b" ready late 0 - 1 lines\n")
    assert line.endswith(b"X.pck\n")
    assert names(ours[1]) == [b"X.pck"]


def test_an_entry_that_ends_while_it_is_carried_over_stays_ended(ours):
    """The writer lists the directory first and writes the line after; an entry may end between."""
    (ours[0] / "journal").write_bytes(
        at(1, State.CLAIMED, Move.REJECT, 5, b"X.pck")
        + at(2, State.DEAD, Move.DELETE, 5, b"X.pck")
        + line_of(3 * 10**9, State.DEAD, "carried", 5, b"X.pck")
        + line_of(3 * 10**9, State.DEAD, "carried", 6, b"Y.pck")
        + at(4, State.DEAD, Move.DELETE, 7, b"Z.pck")
        + line_of(5 * 10**9, State.DEAD, "carried", 7, b"Z.pck")
        + line_of(6 * 10**9, State.DEAD, "carried", 8, b"V.pck")
        + at(7, State.CLAIMED, Move.REJECT, 8, b"W.pck")
    )
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.ended) == (5, {"removed by an operator": 2})
    assert {inode: entry.stem for inode, entry in audit.open.items()} == {6: b"Y", 8: b"W"}
    assert [entry.stem for entry in audit.replaced] == [b"V"]


def test_a_file_that_is_begun_while_a_reader_opens_them_is_not_missed(ours, journal, monkeypatch):
    monkeypatch.setattr(journal_files, "ROTATED", 10)
    for number in range(3):
        journal.record(State.CLAIMED, Move.FINISH, number + 1, b"%d.pck" % number)
        journal.flush()
    real = os.open

    def one_more(name, *arguments, **options):
        if name == b"journal.1":
            monkeypatch.setattr(os, "open", real)
            journal.record(State.CLAIMED, Move.FINISH, 99, b"new.pck")
            journal.flush()
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", one_more)
    assert names(ours[1])[:3] == [b"0.pck", b"1.pck", b"2.pck"]


@pytest.mark.parametrize(
    ("why", "missing"), [(journal_files.GOES_ON, set()), (journal_files.FIRST, {b"X"})]
)
def test_a_vanished_name_in_the_oldest_file_is_missing_if_no_file_was_before_it(ours, why, missing):
    begin = [
        line_of(10**9, State.READY, "begin", 0, b"-", f"2 ours=1@1 queue=1@1 {each}")
        for each in (why, journal_files.GOES_ON)
    ]
    gone = line_of(10**9, State.READY, "vanish", 0, b"X.pck")
    (ours[0] / "journal.1").write_bytes(begin[0] + gone)
    (ours[0] / "journal").write_bytes(begin[1])
    assert set(journal_replay.replay(ours[1], Layout()).vanished) == missing
    (ours[0] / "journal").write_bytes(begin[1] + gone)
    assert set(journal_replay.replay(ours[1], Layout()).vanished) == {b"X"}


@pytest.mark.parametrize(
    ("event_time_ns", "others", "missing"),
    [
        ("", [1_000], False),
        ("heard of at 1000.5", [1_000], False),
        ("heard of at 90000.5", [1_000], True),  # yesterday's
        ("heard of at 90000.5", [1_000, 90_000], False),
        ("heard of at 90000.5", [95_000], True),  # tomorrow's
        ("heard of at 90000.5", [90_002], False),
        ("", [], True),
    ],
)
def test_a_vanished_name_is_explained_by_its_own_line_and_not_by_a_namesakes(
    ours, event_time_ns, others, missing
):
    lines = [at(other, State.CLAIMED, Move.FINISH, other, b"X.csv") for other in others]
    lines.append(line_of(90_001 * 10**9, State.READY, "vanish", 0, b"X.csv", event_time_ns))
    (ours[0] / "journal").write_bytes(b"".join(sorted(lines)))  # by their time
    audit = journal_replay.replay(ours[1], Layout(b".csv", raw=True))
    assert set(audit.vanished) == ({b"X"} if missing else set())


def test_a_journal_that_is_switched_off_writes_nothing(ours, journal):
    journal.enabled = False
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    assert sorted(os.listdir(ours[0] / "inflight/1.x")) == []
    assert not (ours[0] / "journal").exists()


def test_many_threads_write_whole_lines(ours, journal):
    def write(worker):
        for number in range(2_000):
            journal.record(State.CLAIMED, Move.FINISH, 1, b"%d-%d" % (worker, number))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.flush()
    assert sorted(names(ours[1])) == sorted(
        b"%d-%d" % (worker, number) for worker in range(4) for number in range(2_000)
    )


def test_a_full_disk_delays_no_worker_and_lost_lines_are_counted(ours, journal, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writing, "append", full)
        for number in range(5_000):
            journal.record(State.CLAIMED, Move.FINISH, number + 1, b"%d.pck" % number)
        assert "No space left" in journal.trouble
    journal.flush()
    assert journal.trouble == ""
    audit = journal_replay.replay(ours[1], Layout())
    assert audit.lost > 0
    assert audit.seen + audit.lost == 5_000


def test_a_full_disk_and_a_kill_lose_no_line(ours, journal, monkeypatch):
    """The disk blocks of the spill are allocated before its first line."""
    journal.record(State.CLAIMED, Move.FINISH, 1, b"0.pck")

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writing, "append", full)
        for number in range(1, 100):
            journal.record(State.CLAIMED, Move.FINISH, number + 1, b"%d.pck" % number)
        journal.flush()
        assert "No space left" in journal.trouble
    blocks = (ours[0] / "inflight/1.x/.journal").stat().st_blocks
    assert blocks * 512 >= writing.SIZE
    del journal  # as by SIGKILL: nothing is flushed
    assert names(ours[1]) == [b"%d.pck" % number for number in range(100)]


def test_a_write_that_is_cut_short_leaves_no_torn_line_behind(ours, journal, monkeypatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[: max(1, len(data) // 2)]))
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    assert os.listdir(ours[0]) == ["inflight"], "a file begins with its first line, or not at all"
    monkeypatch.setattr(os, "write", whole)
    journal.flush()
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[: max(1, len(data) // 2)]))
    journal.record(State.CLAIMED, Move.FINISH, 6, b"Y.pck")
    journal.flush()
    monkeypatch.setattr(os, "write", whole)
    journal.flush()
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.unreadable) == (2, 1)


def test_what_is_carried_over_and_cut_short_leaves_no_torn_line_behind(ours, journal, monkeypatch):
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    (ours[0] / "dead").mkdir()
    (ours[0] / "dead/D.pck").touch()
    monkeypatch.setattr(journal_files, "ROTATED", 10)
    journal.record(State.CLAIMED, Move.FINISH, 6, b"Y.pck")
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[: max(1, len(data) // 2)]))
    journal.flush()
    assert "a part of it" in journal.trouble
    assert not (ours[0] / "journal.1").exists(), "not all of it has been carried over"
    monkeypatch.setattr(os, "write", whole)
    journal.flush()
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.unreadable) == (3, 1)


def test_a_file_that_another_process_has_just_renamed_is_begun_again(ours, journal, monkeypatch):
    """For a moment there is no file `journal`."""
    monkeypatch.setattr(journal_files, "ROTATED", 10)
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    real = os.open

    def too_late(name, *arguments, **options):
        fd = real(name, *arguments, **options)
        if name == b"journal":
            monkeypatch.setattr(os, "open", real)
            os.rename(ours[0] / "journal", ours[0] / "journal.1")
        return fd

    monkeypatch.setattr(os, "open", too_late)
    journal.record(State.CLAIMED, Move.FINISH, 6, b"Y.pck")
    journal.flush()
    assert journal.trouble == ""
    assert names(ours[1]) == [b"X.pck", b"Y.pck"]


def test_without_a_process_directory_lines_are_written(ours):
    def refuse():
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(lambda: ours[1], refuse, Layout())
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    assert names(ours[1]) == [b"X.pck"]


def test_what_a_killed_process_had_begun_goes_and_what_a_living_one_begins_stays(ours, journal):
    path, fd, _ = ours
    (path / "journal.new.4194304.0badcafe").write_bytes(b"half a li")
    living = path / "journal.new.1.0badcafe"
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        journal.record(State.DEAD, Move.REQUEUE, 5, b"a.pck")
        journal.flush()
        assert sorted(each.name for each in path.glob("journal*")) == ["journal", living.name]
    assert names(fd) == [b"a.pck"]


def test_an_unfinished_file_that_another_process_removed_is_made_again(ours, journal, monkeypatch):
    """The other process looks before the file is locked."""
    path, fd, _ = ours
    make, made = state_files.create, []

    def late(name, *arguments, **options):
        opened = make(name, *arguments, **options)
        if name.startswith(b"journal.new."):
            made.append(name)
        if made == [name]:
            (path / os.fsdecode(name)).unlink()
        return opened

    monkeypatch.setattr(state_files, "create", late)
    journal.record(State.DEAD, Move.REQUEUE, 5, b"a.pck")
    journal.flush()
    assert len(made) == 2
    assert names(fd) == [b"a.pck"]


def test_the_holes_of_a_huge_journal_are_not_read(ours, journal):
    journal.record(State.CLAIMED, Move.FINISH, 7, b"before.pck")
    journal.flush()
    os.truncate(ours[0] / "journal", 4 << 40)
    journal.record(State.CLAIMED, Move.FINISH, 8, b"after.pck")
    journal.flush()
    began = time.monotonic()
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.ended, audit.unreadable) == ({"done": 2}, 1)
    assert journal_files.names_mentioned(ours[1], {b"before.pck"}) == {b"before.pck"}
    assert time.monotonic() - began < 2, "no terabyte is read in that time"


def test_a_full_file_is_renamed_and_open_entries_stay_known(ours, monkeypatch):
    monkeypatch.setattr(journal_files, "ROTATED", 2_000)
    files = JournalFiles(ours[1], ours[1], Layout(), Keep(size=8 * 2_000))
    journal = Journal(lambda: ours[1], lambda: ours[2], Layout(), lambda _root: files)
    (ours[0] / "dead").mkdir()
    (ours[0] / "dead/D.pck").touch()
    (ours[0] / "dead/D.json").touch()
    inode = (ours[0] / "dead/D.pck").stat().st_ino
    for number in range(500):
        journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"%d.pck" % number)
        journal.flush()
    files = sorted(name for name in os.listdir(ours[0]) if name.startswith("journal"))
    assert files == ["journal", *(f"journal.{number}" for number in range(1, 8 + 1))]
    last = (ours[0] / "journal.1").read_text().splitlines()[-1]
    assert f" dead carried {inode}" in last
    assert last.endswith(" D.pck")
    audit = journal_replay.replay(ours[1], Layout())
    assert list(audit.open) == [inode]
    assert b"499.pck" in names(ours[1])


def test_what_is_put_away_may_be_more_than_a_file_of_it_holds(ours, journal, monkeypatch):
    monkeypatch.setattr(journal_files, "ROTATED", 2_000)
    (ours[0] / "dead").mkdir()
    for number in range(200):
        (ours[0] / f"dead/{number}.pck").touch()
    for number in range(100):
        journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"new-%d.pck" % number)
        journal.flush()
    assert {b"new-%d.pck" % number for number in range(100)} <= set(names(ours[1]))
    assert len(journal_replay.replay(ours[1], Layout()).open) == 200


@pytest.mark.parametrize("suffix", [b".json", b""])
def test_entries_that_are_json_are_carried_and_their_notes_are_not(ours, monkeypatch, suffix):
    monkeypatch.setattr(journal_files, "ROTATED", 100)
    layout = Layout(suffix, raw=True)
    journal = Journal(lambda: ours[1], lambda: ours[2], layout)
    (ours[0] / "dead").mkdir()
    (ours[0] / "dead/D.json").touch()
    (ours[0] / "dead/.D.json").touch()
    for number in range(9):
        journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"%d.json" % number)
        journal.flush()
    assert list(journal_replay.replay(ours[1], layout).open) == [
        (ours[0] / "dead/D.json").stat().st_ino
    ]


def test_of_a_pair_the_message_is_carried_and_of_an_orphan_whatever_there_is(
    ours, journal, monkeypatch
):
    monkeypatch.setattr(journal_files, "ROTATED", 100)
    for name in ("dead/X.msg", "dead/X.db", "deferred/X.msg", "deferred/X.db", "orphans/X.db"):
        (ours[0] / name).parent.mkdir(exist_ok=True)
        (ours[0] / name).touch()
    for number in range(9):
        journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"%d.pck" % number)
        journal.flush()
    messages = ("dead/X.msg", "deferred/X.msg", "orphans/X.db")
    inodes = {(ours[0] / name).stat().st_ino for name in messages}
    assert set(journal_replay.replay(ours[1], Layout()).open) == inodes


@pytest.mark.parametrize(
    "line",
    [b"garbage\n", b"\xff" * 100_000, b"1 2 3 4\n", b"x 1 a b 5 n\n", b"1 1 a b x n\n"],
)
def test_invalid_lines_are_counted(ours, line):
    good = line_of(10**18, State.CLAIMED, Move.FINISH, 5, b"X.pck")
    (ours[0] / "journal").write_bytes(line + b"\n" + good)
    audit = journal_replay.replay(ours[1], Layout())
    assert audit.seen == 1
    assert audit.unreadable > 0


def test_lines_of_several_processes_need_not_come_in_order(ours):
    lines = [
        line_of(30 * 10**9, State.CLAIMED, Move.FINISH, 5, b"X.pck"),
        line_of(20 * 10**9, State.CLAIMED, Move.DEFER, 5, b"X.pck"),
    ]
    (ours[0] / "journal").write_bytes(b"".join(lines))
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.open, audit.ended) == (1, {}, {"done": 1})


def test_a_reunite_that_came_too_late_counts_no_entry(ours):
    lines = [
        line_of(1 * 10**9, State.ARRIVING, Move.ABANDON, 5, b"X.msg"),
        line_of(2 * 10**9, State.ORPHAN, Move.REUNITE, 5, b"X.msg"),
        line_of(3 * 10**9, State.CLAIMED, Move.FINISH, 5, b"X.msg"),
        line_of(4 * 10**9, State.ORPHAN, Move.REUNITE, 5, b"X.msg"),
    ]
    (ours[0] / "journal").write_bytes(b"".join(lines))
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.open, audit.ended) == (1, {}, {"done": 1})


def test_without_a_spill_file_a_line_is_written_at_once(queue, monkeypatch):
    """If there is no room for the file, a kill must not lose lines that wait for a flush."""
    ours = os.open(queue, os.O_RDONLY)
    journal = Journal(
        lambda: ours, lambda: os.open(queue / "no such directory", os.O_RDONLY), Layout()
    )
    journal.record(State.CLAIMED, Move.FINISH, 7, b"X.pck")
    assert b"claimed finish 7 X.pck" in (queue / "journal").read_bytes()
    spill = queue / "spill"
    spill.mkdir()
    directory = os.open(spill, os.O_RDONLY)
    journal._process_dir = lambda: directory
    journal.record(State.CLAIMED, Move.FINISH, 8, b"Y.pck")
    assert (spill / ".journal").exists(), "there is room for it again"
    assert b"Y.pck" not in (queue / "journal").read_bytes()
    journal.flush()
    assert b"Y.pck" in (queue / "journal").read_bytes()


def test_lines_that_cannot_be_read_now_are_not_thrown_away(queue, monkeypatch):
    spill = queue / "spill"
    spill.mkdir()
    ours, directory = os.open(queue, os.O_RDONLY), os.open(spill, os.O_RDONLY)
    Journal(lambda: ours, lambda: directory, Layout()).record(
        State.CLAIMED, Move.FINISH, 7, b"X.pck"
    )
    real = os.open

    def out_of_descriptors(*arguments, **options):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", out_of_descriptors)
    with pytest.raises(OSError, match="Too many open files"):
        append_spill(directory, JournalFiles.inside(ours, Layout()))
    monkeypatch.setattr(os, "open", real)
    append_spill(directory, JournalFiles.inside(ours, Layout()))
    assert b"X.pck" in (queue / "journal").read_bytes()
    assert list(spill.iterdir()) == []


# -- which directory a file is of -------------------------------------------------------------


def begins(path):
    """Return the contents of the first line of a file."""
    return journal_files.parse_begin(parse_line(written(path)[0]))


def test_each_file_begins_with_where_it_is_of(ours, journal, monkeypatch):
    monkeypatch.setattr(journal_files, "ROTATED", 400)
    for number in range(20):
        journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"%d.pck" % number)
        journal.flush()
    files = sorted(ours[0].glob("journal*"))
    assert len(files) > 3
    assert {begins(file).state_root for file in files} == {journal_files.place_of(ours[1])}
    assert [begins(file).why for file in files].count("first start") <= 1
    assert begins(ours[0] / "journal").why == "goes on"
    assert journal_replay.replay(ours[1], Layout()).restarts == []


def test_each_line_has_the_host_that_wrote_it(ours, monkeypatch):
    """Two hosts in turn, in one file; then an older version's file, which names none."""

    def host_writes(host, name):
        monkeypatch.setattr(journal_files, "HOST", host)
        journal_files.append(
            JournalFiles.inside(ours[1], Layout()), line_of(10**18, *FINISHED, 5, name)
        )

    for host, name in ((b"one", b"A"), (b"two", b"B"), (b"one", b"C"), (b"two", b"D")):
        host_writes(host, name)
    found = {}
    for raw, _, host in with_hosts(read_lines(ours[1])):
        line = parse_line(raw)
        if line is not None and line.move == b"finish":
            found[line.name] = host
    assert found == {b"A": b"one", b"B": b"two", b"C": b"one", b"D": b"two"}
    hosts = [line for line in written(ours[0] / "journal") if b" host 0 " in line]
    assert len(hosts) == 2  # none in a write of the host that began the file
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.unreadable) == (4, 0)


def test_the_host_of_an_older_versions_line_is_not_known(ours):
    place = journal_files.place_of(ours[1])
    begin = f"2 ours={place.inode}@{place.birth} queue=1@1 first start"
    lines = line_of(10**18, State.READY, "begin", 0, b"-", begin)
    lines += line_of(10**18, *FINISHED, 5, b"A")
    (ours[0] / "journal").write_bytes(journal_line.MARK + lines)
    assert {host for _, _, host in with_hosts(read_lines(ours[1]))} == {None}
    journal_files.append(
        JournalFiles.inside(ours[1], Layout()), line_of(10**18, *FINISHED, 6, b"B")
    )
    *_, (raw, _, host) = with_hosts(read_lines(ours[1]))
    assert (parse_line(raw).name, host) == (b"B", journal_files.HOST)


def test_the_journal_begins_before_the_first_step_that_it_describes(ours, journal):
    (ours[0] / "dead").mkdir()
    journal.record(State.CLAIMED, Move.REJECT, 5, b"X.pck")
    (ours[0] / "dead/X.pck").touch()
    journal.flush()
    assert begins(ours[0] / "journal").why == "first start"


def test_if_only_the_journal_was_removed_the_new_one_names_what_is_put_away(ours, journal):
    (ours[0] / "dead").mkdir()
    (ours[0] / "dead/X.pck").touch()
    journal.record(State.CLAIMED, Move.FINISH, 5, b"Y.pck")
    journal.flush()
    audit = journal_replay.replay(ours[1], Layout())
    assert [why for _, why in audit.restarts] == [journal_files.NO_JOURNAL]
    assert [entry.stem for entry in audit.open.values()] == [b"X"]


def test_a_copy_begins_its_own_file_and_entries_continue_by_name(ours, journal, tmp_path):
    journal.record(State.CLAIMED, Move.REJECT, 7, b"X.pck", "", 1)
    journal.flush()
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "journal").write_bytes((ours[0] / "journal").read_bytes())
    fd = os.open(copy, os.O_RDONLY)
    try:
        other = Journal(lambda: fd, lambda: ours[2], Layout())
        other.record(State.DEAD, Move.REQUEUE, 99, b"X.pck", "", 2)
        other.flush()
        audit = journal_replay.replay(fd, Layout())
    finally:
        os.close(fd)
    assert begins(copy / "journal").why == "copied or moved to here"
    assert (copy / "journal.1").read_bytes() == (ours[0] / "journal").read_bytes()
    assert (audit.seen, list(audit.open), list(audit.earlier_entries())) == (1, [99], [])


def test_a_journal_of_the_version_before_is_renamed_and_read(ours, journal):
    old = line_of(10**18, State.CLAIMED, Move.REJECT, 7, b"X.pck")
    (ours[0] / "journal").write_bytes(old)
    journal.record(State.DEAD, Move.DELETE, 7, b"X.pck", "", 5)
    journal.flush()
    assert (ours[0] / "journal.1").read_bytes().startswith(old)
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.ended, audit.restarts) == (1, {"removed by an operator": 1}, [])


def test_a_fifo_in_place_of_the_journal_is_reported(ours, journal):
    os.mkfifo(ours[0] / "journal")
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    assert "not a regular file" in journal.trouble
    (ours[0] / "journal").unlink()
    journal.flush()
    assert journal.trouble == ""
    assert names(ours[1]) == [b"X.pck"]


# -- when another program takes `.watcher` away -----------------------------------------------


@pytest.fixture
def watched(tmp_path):
    """A queue directory whose `.watcher` is opened by name each time, as `Spool` does."""

    class Queue:
        path = tmp_path / "queue"

        def __init__(self):
            self.path.mkdir()
            self.opened = []
            self.journal = Journal(self.state_root, lambda: self.made("inflight/1.x"), Layout())

        def made(self, name):
            (self.path / ".watcher" / name).mkdir(parents=True, exist_ok=True)
            self.opened.append(os.open(self.path / ".watcher" / name, os.O_RDONLY))
            return self.opened[-1]

        def state_root(self):
            return self.made(".")

        def put_away(self, state, name):
            """Make a file in a state directory, and record its move."""
            os.close(os.dup(self.made(state)))
            path = self.path / ".watcher" / state / name
            path.touch()
            moves = {"dead": Move.REJECT, "deferred": Move.DEFER}
            inode, birth = path.stat().st_ino, birth_of(os.fsencode(path), -100) or 0
            self.journal.record(
                State.CLAIMED, moves[state], inode, b"%b" % name.encode(), "", birth
            )

        def audit(self):
            return journal_replay.replay(self.state_root(), Layout())

    queue = Queue()
    yield queue
    for fd in queue.opened:
        os.close(fd)


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_journal_that_begins_again_names_all_that_was_known_before(watched, monkeypatch, how):
    """Also the entries in the file before the newest, which ends with lines `carried`."""
    monkeypatch.setattr(journal_files, "ROTATED", 2_000)
    watched.put_away("dead", "D.pck")
    for number in range(40):
        watched.journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"%d.pck" % number)
        watched.journal.flush()
    watched.put_away("deferred", "E.pck")
    watched.journal.flush()
    aside = watched.path / "aside"
    (watched.path / ".watcher").rename(aside)
    if how == "removed":
        shutil.rmtree(aside)
    watched.journal.check_place()
    gone = watched.journal.gone
    assert {line.name for line in gone.entries} == {b"D.pck", b"E.pck"}
    assert gone.where == (str(aside) if how == "moved" else "")
    assert writing.count_by_state(gone) == "1 dead, 1 deferred"
    audit = watched.audit()
    assert {entry.stem for entry in audit.earlier_entries()} == {b"D", b"E"}
    ((_, why),) = audit.restarts
    assert why == f"{writing.MOVED}; 2 entries were known before"


def test_a_full_spill_whose_directory_was_taken_away_is_followed_by_another(watched):
    """The write that makes room finds another `.watcher`, and this spill is in the other one."""
    watched.journal.record(State.CLAIMED, Move.FINISH, 1, b"0.pck")
    (watched.path / ".watcher").rename(watched.path / "aside")
    count = writing.SIZE // 50  # lines: more than the spill has room for
    for number in range(1, count):
        watched.journal.record(State.CLAIMED, Move.FINISH, number + 1, b"%d.pck" % number)
    watched.journal.flush()
    assert names(watched.state_root()) == [b"%d.pck" % number for number in range(count)]


def test_put_back_all_goes_on(watched):
    watched.put_away("dead", "D.pck")
    watched.journal.flush()
    ours, aside = watched.path / ".watcher", watched.path / "aside"
    ours.rename(aside)
    watched.journal.check_place()
    watched.put_away("dead", "F.pck")
    watched.journal.flush()
    shutil.rmtree(ours)
    aside.rename(ours)
    watched.journal.check_place()
    audit = watched.audit()
    assert {entry.stem for entry in audit.open.values()} == {b"D"}
    assert {entry.stem for entry in audit.earlier_entries()} == {b"F"}
    watched.journal.record(State.DEAD, Move.DELETE, (ours / "dead/D.pck").stat().st_ino, b"D.pck")
    watched.journal.flush()
    assert watched.audit().ended == {"removed by an operator": 1}


def test_an_entry_that_ends_after_its_directory_was_taken_away_has_ended(watched):
    watched.put_away("deferred", "E.pck")
    watched.journal.flush()
    inode = (watched.path / ".watcher/deferred/E.pck").stat().st_ino
    (watched.path / ".watcher").rename(watched.path / "aside")
    watched.journal.record(State.CLAIMED, Move.FINISH, inode, b"E.pck")
    watched.journal.flush()
    audit = watched.audit()
    assert (audit.seen, audit.ended, list(audit.earlier_entries())) == (1, {"done": 1}, [])


def test_of_very_many_lost_entries_some_are_named_and_all_are_counted(watched, monkeypatch):
    monkeypatch.setattr(writing, "MAX_NAMED", 3)
    for number in range(5):
        watched.put_away("dead", f"{number}.pck")
    watched.journal.flush()
    shutil.rmtree(watched.path / ".watcher")
    watched.journal.check_place()
    audit = watched.audit()
    assert len(list(audit.earlier_entries())) == 3
    assert audit.restarts[0][1].endswith("5 entries were known before, 2 of them are not named")


# -- names that vanished ----------------------------------------------------------------------


def test_renames_in_and_out_cost_little_and_what_was_stolen_is_named(ours, journal):
    """Any user who may write in the queue can rename a file in and out of it without end."""
    for number in range(20_000):
        journal.vanish(b"hostile-%d.pck" % (number % 3), 10**18)
    journal.vanish(b"stolen.pck", 10**18)
    journal.vanished._until = 0.0  # its minute is over
    journal.flush()
    assert (ours[0] / "journal").stat().st_size < 4_000
    audit = journal_replay.replay(ours[1], Layout())
    assert {b"stolen", b"hostile-0", b"hostile-1", b"hostile-2"} == set(audit.vanished)
    assert audit.unnamed + 3 * OF_ONE == 20_000


# -- the spill of a dead process --------------------------------------------------------------


@pytest.mark.parametrize(
    "spill",
    [
        b"",
        b"\xff" * 100,
        b"00000100" + b"\xff" * 92,
        b"-0000009x",
        b"99999999",
        b"00000020\n \n \n",
    ],
)
def test_an_invalid_spill_is_no_error(ours, spill):
    (ours[0] / "inflight/1.x/.journal").write_bytes(spill)
    append_spill(ours[2], JournalFiles.inside(ours[1], Layout()))
    assert journal_replay.replay(ours[1], Layout()).seen == 0


def test_of_a_spill_the_valid_lines_are_kept(ours):
    line = at(100, State.CLAIMED, Move.FINISH, 5, b"X.pck")
    (ours[0] / "inflight/1.x/.journal").write_bytes(spill_of([b"nan 1 odd\n", line]))
    append_spill(ours[2], JournalFiles.inside(ours[1], Layout()))
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.lost) == (1, 1)


def test_an_overlong_line_is_passed_over_to_its_end(ours):
    line = at(100, State.CLAIMED, Move.FINISH, 5, b"X.pck")
    long = b"x" * (2 * journal_line.LONGEST)
    (ours[0] / "journal").write_bytes(
        long + line + at(100, State.CLAIMED, Move.FINISH, 6, b"Y.pck")
    )
    audit = journal_replay.replay(ours[1], Layout())
    assert (audit.seen, audit.unreadable) == (1, 1)


def test_what_was_known_is_not_ended_by_another_file_with_its_inode_number():
    """The kernel gives a free number to the next file; a file handled at once has no birth here."""
    kept = line_of(
        1, State.CLAIMED, "defer", 5, b"20261123T105313.250Z-a1-c0-d30-w0-kept.pck", birth=7
    )
    ended = line_of(2, State.CLAIMED, "finish", 6, b"kept~1.pck")
    other = line_of(3, State.CLAIMED, "finish", 5, b"new.pck")
    numbered = line_of(1, State.CLAIMED, "defer", 6, b"kept.pck", birth=8)
    known = Past().open_entries(kept + numbered + ended + other)
    assert [(line.inode, line.birth) for line in known] == [(5, 7)]
