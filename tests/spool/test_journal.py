"""The journal: whole lines, whatever the disk and the process do; rotated without losing one."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from watcher.inspect import books as reading
from watcher.inspect.lines import marked, parse_line
from watcher.lifecycle import Move, State
from watcher.spool import journal as writing
from watcher.spool.journal import Journal, line_of, spill_over
from watcher.spool.layout import Layout

HOSTILE = b"a b\n%\xff~.pck"


@pytest.fixture
def ours(tmp_path):
    """`.watcher`, and a process's own directory in it."""
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
    lines = [parse_line(line) for line, _ in marked(fd)]
    assert None not in lines
    return [line.name for line in lines]


def test_a_line_says_what_the_page_says(monkeypatch):
    monkeypatch.setattr(writing, "_process", [4711])
    line = line_of(1763895193250113000, State.CLAIMED, Move.FINISH, 1315862, b"NAME.pck")
    assert line == b"1763895193.250113 4711 claimed finish 1315862 NAME.pck\n"


def test_any_name_and_any_detail_come_back(ours, journal):
    journal.record(State.DEAD, Move.REQUEUE, 5, HOSTILE, "by a\nb 100% \udcff")
    journal.flush()
    ((raw, _),) = marked(ours[1])
    line = parse_line(raw)
    assert (line.name, line.move, line.inode) == (HOSTILE, b"requeue", 5)
    assert line.detail.startswith(b"by a\nb 100% ")


def test_a_line_is_there_before_it_is_flushed(ours, journal):
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    assert not (ours[0] / "journal").exists()
    assert names(ours[1]) == [b"X.pck"]


def test_what_a_dead_process_had_not_flushed_is_written_by_another(ours, journal):
    for number in range(100):
        journal.record(State.CLAIMED, Move.FINISH, number + 1, b"%d" % number)
    del journal  # without a flush
    spill_over(ours[2], ours[1], Layout())
    spill_over(ours[2], ours[1], Layout())
    assert names(ours[1]) == [b"%d" % number for number in range(100)]


def test_a_line_that_was_written_but_not_forgotten_counts_once(ours, journal):
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    spill = (ours[0] / "inflight/1.x/.journal").read_bytes()
    journal.flush()
    (ours[0] / "inflight/1.x/.journal").write_bytes(spill)  # it died just after the write
    books = reading.read(ours[1], Layout())
    assert (books.seen, books.ended) == (1, {"done": 1})


def test_lines_that_were_written_but_not_forgotten_count_once(ours, journal):
    for move in (Move.DEFER, Move.FINISH):
        journal.record(State.CLAIMED, move, 5, b"X.pck")
    spill = (ours[0] / "inflight/1.x/.journal").read_bytes()
    journal.flush()
    (ours[0] / "inflight/1.x/.journal").write_bytes(spill)
    for _ in range(2):
        books = reading.read(ours[1], Layout())
        assert (books.seen, books.ended) == (1, {"done": 1})
        spill_over(ours[2], ours[1], Layout())


def at(second, state, move, inode, name):
    return line_of(second * 10**9, state, move, inode, name)


def spill_of(lines):
    data = b"".join(lines)
    return (b"%08d" % (8 + len(data)) + data).ljust(writing.SIZE, b"\0")


def test_what_a_process_kept_for_long_has_its_place_by_its_time(ours):
    """A sweep by hand that waits for its handler; a dead process that nobody looked after."""
    (ours[0] / "inflight/1.x/.journal").write_bytes(
        spill_of([at(100, State.CLAIMED, Move.DEFER, 5, b"X.pck")])
    )
    (ours[0] / "journal").write_bytes(
        at(200, State.CLAIMED, Move.FINISH, 5, b"X.pck")
        + at(300, State.CLAIMED, Move.FINISH, 6, b"Y.pck")
    )
    for _ in range(2):
        books = reading.read(ours[1], Layout())
        assert (books.seen, books.open, books.ended) == (2, {}, {"done": 2})
        spill_over(ours[2], ours[1], Layout())
    assert b" ready late 0 - 1 lines\n" in (ours[0] / "journal").read_bytes()


def test_a_process_marks_what_it_kept_for_long(ours, journal, monkeypatch):
    monkeypatch.setattr(writing, "LATE", -1.0)
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    mark, line = (ours[0] / "journal").read_bytes().splitlines()
    assert mark.endswith(b" ready late 0 - 1 lines")
    assert line.endswith(b"X.pck")
    assert names(ours[1]) == [b"X.pck"]


