"""Removing a file whose name may be used again at any moment: never the newcomer, by any order."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import threading

import pytest

from watcher.claim.take import Claim, take
from watcher.evidence import How
from watcher.settle import aside
from watcher.spool.layout import Layout

RAW = Layout(b"", raw=True)
NAME = b"report.csv"
MOMENTS = ["move_aside", "after move_aside", "unlink", "after unlink"]


@pytest.fixture
def claimed(open_spool, put, terms):
    """Claim a file of a drop folder; return the spool and the part that was claimed."""

    def claim(disk, name=NAME, layout=RAW):
        put(name, b"yesterday's")
        spool = open_spool(layout, disk)
        made = take(spool, name, How.RENAMED, terms())
        assert isinstance(made, Claim)
        disk.calls.clear()
        return spool, made.parts[0]

    return claim


def inflight(queue):
    """Return what lies in the directories of `inflight/`."""
    root = queue / ".watcher/inflight"
    return [path for path in root.glob("*/*") if path.is_file()] if root.exists() else []


@pytest.mark.parametrize(
    "name", [NAME, b"\xff\n.csv", b"n" * 255, b"-rf"], ids=lambda n: ascii(n)[:9]
)
def test_the_claimed_file_is_removed(claimed, behind, files, queue, name):
    spool, part = claimed(behind, name)
    aside.remove(spool, part)
    assert files() == {}
    assert inflight(queue) == []


@pytest.mark.parametrize("moment", ["now", *MOMENTS])
def test_a_newcomer_stays_whenever_it_is_renamed_over_the_name(
    claimed, behind, put, files, queue, moment
):
    spool, part = claimed(behind)
    if moment == "now":
        put(NAME, b"today's")
    else:
        behind.acts[moment] = lambda: put(NAME, b"today's")
    aside.remove(spool, part)
    assert behind.acts == {}, "the moment never came"
    assert files() == {NAME: b"today's"}
    assert inflight(queue) == []


@pytest.mark.parametrize("first", MOMENTS)
@pytest.mark.parametrize("second", MOMENTS)
def test_two_newcomers_both_stay_unless_one_renames_over_the_other(
    claimed, behind, put, files, first, second
):
    spool, part = claimed(behind)
    behind.acts[first] = lambda: put(NAME, b"first")

    def act():
        put(NAME, b"second")

    if second != first:
        behind.acts[second] = act
    aside.remove(spool, part)
    aside.recover(spool)
    came = {data for moment, data in ((first, b"first"), (second, b"second"))
            if moment not in behind.acts and (moment == first or second != first)}  # fmt: skip
    left = set(files().values())
    # A writer that renames over another's file in the queue has removed it itself.
    assert left <= came
    assert left or not came
    if b"second" in came:
        assert left & {b"second", b"first"}
    assert b"yesterday's" not in left


def test_a_newcomer_that_finds_its_name_taken_again_goes_beside(claimed, behind, put, files):
    spool, part = claimed(behind)
    behind.acts["move_aside"] = lambda: put(NAME, b"second")
    behind.acts["after move_aside"] = lambda: put(NAME, b"third")
    aside.remove(spool, part)
    assert files() == {NAME: b"third", NAME + b"~1": b"second"}


def test_a_newcomer_that_looks_the_same_stays_too(claimed, behind, put, files, queue):
    """As long, and as old by its mtime, which `cp -p` keeps: only the inode tells."""
    spool, part = claimed(behind)

    def come():
        before = os.stat(queue / os.fsdecode(NAME))
        put(NAME, b"x" * before.st_size)
        os.utime(queue / os.fsdecode(NAME), ns=(before.st_atime_ns, before.st_mtime_ns))

    behind.acts["move_aside"] = come
    assert aside.remove(spool, part)
    assert [set(data) for data in files().values()] == [{ord("x")}]


DRAWN = b"1795437730.7523751+b9b4254987c241d208ed4516474a43dc01750447.pck"


@pytest.mark.parametrize("name", [DRAWN, DRAWN[19:]])
def test_a_name_that_its_writer_drew_is_removed_where_it_lies(claimed, behind, put, files, name):
    spool, part = claimed(behind, name, Layout())
    behind.acts["move_aside"] = lambda: pytest.fail("it was moved aside")
    assert aside.remove(spool, part)
    assert files() == {}
    spool, part = claimed(behind, name, Layout())
    put(name, b"of another inode")
    assert aside.remove(spool, part)
    assert files() == {name: b"of another inode"}
    spool, part = claimed(behind, name, Layout())
    with open(os.path.join(spool.path, name), "ab") as file:
        file.write(b"written to")
    assert not aside.remove(spool, part)
    assert list(files()) == [name]


@pytest.mark.parametrize("moment", ["now", "move_aside"])
@pytest.mark.parametrize("deed", ["moved away", "unlinked"])
def test_a_handler_that_moved_the_file_away_has_done_it(
    claimed, behind, queue, files, moment, deed
):
    spool, part = claimed(behind)
    path = queue / os.fsdecode(NAME)

    def act():
        path.rename(queue.parent / "kept") if deed == "moved away" else path.unlink()

    if moment == "now":
        act()
    else:
        behind.acts["move_aside"] = act
    aside.remove(spool, part)
    assert files() == {}
    assert (queue.parent / "kept").exists() == (deed == "moved away")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("made", [b".watcher", b"inflight", b"1.x"])
def test_where_no_directory_of_ours_finds_room_what_is_done_goes_all_the_same(
    claimed, behind, files, monkeypatch, number, made
):
    """Also where statvfs(2) tells of room: it knows of no quota."""
    spool, part = claimed(behind, b"noplus.pck", Layout())
    mkdir = os.mkdir

    def refuse(name, *arguments, **options):
        if made in (name, b"1.x"):
            raise OSError(number, os.strerror(number))
        mkdir(name, *arguments, **options)

    if made == b"1.x":
        spool.inflight()
    monkeypatch.setattr(os, "mkdir", refuse)
    aside.usable(spool)
    assert aside.remove(spool, part)
    assert files() == {}


@pytest.mark.parametrize("what", ["all of ours", "its own directory"])
def test_a_directory_of_ours_that_an_operator_removed_is_made_again(
    claimed, behind, put, files, queue, terms, what
):
    """Else the move aside fails, the file stays, and it is handled again at every sweep."""
    spool, part = claimed(behind)
    aside.remove(spool, part)
    for path in (queue / ".watcher/inflight").iterdir():
        path.rmdir()
    if what == "all of ours":
        (queue / ".watcher/inflight").rmdir()
        (queue / ".watcher").rmdir()
    put(NAME)
    claim = take(spool, NAME, How.RENAMED, terms())
    aside.remove(spool, claim.parts[0])
    assert files() == {}


def test_many_threads_remove_at_once(open_spool, put, terms, files, queue):
    spool = open_spool(RAW)
    names = [put(b"%d.csv" % number) for number in range(200)]
    claims = [take(spool, name, How.RENAMED, terms()) for name in names]
    failures: list[BaseException] = []

    def work(mine):
        try:
            for claim in mine:
                aside.remove(spool, claim.parts[0])
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(claims[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert files() == {}
    assert inflight(queue) == []


# -- recovery ---------------------------------------------------------------------------------

DIE_ASIDE = """
import os, sys
from watcher.age import Ages, SystemClock
from watcher.claim.take import Terms, take
from watcher.evidence import How
from watcher.settle import aside
from watcher.spool.disk import Disk
from watcher.spool.layout import Layout
from watcher.spool.spool import Spool
class Dying(Disk):
    def unlink(self, name, directory):
        print("aside", flush=True)
        input()
        os.kill(os.getpid(), 9)
