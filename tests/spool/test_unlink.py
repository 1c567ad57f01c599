"""Removing a file whose name may be used again at any moment, and never its replacement."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import threading

import pytest

from watcher.claim.take import take
from watcher.claim.take_deferred import take_deferred
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import DEFERRED, Layout
from watcher.rules.stamp import Schedule
from watcher.settle import moves, put_back, unlink
from watcher.spool.claimed import Claim

RAW = Layout(b"", raw=True)
NAME = b"report.csv"
MOMENTS = ["move_aside", "after move_aside", "unlink", "after unlink"]


@pytest.fixture
def claimed(open_spool, put, terms, close_at_end):
    """Claim a file of a drop folder; return the spool and the part that was claimed."""

    def claim(disk, name=NAME, layout=RAW):
        put(name, b"yesterday's")
        spool = open_spool(layout, disk)
        made = take(spool, name, Proof.RENAMED, terms())
        assert isinstance(made, Claim)
        disk.calls.clear()
        close_at_end(made.parts)
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
    unlink.remove(spool, part)
    assert files() == {}
    assert inflight(queue) == []


@pytest.mark.parametrize("moment", ["now", *MOMENTS])
def test_a_replacement_stays_whenever_it_is_renamed_over_the_name(
    claimed, behind, put, files, queue, moment
):
    spool, part = claimed(behind)
    if moment == "now":
        put(NAME, b"today's")
    else:
        behind.acts[moment] = lambda: put(NAME, b"today's")
    unlink.remove(spool, part)
    assert behind.acts == {}, "the moment never came"
    assert files() == {NAME: b"today's"}
    assert inflight(queue) == []


@pytest.mark.parametrize("first", MOMENTS)
@pytest.mark.parametrize("second", MOMENTS)
def test_two_replacements_both_stay_unless_one_renames_over_the_other(
    claimed, behind, put, files, first, second
):
    spool, part = claimed(behind)
    behind.acts[first] = lambda: put(NAME, b"first")

    def act():
        put(NAME, b"second")

    if second != first:
        behind.acts[second] = act
    unlink.remove(spool, part)
    put_back.recover(spool)
    came = {data for moment, data in ((first, b"first"), (second, b"second"))
            if moment not in behind.acts and (moment == first or second != first)}  # fmt: skip
    left = set(files().values())
    # A writer that renames over another's file in the queue has removed it itself.
    assert left <= came
    assert left or not came
    if b"second" in came:
        assert left & {b"second", b"first"}
    assert b"yesterday's" not in left


def test_a_replacement_that_finds_its_name_taken_again_goes_beside(claimed, behind, put, files):
    spool, part = claimed(behind)
    behind.acts["move_aside"] = lambda: put(NAME, b"second")
    behind.acts["after move_aside"] = lambda: put(NAME, b"third")
    unlink.remove(spool, part)
    assert files() == {NAME: b"third", NAME + b"~1": b"second"}


def test_a_replacement_that_looks_the_same_stays_too(claimed, behind, put, files, queue):
    """As long, and as old by its mtime, which `cp -p` keeps: only the inode tells."""
    spool, part = claimed(behind)

    def come():
        before = os.stat(queue / os.fsdecode(NAME))
        put(NAME, b"x" * before.st_size)
        os.utime(queue / os.fsdecode(NAME), ns=(before.st_atime_ns, before.st_mtime_ns))

    behind.acts["move_aside"] = come
    assert unlink.remove(spool, part)
    assert [set(data) for data in files().values()] == [{ord("x")}]


DRAWN = b"1795437730.7523751+b9b4254987c241d208ed4516474a43dc01750447.pck"


@pytest.mark.parametrize("name", [DRAWN, DRAWN[19:]])
def test_a_name_that_its_writer_drew_is_removed_where_it_lies(claimed, behind, put, files, name):
    spool, part = claimed(behind, name, Layout())
    behind.acts["move_aside"] = lambda: pytest.fail("it was moved aside")
    assert unlink.remove(spool, part)
    assert files() == {}
    spool, part = claimed(behind, name, Layout())
    put(name, b"of another inode")
    assert unlink.remove(spool, part)
    assert files() == {name: b"of another inode"}
    spool, part = claimed(behind, name, Layout())
    with open(os.path.join(spool.path, name), "ab") as file:
        file.write(b"written to")
    assert not unlink.remove(spool, part)
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
    unlink.remove(spool, part)
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
    unlink.usable(spool)
    assert unlink.remove(spool, part)
    assert files() == {}


@pytest.mark.parametrize("what", ["all of ours", "its own directory"])
def test_a_directory_of_ours_that_an_operator_removed_is_made_again(
    claimed, behind, put, files, queue, terms, what
):
    """Else the move aside fails, the file stays, and it is handled again at every sweep."""
    spool, part = claimed(behind)
    unlink.remove(spool, part)
    for path in (queue / ".watcher/inflight").iterdir():
        path.rmdir()
    if what == "all of ours":
        (queue / ".watcher/inflight").rmdir()
        (queue / ".watcher").rmdir()
    put(NAME)
    claim = take(spool, NAME, Proof.RENAMED, terms())
    unlink.remove(spool, claim.parts[0])
    assert files() == {}


def test_many_threads_remove_at_once(open_spool, put, terms, files, queue):
    spool = open_spool(RAW)
    names = [put(b"%d.csv" % number) for number in range(200)]
    claims = [take(spool, name, Proof.RENAMED, terms()) for name in names]
    failures: list[BaseException] = []

    def work(mine):
        try:
            for claim in mine:
                unlink.remove(spool, claim.parts[0])
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(claims[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for claim in claims:
        claim.release()
    assert failures == []
    assert files() == {}
    assert inflight(queue) == []


# -- what was written to, or may be yet ---------------------------------------------------------

PLACES = ["the queue", "deferred/"]


@pytest.fixture(params=PLACES)
def in_hand(request, claimed, behind, open_spool, terms, queue):
    """Claim a raw file, in the queue or in deferred/; return the spool, its part and its path."""
    spool, part = claimed(behind)
    if request.param == "the queue":
        return spool, part, queue / os.fsdecode(NAME)
    name = moves.defer(spool, [part], Schedule(0), "why", {})
    os.close(part.fd)
    claim = take_deferred(spool, DEFERRED + name, terms())
    assert isinstance(claim, Claim)
    return spool, claim.parts[0], queue / ".watcher/deferred" / os.fsdecode(name)


def left(files):
    """Return what lies in the queue and in deferred/, without the notes."""
    deferred = [data for name, data in files(State.DEFERRED).items() if name.endswith(b".csv")]
    return [*files().values(), *deferred]


def test_what_a_process_has_open_for_writing_goes_back_and_is_not_removed(in_hand, files):
    spool, part, path = in_hand
    with path.open("ab", buffering=0) as writer:
        assert not unlink.remove(spool, part, lambda: True)
        assert files() == {NAME: b"yesterday's"}
        writer.write(b" and more")  # whatever the name leads to by now: it is the same file
    assert files() == {NAME: b"yesterday's and more"}
    assert left(files) == [b"yesterday's and more"]


def test_a_writer_that_opens_it_just_before_the_move_aside_is_seen(claimed, behind, queue, files):
    spool, part = claimed(behind)
    opened = []
    behind.acts["move_aside"] = lambda: opened.append((queue / os.fsdecode(NAME)).open("ab"))
    assert not unlink.remove(spool, part, lambda: True)
    opened[0].close()
    assert files() == {NAME: b"yesterday's"}


def test_a_replacement_written_in_place_keeps_its_times_and_does_not_look_renamed_in(
    claimed, behind, queue
):
    spool, part = claimed(behind)
    path = queue / os.fsdecode(NAME)
    path.unlink()
    path.write_bytes(b"half")
    assert unlink.remove(spool, part)
    status = path.stat()
    assert status.st_ctime_ns == status.st_mtime_ns


@pytest.mark.parametrize("written", [True, False])
def test_what_goes_back_written_to_does_not_look_renamed_in_since(in_hand, queue, files, written):
    """By our own move it would, to the scan of the next start, in a pause of its writer."""
    spool, part, path = in_hand
    os.utime(path)  # so that both times are of one moment
    part = part._replace(mtime_ns=path.stat().st_mtime_ns)
    with path.open("ab") as writer:
        writer.write(b" and more" if written else b"")
        writer.flush()
        assert not unlink.remove(spool, part, lambda: True)
    status = (queue / os.fsdecode(NAME)).stat()
    assert (status.st_ctime_ns > status.st_mtime_ns) is not written


TOUCHED = {  # is it removed where its contents are as they were read, are not, are not known
    "nothing": (True, True, True),
    "another mtime": (True, False, False),
    "another ctime": (True, False, True),
    "written to": (False, False, False),
}


@pytest.mark.parametrize("deed", TOUCHED)
@pytest.mark.parametrize(("known", "index"), [(True, 0), (False, 1), (None, 2)])
def test_where_a_time_changed_the_contents_decide(in_hand, files, deed, known, index):
    """Another mtime alone is no rewrite; and a writer may set it back, but not the ctime."""
    spool, part, path = in_hand
    before = part.ctime_ns
    while deed != "nothing" and path.stat().st_ctime_ns == before:
        if deed == "another mtime":
            os.utime(path, ns=(1, 1))
        elif deed == "another ctime":
            path.chmod(0o600)
        else:
            path.write_bytes(b"yesterday's, now longer")
    removed = unlink.remove(spool, part, lambda: known)
    assert removed is TOUCHED[deed][index]
    assert (left(files) == []) is removed
    assert len(left(files)) < 2


@pytest.mark.parametrize("moment_ns", [-1, 0, -(10**18)])
@pytest.mark.parametrize("known", [False, None])
def test_a_time_of_1970_or_before_is_a_time_like_any_other(in_hand, files, known, moment_ns):
    """A rewrite may be given such a time; no number stands for "no time"."""
    spool, part, path = in_hand
    path.write_bytes(b"another day")
    assert path.stat().st_size == part.size
    os.utime(path, ns=(1, moment_ns))
    assert path.stat().st_mtime_ns == moment_ns
    assert not unlink.remove(spool, part, lambda: known)
    assert left(files) == [b"another day"]


def test_a_file_of_before_1970_is_removed_when_it_is_done(open_spool, put, files, terms, queue):
    """The claim knows its time, and takes the same time for the same."""
    put(NAME, b"an old one")
    os.utime(queue / os.fsdecode(NAME), ns=(1, -1))
    spool = open_spool(RAW)
    made = take(spool, NAME, Proof.RENAMED, terms())
    assert isinstance(made, Claim)
    assert unlink.remove(spool, made.parts[0])
    assert files() == {}


def test_no_lease_is_left_on_what_goes_back(in_hand, queue):
    spool, part, _path = in_hand
    os.utime(f"/proc/self/fd/{part.fd}", ns=(1, 1))
    assert not unlink.remove(spool, part, lambda: False)
    os.close(os.open(queue / os.fsdecode(NAME), os.O_WRONLY | os.O_NONBLOCK))  # EAGAIN under one


# -- recovery ---------------------------------------------------------------------------------

DIE_ASIDE = """
import os, sys
from watcher.rules.age import Ages, SystemClock
from watcher.spool.claimed import ClaimOptions
from watcher.claim.take import take
from watcher.rules.evidence import Proof
from watcher.settle import unlink
from watcher.spool.disk import Disk
from watcher.rules.names import Layout
from watcher.spool.spool import Spool
class Dying(Disk):
    def unlink(self, name, directory):
        print("aside", flush=True)
        input()
        os.kill(os.getpid(), 9)