def test_what_is_carried_over_while_it_ends_does_not_begin_again(ours):
    """A directory is read while it changes, and the line comes after that."""
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
    books = reading.read(ours[1], Layout())
    assert (books.seen, books.ended) == (5, {"removed by an operator": 2})
    assert {inode: line.name for inode, line in books.open.items()} == {6: b"Y.pck", 8: b"W.pck"}
    assert [line.name for line in books.replaced] == [b"V.pck"]


def test_a_file_that_is_begun_while_they_are_opened_is_not_missed(ours, journal, monkeypatch):
    monkeypatch.setattr(writing, "ROTATED", 10)
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


def test_who_had_what_was_gone_may_have_said_so_in_a_file_that_was_dropped(ours):
    gone = line_of(10**9, State.READY, "vanish", 0, b"X.pck")
    for number in range(8, 0, -1):
        (ours[0] / f"journal.{number}").write_bytes(gone)
        books = reading.read(ours[1], Layout())
        assert set(books.vanished) == ({b"X"} if number < 8 else set())


@pytest.mark.parametrize(
    ("heard", "others", "missing"),
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
def test_what_was_gone_is_explained_by_who_had_it_and_not_by_a_namesake(
    ours, heard, others, missing
):
    lines = [at(other, State.CLAIMED, Move.FINISH, other, b"X.csv") for other in others]
    lines.append(line_of(90_001 * 10**9, State.READY, "vanish", 0, b"X.csv", heard))
    (ours[0] / "journal").write_bytes(b"".join(lines))
    books = reading.read(ours[1], Layout(b".csv", raw=True))
    assert set(books.vanished) == ({b"X"} if missing else set())


def test_one_that_is_not_wanted_costs_nothing(ours, journal):
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


def test_a_full_disk_holds_nobody_up_and_what_was_lost_is_counted(ours, journal, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writing, "append", full)
        for number in range(5_000):
            journal.record(State.CLAIMED, Move.FINISH, number + 1, b"%d.pck" % number)
        assert "No space left" in journal.trouble
    journal.flush()
    assert journal.trouble == ""
    books = reading.read(ours[1], Layout())
    assert books.lost > 0
    assert books.seen + books.lost == 5_000


def test_a_write_that_is_cut_short_leaves_no_torn_line_behind(ours, journal, monkeypatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[: max(1, len(data) // 2)]))
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    monkeypatch.setattr(os, "write", whole)
    journal.flush()
    books = reading.read(ours[1], Layout())
    assert (books.seen, books.unreadable) == (1, 1)


def test_what_is_carried_over_and_cut_short_leaves_no_torn_line_behind(ours, journal, monkeypatch):
    monkeypatch.setattr(writing, "ROTATED", 10)
    (ours[0] / "dead").mkdir()
    (ours[0] / "dead/D.pck").touch()
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    journal.record(State.CLAIMED, Move.FINISH, 6, b"Y.pck")
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[: max(1, len(data) // 2)]))
    journal.flush()
    assert "a part of it" in journal.trouble
    assert not (ours[0] / "journal.1").exists(), "not all of it has been carried over"
    monkeypatch.setattr(os, "write", whole)
    journal.flush()
    books = reading.read(ours[1], Layout())
    assert (books.seen, books.unreadable) == (3, 1)


def test_one_that_another_has_just_put_by_is_begun_anew(ours, journal, monkeypatch):
    """Between its rename and the first line of the new file there is none of the name."""
    monkeypatch.setattr(writing, "ROTATED", 10)
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


def test_without_a_place_for_its_spill_it_goes_on(ours):
    def refuse():
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(lambda: ours[1], refuse, Layout())
    journal.record(State.CLAIMED, Move.FINISH, 5, b"X.pck")
    journal.flush()
    assert names(ours[1]) == [b"X.pck"]


def test_a_large_one_is_begun_anew_and_knows_what_is_still_open(ours, journal, monkeypatch):
    monkeypatch.setattr(writing, "ROTATED", 2_000)
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
    assert last.endswith(f"dead carried {inode} D.pck")
    books = reading.read(ours[1], Layout())
    assert list(books.open) == [inode]
    assert b"499.pck" in names(ours[1])


def test_what_is_put_away_may_be_more_than_a_file_of_it_holds(ours, journal, monkeypatch):
    monkeypatch.setattr(writing, "ROTATED", 2_000)
    (ours[0] / "dead").mkdir()
    for number in range(200):
        (ours[0] / f"dead/{number}.pck").touch()
    for number in range(100):
        journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"new-%d.pck" % number)
        journal.flush()
    assert {b"new-%d.pck" % number for number in range(100)} <= set(names(ours[1]))
    assert len(reading.read(ours[1], Layout()).open) == 200


@pytest.mark.parametrize("suffix", [b".json", b""])
def test_entries_that_are_json_are_carried_and_their_notes_are_not(ours, monkeypatch, suffix):
    monkeypatch.setattr(writing, "ROTATED", 100)
    layout = Layout(suffix, raw=True)
    journal = Journal(lambda: ours[1], lambda: ours[2], layout)
    (ours[0] / "dead").mkdir()
    (ours[0] / "dead/D.json").touch()
    (ours[0] / "dead/.D.json").touch()
    for number in range(9):
        journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"%d.json" % number)
        journal.flush()
    assert list(reading.read(ours[1], layout).open) == [(ours[0] / "dead/D.json").stat().st_ino]


def test_of_a_pair_the_message_is_carried_and_of_an_orphan_whatever_there_is(
    ours, journal, monkeypatch
):
    monkeypatch.setattr(writing, "ROTATED", 100)
    for name in ("dead/X.msg", "dead/X.db", "deferred/X.msg", "deferred/X.db", "orphans/X.db"):
        (ours[0] / name).parent.mkdir(exist_ok=True)
        (ours[0] / name).touch()
    for number in range(9):
        journal.record(State.CLAIMED, Move.FINISH, 10**12 + number, b"%d.pck" % number)
        journal.flush()
    messages = ("dead/X.msg", "deferred/X.msg", "orphans/X.db")
    inodes = {(ours[0] / name).stat().st_ino for name in messages}
    assert set(reading.read(ours[1], Layout()).open) == inodes


@pytest.mark.parametrize(
    "line",
    [b"\n", b"garbage\n", b"\xff" * 100_000, b"1 2 3 4\n", b"x 1 a b 5 n\n", b"1 1 a b x n\n"],
)
def test_lines_that_make_no_sense_are_counted(ours, line):
    good = line_of(10**18, State.CLAIMED, Move.FINISH, 5, b"X.pck")
    (ours[0] / "journal").write_bytes(line + b"\n" + good)
    books = reading.read(ours[1], Layout())
    assert books.seen == 1
    assert books.unreadable > 0


def test_lines_of_several_processes_need_not_come_in_order(ours):
    lines = [
        line_of(30 * 10**9, State.CLAIMED, Move.FINISH, 5, b"X.pck"),
        line_of(20 * 10**9, State.CLAIMED, Move.DEFER, 5, b"X.pck"),
    ]
    (ours[0] / "journal").write_bytes(b"".join(lines))
    books = reading.read(ours[1], Layout())
    assert (books.seen, books.open, books.ended) == (1, {}, {"done": 1})


def test_who_was_too_late_to_reunite_a_pair_begins_no_life(ours):
    lines = [
        line_of(1 * 10**9, State.ARRIVING, Move.ABANDON, 5, b"X.msg"),
        line_of(2 * 10**9, State.ORPHAN, Move.REUNITE, 5, b"X.msg"),
        line_of(3 * 10**9, State.CLAIMED, Move.FINISH, 5, b"X.msg"),
        line_of(4 * 10**9, State.ORPHAN, Move.REUNITE, 5, b"X.msg"),
    ]
    (ours[0] / "journal").write_bytes(b"".join(lines))
    books = reading.read(ours[1], Layout())
    assert (books.seen, books.open, books.ended) == (1, {}, {"done": 1})


def test_where_nothing_outlives_it_a_line_is_written_at_once(queue, monkeypatch):
    """Where there was no room for the spill: lines must not wait for a flush that never comes."""
    ours = os.open(queue, os.O_RDONLY)
    journal = Journal(
        lambda: ours, lambda: os.open(queue / "no such directory", os.O_RDONLY), Layout()
    )
    journal.record(State.CLAIMED, Move.FINISH, 7, b"X.pck")
    assert b"claimed finish 7 X.pck" in (queue / "journal").read_bytes()
    spill = queue / "spill"
    spill.mkdir()
    directory = os.open(spill, os.O_RDONLY)
    journal._spill = lambda: directory
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
        spill_over(directory, ours, Layout())
    monkeypatch.setattr(os, "open", real)
    spill_over(directory, ours, Layout())
    assert b"X.pck" in (queue / "journal").read_bytes()
    assert list(spill.iterdir()) == []