spool = Spool(sys.argv[1].encode(), Layout(b"", raw=True), Dying())
claim = take(spool, sys.argv[2].encode(), How.RENAMED, Terms(300, Ages(SystemClock())))
aside.remove(spool, claim.parts[0])
"""


def test_only_what_a_dead_process_left_is_put_back(open_spool, put, files, queue, child):
    put(NAME, b"precious")
    other = child(DIE_ASIDE, queue, os.fsdecode(NAME))
    assert other.hear() == "aside"
    spool = open_spool(RAW)
    assert files() == {}
    assert aside.recover(spool) == 0, "its process lives"
    assert len(inflight(queue)) == 1
    other.go_on()
    assert other.end() == -9
    assert aside.recover(spool) == 1
    assert files() == {NAME: b"precious"}
    assert list((queue / ".watcher/inflight").iterdir()) == []
    assert aside.recover(spool) == 0


def test_what_is_put_back_overwrites_nothing(open_spool, put, files, queue, child):
    put(NAME, b"precious")
    other = child(DIE_ASIDE, queue, os.fsdecode(NAME))
    assert other.hear() == "aside"
    put(NAME, b"newcomer")
    put(NAME + b"~1", b"and another")
    other.kill()
    assert aside.recover(open_spool(RAW)) == 1
    assert files() == {
        NAME: b"newcomer", NAME + b"~1": b"and another", NAME + b"~2": b"precious"
    }  # fmt: skip


def test_what_is_put_back_does_not_look_like_a_writers_rename(
    open_spool, put, files, queue, child, behind
):
    """It may still be being written: nothing about it is proved, so its age has to tell."""
    put(NAME, b"precious")
    other = child(DIE_ASIDE, queue, os.fsdecode(NAME))
    assert other.hear() == "aside"
    other.kill()
    assert aside.recover(open_spool(RAW, behind)) == 1
    assert files() == {NAME: b"precious"}
    assert "move" not in behind.calls


def test_our_own_directory_is_not_recovered_from_under_us(claimed, behind, files, queue):
    spool, part = claimed(behind)
    aside.remove(spool, part)
    (own,) = (queue / ".watcher/inflight").iterdir()
    (own / "held").write_bytes(b"data")
    assert aside.recover(spool) == 0
    assert (own / "held").exists()


def test_recovery_makes_nothing_where_there_is_nothing(open_spool, queue):
    assert aside.recover(open_spool(RAW)) == 0
    assert not (queue / ".watcher").exists()


def test_recovery_passes_strange_things_by(open_spool, files, queue, tmp_path):
    spool = open_spool(RAW)
    spool.inflight()
    inflight_ = queue / ".watcher/inflight"
    (inflight_ / "ledger").write_bytes(b"a file")
    os.mkfifo(inflight_ / "fifo")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x").touch()
    (inflight_ / "link").symlink_to(tmp_path / "elsewhere")
    (inflight_ / "1.empty").mkdir()
    (inflight_ / "1.full").mkdir()
    undecodable = os.path.join(os.fsencode(inflight_), b"1.full", b"\xff.csv")
    with open(undecodable, "wb") as file:
        file.write(b"data")
    assert aside.recover(spool) == 1
    assert files() == {b"\xff.csv": b"data"}
    assert {path.name for path in inflight_.iterdir()} == {"ledger", "fifo", "link"}
    assert (tmp_path / "elsewhere/x").exists()


def test_a_directory_taken_by_a_recovery_before_it_was_locked_is_made_anew(
    claimed, behind, open_spool, files, queue, monkeypatch
):
    """Between our mkdir and our lock another's recovery may take it for a dead process's."""
    spool, part = claimed(behind)
    other = open_spool(RAW)
    spool.inflight()
    taken: list[int] = []
    flock = fcntl.flock

    def late(fd, operation):
        if operation == fcntl.LOCK_EX and not taken:
            taken.append(aside.recover(other))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    aside.remove(spool, part)
    monkeypatch.undo()
    assert files() == {}
    assert taken == [0]
    assert inflight(queue) == []


def test_our_directory_goes_with_the_spool(claimed, behind, queue, descriptors):
    gc.collect()
    spool, part = claimed(behind)
    os.close(part.fd)
    aside.remove(spool, part)
    assert len(list((queue / ".watcher/inflight").iterdir())) == 1
    del spool
    gc.collect()
    assert list((queue / ".watcher/inflight").iterdir()) == []


# -- file systems without RENAME_NOREPLACE ----------------------------------------------------


def test_without_noreplace_the_claimed_file_is_removed_all_the_same(
    claimed, old_disk, files, queue
):
    spool, part = claimed(old_disk)
    aside.remove(spool, part)
    assert files() == {}
    assert inflight(queue) == []


@pytest.mark.parametrize("moment", [*MOMENTS, "link"])
def test_without_noreplace_a_newcomer_stays_too(claimed, old_disk, put, files, monkeypatch, moment):
    """A link and an unlink in place of the rename would take the newcomer between the two."""
    spool, part = claimed(old_disk)
    if moment == "link":
        old_disk.acts["move_aside"] = lambda: put(NAME, b"today's")
        link = os.link

        def slow(*arguments, **named):
            link(*arguments, **named)
            monkeypatch.undo()
            put(NAME + b"~1", b"a neighbour")

        monkeypatch.setattr(os, "link", slow)
    else:
        old_disk.acts[moment] = lambda: put(NAME, b"today's")
    aside.remove(spool, part)
    left = files()
    if moment == "link":
        assert left.pop(NAME + b"~1") == b"a neighbour"
    assert left == {NAME: b"today's"}


@pytest.mark.parametrize("newcomer", [True, False])
@pytest.mark.parametrize("target", [NAME, NAME + b"~1"])
def test_a_crash_between_link_and_unlink_leaves_an_entry_not_two_links(
    open_spool, put, files, queue, target, newcomer
):
    """Also where the newcomer beside which it went back has been handled since."""
    newcomer = newcomer and target != NAME
    put(target, b"precious")
    spool = open_spool(RAW)
    spool.inflight()
    left = queue / ".watcher/inflight/1.dead"
    left.mkdir()
    (left / os.fsdecode(NAME)).hardlink_to(queue / os.fsdecode(target))
    if newcomer:
        put(NAME, b"newcomer")
    aside.recover(spool)
    assert files() == {target: b"precious"} | ({NAME: b"newcomer"} if newcomer else {})
    assert (queue / os.fsdecode(target)).stat().st_nlink == 1