spool = Spool(sys.argv[1].encode(), Layout(b"", raw=True), Dying())
claim = take(spool, sys.argv[2].encode(), Proof.RENAMED, ClaimOptions(300, Ages(SystemClock())))
unlink.remove(spool, claim.parts[0])
"""


def test_only_what_a_dead_process_left_is_put_back(open_spool, put, files, queue, child):
    put(NAME, b"precious")
    other = child(DIE_ASIDE, queue, os.fsdecode(NAME))
    assert other.hear() == "aside"
    spool = open_spool(RAW)
    assert files() == {}
    assert put_back.recover(spool) == 0, "its process lives"
    assert len(inflight(queue)) == 1
    other.go_on()
    assert other.end() == -9
    assert put_back.recover(spool) == 1
    assert files() == {NAME: b"precious"}
    assert list((queue / ".watcher/inflight").iterdir()) == []
    assert put_back.recover(spool) == 0


def test_what_is_put_back_overwrites_nothing(open_spool, put, files, queue, child):
    put(NAME, b"precious")
    other = child(DIE_ASIDE, queue, os.fsdecode(NAME))
    assert other.hear() == "aside"
    put(NAME, b"replacement")
    put(NAME + b"~1", b"and another")
    other.kill()
    assert put_back.recover(open_spool(RAW)) == 1
    assert files() == {
        NAME: b"replacement", NAME + b"~1": b"and another", NAME + b"~2": b"precious"
    }  # fmt: skip


def test_what_is_put_back_does_not_look_like_a_writers_rename(
    open_spool, put, files, queue, child, behind
):
    """It may still be being written: nothing about it is proved, so its age has to tell."""
    put(NAME, b"precious")
    other = child(DIE_ASIDE, queue, os.fsdecode(NAME))
    assert other.hear() == "aside"
    other.kill()
    assert put_back.recover(open_spool(RAW, behind)) == 1
    assert files() == {NAME: b"precious"}
    assert "move" not in behind.calls


def test_our_own_directory_is_not_recovered_from_under_us(claimed, behind, files, queue):
    spool, part = claimed(behind)
    unlink.remove(spool, part)
    (own,) = (queue / ".watcher/inflight").iterdir()
    (own / "held").write_bytes(b"data")
    assert put_back.recover(spool) == 0
    assert (own / "held").exists()


def test_recovery_makes_nothing_where_there_is_nothing(open_spool, queue):
    assert put_back.recover(open_spool(RAW)) == 0
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
    assert put_back.recover(spool) == 1
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
    begun: list[bool] = []
    flock = fcntl.flock

    def late(fd, operation):
        if not begun:
            begun.append(True)
            taken.append(put_back.recover(other))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    unlink.remove(spool, part)
    monkeypatch.undo()
    assert files() == {}
    assert taken == [0]
    assert inflight(queue) == []


def test_our_directory_goes_with_the_spool(claimed, behind, queue, descriptors):
    gc.collect()
    spool, part = claimed(behind)
    unlink.remove(spool, part)
    os.close(part.fd)
    assert len(list((queue / ".watcher/inflight").iterdir())) == 1
    del spool
    gc.collect()
    assert list((queue / ".watcher/inflight").iterdir()) == []


# -- file systems without RENAME_NOREPLACE ----------------------------------------------------


def test_without_noreplace_the_claimed_file_is_removed_all_the_same(
    claimed, old_disk, files, queue
):
    spool, part = claimed(old_disk)
    unlink.remove(spool, part)
    assert files() == {}
    assert inflight(queue) == []


@pytest.mark.parametrize("moment", [*MOMENTS, "link"])
def test_without_noreplace_a_replacement_stays_too(
    claimed, old_disk, put, files, monkeypatch, moment
):
    """A link and an unlink in place of the rename would take the replacement between the two."""
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
    unlink.remove(spool, part)
    left = files()
    if moment == "link":
        assert left.pop(NAME + b"~1") == b"a neighbour"
    assert left == {NAME: b"today's"}


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("target", [NAME, NAME + b"~1"])
def test_a_crash_between_link_and_unlink_leaves_an_entry_not_two_links(
    open_spool, put, files, queue, target, replacement
):
    """Also where the replacement beside which it went back has been handled since."""
    replacement = replacement and target != NAME
    put(target, b"precious")
    spool = open_spool(RAW)
    spool.inflight()
    left = queue / ".watcher/inflight/1.dead"
    left.mkdir()
    (left / os.fsdecode(NAME)).hardlink_to(queue / os.fsdecode(target))
    if replacement:
        put(NAME, b"replacement")
    put_back.recover(spool)
    assert files() == {target: b"precious"} | ({NAME: b"replacement"} if replacement else {})
    assert (queue / os.fsdecode(target)).stat().st_nlink == 1
