"""The archive: a done file is moved there once, whole, and over no other file."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import re
import time
from pathlib import Path

import pytest

from watcher.arrive.scan import scan
from watcher.attempt import Attempt
from watcher.claim.take import take
from watcher.claim.take_deferred import take_deferred
from watcher.errors import CannotCreate, NoSuch, NotPermitted, Unavailable, WatcherError
from watcher.handle.function import Function
from watcher.rules.age import SECOND, SystemClock
from watcher.rules.archived_names import DAY, ArchiveOptions
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import DEFERRED, Layout
from watcher.rules.results import AttemptEnd
from watcher.rules.retry import Policy
from watcher.rules.stamp import Schedule
from watcher.settle import moves, put_back
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.settle.retention import Retention
from watcher.settle.unremovable import Unremovable
from watcher.spool import libc, mounts
from watcher.spool.archive import Archive
from watcher.spool.claimed import Claim
from watcher.spool.disk import DISK, Disk

RAW = Layout(b"", raw=True)
NAME = b"report.csv"
IN_QUEUE = ArchiveOptions(b"archive")
DATED = ArchiveOptions(b"archive", dated=True)
MAILMAN = b"1700000000.1+" + b"a" * 40 + b".pck"


def tree(directory: Path) -> dict[str, bytes]:
    """Return the regular files below a directory, and what is in them."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def archive(queue):
    """Return the archive's files."""
    return lambda: tree(queue / "archive")


@pytest.fixture
def done(open_spool, put, terms):
    """Put a file, claim it, and be done with it; return the spool."""

    def finish(data, name=NAME, options=IN_QUEUE, layout=RAW, disk=DISK, now_ns=time.time_ns):
        put(name, data)
        spool = open_spool(layout, disk)
        spool.use_archive(options)
        spool.archive.now_ns = now_ns
        claim = take(spool, name, Proof.RENAMED, terms())
        assert isinstance(claim, Claim)
        assert moves.remove(spool, claim.parts)
        claim.release()
        return spool

    return finish


NO_FLAG = ["renameat2", "EINVAL"]


@pytest.fixture(params=NO_FLAG)
def any_kernel(request, monkeypatch):
    """Run on file systems with and without RENAME_NOREPLACE."""
    if request.param != "renameat2":
        monkeypatch.setattr(libc, "renameat2", lambda *_arguments: errno.EINVAL)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        (NAME, RAW),
        (b"n" * 255, RAW),
        (b"\xff\n.csv", RAW),
        (b"-rf", RAW),
        (b"x.pck", Layout()),
        (MAILMAN, Layout()),
    ],
    ids=ascii,
)
def test_a_done_file_is_in_the_archive_under_its_own_name(
    done, any_kernel, archive, files, queue, name, layout
):
    done(b"whole", name, layout=layout)
    assert archive() == {os.fsdecode(name): b"whole"}
    assert files() == {}
    assert [path for path in queue.glob(".watcher/inflight/*/*") if path.name[0] != "."] == []


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(done, any_kernel, archive, queue):
    done(b"first")
    (queue / "archive/report~2.csv").write_bytes(b"an operator's")
    for data in (b"second", b"third"):
        done(data)
    assert archive() == {
        "report.csv": b"first",
        "report~1.csv": b"second",
        "report~2.csv": b"an operator's",
        "report~3.csv": b"third",
    }


def test_a_name_that_is_taken_at_the_very_moment_is_not_overwritten(done, behind, archive, queue):
    behind.acts["archive"] = lambda: (queue / "archive/report.csv").write_bytes(b"came before")
    done(b"data", disk=behind)
    assert archive() == {"report.csv": b"came before", "report~1.csv": b"data"}


def test_the_archive_is_synced_after_the_move(done, behind):
    done(b"data", disk=behind)
    assert behind.calls[behind.calls.index("archive") :][:2] == ["archive", "sync"]


def test_dated_folders_are_of_the_day_in_utc(done, archive, queue):
    done(b"first", options=DATED, now_ns=lambda: 20_000 * DAY + DAY - 1)
    spool = done(b"second", options=DATED, now_ns=lambda: 20_001 * DAY)
    assert archive() == {
        "2024-10-04/report.csv": b"first", "2024-10-05/report.csv": b"second"
    }  # fmt: skip
    assert (queue / "archive/2024-10-04").stat().st_mode & 0o777 == 0o700
    assert scan(spool).bystanders == []


def test_a_new_days_folder_may_be_read_by_those_who_may_read_the_archive(done, queue):
    (queue / "archive").mkdir(mode=0o755)
    done(b"data", options=DATED)
    (day,) = (queue / "archive").iterdir()
    assert day.stat().st_mode & 0o777 == 0o755


def test_a_folder_that_is_removed_under_us_is_made_again(done, archive, queue, put, terms):
    spool = done(b"first", options=DATED)
    for path in (*(queue / "archive").glob("*/*"), *(queue / "archive").iterdir()):
        (Path.rmdir if path.is_dir() else Path.unlink)(path)
    (queue / "archive").rmdir()
    put(NAME, b"second")
    claim = take(spool, NAME, Proof.RENAMED, terms())
    assert moves.remove(spool, claim.parts)
    assert list(archive().values()) == [b"second"]


@pytest.mark.parametrize("day", [False, True])
def test_a_pair_is_archived_with_one_number(done, open_spool, queue, archive, terms, day):
    where = "archive"
    for times in range(2):
        (queue / "x.db").write_bytes(b"metadata %d" % times)
        (queue / "x.msg").write_bytes(b"message %d" % times)
        spool = open_spool(Layout(legacy=True))
        spool.use_archive(ArchiveOptions(b"archive", day))
        claim = take(spool, b"x.msg", Proof.NONE, terms(0.0))
        assert isinstance(claim, Claim)
        assert len(claim.parts) == 2
        where = f"{spool.archive.where()}/".removeprefix("archive/")
        if times == 1:  # an operator took one of the two: the number is free for neither
            (queue / "archive" / where / "x.msg").unlink()
        assert moves.remove(spool, claim.parts)
    assert archive() == {
        f"{where}x.db": b"metadata 0",
        f"{where}x~1.db": b"metadata 1",
        f"{where}x~1.msg": b"message 1",
    }


def test_a_deferred_entry_is_archived_under_its_own_name(open_spool, put, terms, archive, files):
    put(NAME, b"data")
    spool = open_spool(RAW)
    spool.use_archive(IN_QUEUE)
    claim = take(spool, NAME, Proof.RENAMED, terms())
    name = moves.defer(spool, claim.parts, Schedule(0), "why", {})
    claim.release()
    claim = take_deferred(spool, DEFERRED + name, terms())
    assert moves.remove(spool, claim.parts)
    assert archive() == {"report.csv": b"data"}
    assert files(State.DEFERRED) == {}


@pytest.mark.parametrize(
    ("moment", "handled"),
    [
        ("now", []),
        ("move_aside", []),
        ("after move_aside", [b"handled"]),
        ("archive", [b"handled"]),
    ],
)
def test_a_newcomer_is_not_archived(
    open_spool, behind, put, terms, archive, files, moment, handled
):
    put(NAME, b"handled")
    spool = open_spool(RAW, behind)
    spool.use_archive(IN_QUEUE)
    claim = take(spool, NAME, Proof.RENAMED, terms())
    behind.acts[moment] = lambda: put(NAME, b"newcomer")
    behind.acts.pop("now", lambda: None)()
    assert moves.remove(spool, claim.parts)
    assert files() == {NAME: b"newcomer"}
    assert list(archive().values()) == handled


def test_a_newcomer_at_the_very_move_of_a_file_in_place_goes_back(
    open_spool, behind, put, terms, archive, files
):
    put(MAILMAN, b"handled")
    spool = open_spool(Layout(), behind)
    spool.use_archive(IN_QUEUE)
    claim = take(spool, MAILMAN, Proof.RENAMED, terms())
    behind.acts["archive"] = lambda: put(MAILMAN, b"newcomer")
    assert moves.remove(spool, claim.parts)
    assert files() == {MAILMAN: b"newcomer"}
    assert archive() == {}


def test_what_was_written_to_goes_back_and_is_not_archived(
    open_spool, put, terms, archive, files, queue
):
    put(NAME, b"first")
    spool = open_spool(RAW)
    spool.use_archive(IN_QUEUE)
    claim = take(spool, NAME, Proof.RENAMED, terms())
    with (queue / "report.csv").open("ab", buffering=0) as writer:
        writer.write(b" and more")
        assert not moves.remove(spool, claim.parts)
    assert files() == {NAME: b"first and more"}
    assert archive() == {}


def test_no_lease_is_left_on_an_archived_file(done, open_spool, put, terms, queue):
    put(NAME, b"data")
    spool = open_spool(RAW)
    spool.use_archive(IN_QUEUE)
    claim = take(spool, NAME, Proof.RENAMED, terms())
    assert moves.remove(spool, claim.parts)
    os.close(os.open(queue / "archive/report.csv", os.O_WRONLY | os.O_NONBLOCK))  # EAGAIN under one


DIE = """
import os, sys
from watcher.rules.age import Ages, SystemClock
from watcher.rules.archived_names import ArchiveOptions
from watcher.spool.claimed import ClaimOptions
from watcher.claim.take import take
from watcher.rules.evidence import Proof
from watcher.settle import moves
from watcher.spool.disk import Disk
from watcher.rules.names import Layout
from watcher.spool.spool import Spool
moment = sys.argv[2]
class Dying(Disk):
    def archive(self, *arguments):
        if moment == "aside":
            os.kill(os.getpid(), 9)
        Disk.archive(self, *arguments)
        if moment == "archived":
            os.kill(os.getpid(), 9)
spool = Spool(sys.argv[1].encode(), Layout(b"", raw=True), Dying())
spool.use_archive(ArchiveOptions(b"archive"))
claim = take(spool, b"report.csv", Proof.RENAMED, ClaimOptions(300, Ages(SystemClock())))
moves.remove(spool, claim.parts)
"""


@pytest.mark.parametrize("moment", ["aside", "archived"])
def test_a_kill_leaves_the_entry_in_the_archive_or_to_be_handled_again(
    open_spool, done, put, files, archive, queue, child, moment
):
    put(NAME, b"precious")
    assert child(DIE, queue, moment).end() == -9
    spool = open_spool(RAW)
    spool.use_archive(IN_QUEUE)
    assert put_back.recover(spool) == (moment == "aside")
    assert files() == ({NAME: b"precious"} if moment == "aside" else {})
    assert archive() == ({} if moment == "aside" else {"report.csv": b"precious"})


def test_a_kill_on_a_file_system_without_noreplace_leaves_an_empty_file_and_the_entry(
    open_spool, done, put, files, archive, queue, child
):
    """The two steps are no two names of one file: an operator may make such links there."""
    put(NAME, b"precious")
    without = "from watcher.spool import libc\nlibc.renameat2 = lambda *_arguments: 22\n"
    die = "os.rename = lambda *_names, **_rest: os.kill(os.getpid(), 9)\n"
    program = DIE.replace("moment = sys.argv[2]\n", f"{without}moment = sys.argv[2]\n")
    program = program.replace(
        "        Disk.archive(self", f"        {die}        Disk.archive(self"
    )
    assert child(program, queue, "between").end() == -9
    assert archive() == {"report.csv": b""}
    spool = open_spool(RAW)
    spool.use_archive(IN_QUEUE)
    assert put_back.recover(spool) == 1
    assert files() == {NAME: b"precious"}
    (queue / "report.csv").unlink()
    done(b"precious")
    assert archive() == {"report.csv": b"", "report~1.csv": b"precious"}


# -- where no archive can be ----------------------------------------------------------------------


def check(spool, options):
    spool.use_archive(options)
    spool.archive.check(spool)


def refusal(spool, options, error):
    with pytest.raises(error) as caught:
        check(spool, options)
    assert str(caught.value).startswith("archive")
    return str(caught.value)


@pytest.mark.parametrize("kind", ["link", "link to a directory here", "dangling", "file", "FIFO"])
def test_what_has_the_archives_name_and_is_no_directory_is_refused(
    open_spool, queue, tmp_path, kind
):
    (tmp_path / "elsewhere").mkdir()
    (queue / "mine").mkdir()
    path = queue / "archive"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "file":
        path.write_bytes(b"")
    else:
        target = {"link": tmp_path / "elsewhere", "dangling": tmp_path / "nowhere"}
        path.symlink_to(target.get(kind, queue / "mine"))
    assert "is no directory" in refusal(open_spool(RAW), IN_QUEUE, CannotCreate)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_that_comes_later_is_not_followed(done, archive, queue, tmp_path, put, terms):
    spool = done(b"first")
    (tmp_path / "elsewhere").mkdir()
    (queue / "archive").rename(queue / "moved")
    (queue / "archive").symlink_to(tmp_path / "elsewhere")
    put(NAME, b"second")
    claim = take(spool, NAME, Proof.RENAMED, terms())
    with pytest.raises(CannotCreate):
        moves.remove(spool, claim.parts)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (queue / "archive").unlink()
    assert moves.remove(spool, claim.parts), "and it is still there to be moved"
    assert archive() == {"report.csv": b"second"}


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_directory_in_the_queue_that_others_may_write_to_is_refused(open_spool, queue, mode):
    (queue / "archive").mkdir()
    (queue / "archive").chmod(mode)
    assert "chmod go-w" in refusal(open_spool(RAW), IN_QUEUE, NotPermitted)


def test_another_users_directory_in_the_queue_is_refused(open_spool, queue):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    (queue / "archive").mkdir()
    os.chown(queue / "archive", 12345, -1)
    assert "belongs to user 12345" in refusal(open_spool(RAW), IN_QUEUE, NotPermitted)


def test_what_root_makes_belongs_to_the_queues_owner(open_spool, queue):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(queue, 12345, 12345)
    check(spool := open_spool(RAW), DATED)
    os.close(spool.archive.open_folder(spool))
    made = [queue / "archive", *(queue / "archive").iterdir()]
    assert [path.stat().st_uid for path in made] == [12345, 12345]


def test_an_archive_on_another_file_system_is_refused(open_spool, queue):
    if os.stat("/dev/shm").st_dev == queue.stat().st_dev:
        pytest.skip("one file system")
    text = refusal(open_spool(RAW), ArchiveOptions(b"/dev/shm"), Unavailable)
    assert text.startswith("archive = /dev/shm: it is on another file system")


def test_another_mount_of_the_same_file_system_is_refused_too(open_spool, queue, monkeypatch):
    (queue.parent / "elsewhere").mkdir()
    spool = open_spool(RAW)
    numbers = {os.fstat(spool.fd).st_ino: b"1"}
    number = lambda fd: numbers.get(os.fstat(fd).st_ino, b"2")  # noqa: E731 - one line
    monkeypatch.setattr(mounts, "_number", number)
    options = ArchiveOptions(os.fsencode(queue.parent / "elsewhere"))
    assert "another mount" in refusal(spool, options, Unavailable)


@pytest.mark.parametrize("way", ["path", "link", "state_dir"])
def test_no_state_directory_of_any_queue_is_an_archive(open_spool, queue, tmp_path, way):
    state = tmp_path / ("outside" if way == "state_dir" else "other/.watcher")
    (state / "dead").mkdir(parents=True)
    (state / "inflight").mkdir()
    (state / "queue.json").write_bytes(b"{}")
    path = state / "dead"
    if way == "link":
        path = tmp_path / "link"
        path.symlink_to(state / "dead")
    text = refusal(open_spool(RAW), ArchiveOptions(os.fsencode(path)), NotPermitted)
    assert "a state directory of a queue" in text


def test_an_archive_beside_a_file_called_queue_json_is_no_state_directory(open_spool, queue):
    (queue / "queue.json").write_bytes(b"data")
    check(open_spool(RAW), IN_QUEUE)


def test_a_queue_may_be_another_ones_archive_but_nothing_is_removed_there(
    open_spool, queue, tmp_path
):
    (tmp_path / "next/.watcher").mkdir(parents=True)
    spool, path = open_spool(RAW), os.fsencode(tmp_path / "next")
    check(spool, ArchiveOptions(path))
    text = refusal(spool, ArchiveOptions(path, keep_for=30 * 86400.0), NotPermitted)
    assert "archive_for would remove what waits there" in text


def test_a_rename_that_the_kernel_calls_crossing_names_the_option(done, put, terms, monkeypatch):
    spool = done(b"first")
    monkeypatch.setattr(libc, "renameat2", lambda *_arguments: errno.EXDEV)
    put(NAME, b"second")
    claim = take(spool, NAME, Proof.RENAMED, terms())
    with pytest.raises(Unavailable, match="archive = archive: it is on another file system"):
        moves.remove(spool, claim.parts)


def test_the_queue_is_not_its_own_archive(open_spool, queue, tmp_path):
    (tmp_path / "link").symlink_to(queue)
    options = ArchiveOptions(os.fsencode(tmp_path / "link"))
    assert "the queue directory itself" in refusal(open_spool(RAW), options, NotPermitted)


def test_an_absolute_archive_must_exist(open_spool, tmp_path, done, queue):
    options = ArchiveOptions(os.fsencode(tmp_path / "elsewhere"), dated=True)
    assert "mkdir" in refusal(open_spool(RAW), options, NoSuch)
    (tmp_path / "elsewhere").mkdir()
    done(b"data", options=options)
    assert list(tree(tmp_path / "elsewhere").values()) == [b"data"]
    assert not (queue / "archive").exists()


def test_where_no_ctime_is_kept_only_dated_folders_tell_an_age(open_spool):
    spool = open_spool(RAW)
    spool.filesystem = "vfat"
    text = refusal(spool, ArchiveOptions(b"archive", keep_for=60.0), Unavailable)
    assert "archive_dated = true" in text
    check(spool, ArchiveOptions(b"archive", True, 60.0))


def test_its_descriptors_are_closed_with_the_queue(open_spool, descriptors):
    gc.collect()
    before = descriptors()
    spool = open_spool(RAW)
    days = iter(range(9))
    spool.archive = Archive(DATED, lambda: next(days) * DAY)
    for _ in range(9):
        os.close(spool.archive.open_folder(spool))
    assert descriptors() <= before + 3, "the queue, the archive, and the last day"
    del spool
    gc.collect()
    assert descriptors() == before


@pytest.mark.parametrize("layout", [RAW, Layout(), Layout(legacy=True)])
@pytest.mark.parametrize("name", [b"archive", b"archive.pck"])
def test_the_archive_is_no_entry_and_nothing_left_alone(open_spool, put, layout, name):
    spool = open_spool(layout)
    check(spool, ArchiveOptions(name + b"/handled"))
    put(b"x.pck")
    batch = scan(spool)
    assert [each.name for each in batch.entries] == [b"x.pck"]
    assert (batch.bystanders, batch.counts) == ([], {})


# -- an attempt ------------------------------------------------------------------------------------


@pytest.fixture
def attempt(terms):
    """Make attempts with a handler that is done; `calls` are the names it was given."""
    calls: list[str] = []
    troubles: list[str | None] = []

    def make(pause=lambda _seconds: False):
        patience = DiskRetry(pause, troubles.append)
        finisher = Finisher("q", terms(), Policy(), SystemClock(), lambda _record: None, patience)
        handler = Function(lambda entry: calls.append(entry.name))
        return Attempt(handler, finisher)

    make.calls, make.troubles = calls, troubles  # type: ignore[attr-defined]
    return make


def test_the_journal_says_where_it_went(open_spool, put, attempt, queue):
    spool = open_spool(RAW)
    spool.use_archive(IN_QUEUE)
    put(NAME)
    assert attempt()(spool, NAME, Proof.RENAMED).result is AttemptEnd.DONE
    spool.journal.flush()
    journal = (queue / ".watcher/journal").read_bytes()
    assert re.search(rb" report\.csv attempt=1 .*: to archive\n", journal)


def test_no_entry_is_handled_while_it_could_not_be_archived(open_spool, put, attempt, queue):
    (queue / "archive").write_bytes(b"in the way")
    spool = open_spool(RAW)
    spool.use_archive(IN_QUEUE)
    put(NAME)
    report = attempt()(spool, NAME, Proof.RENAMED)
    assert report.result is AttemptEnd.STUCK
    assert "archive = archive: archive is no directory" in report.why
    assert attempt.calls == []


class Refusing(Disk):
    """A disk that refuses to archive, for each error in `errors` once."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def archive(self, name: bytes, source: int, target_name: bytes, target: int) -> None:
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, os.strerror(code))
        super().archive(name, source, target_name, target)


def test_while_the_disk_refuses_the_move_it_is_repeated_and_not_the_handler(
    open_spool, put, attempt, archive
):
    spool = open_spool(RAW, Refusing(errno.ENOSPC, errno.EIO))
    spool.use_archive(IN_QUEUE)
    put(NAME)
    report = attempt(pause=lambda _seconds: True)(spool, NAME, Proof.RENAMED)
    assert report.result is AttemptEnd.DONE
    assert attempt.calls == ["report.csv"]
    troubles = ["No space left on device (errno 28)", "Input/output error (errno 5)", None]
    assert attempt.troubles == troubles
    assert list(archive()) == ["report.csv"]


def test_a_file_that_alone_is_refused_blocks_no_worker(open_spool, put, attempt, archive):
    spool = open_spool(RAW, Refusing(errno.EPERM))
    spool.use_archive(IN_QUEUE)
    put(NAME)
    one, now = attempt(), [0.0]
    one.settlement.unremovable = kept = Unremovable(lambda: now[0])
    assert one(spool, NAME, Proof.RENAMED).result is AttemptEnd.KEPT
    now[0] = 1e9
    assert [report.result for _name, report in kept.retry()] == [AttemptEnd.DONE]
    assert list(archive()) == ["report.csv"]
    assert attempt.calls == ["report.csv"]


# -- retention -------------------------------------------------------------------------------------


class Hands:
    """Clocks that a test sets."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.stepped = 0.0

    def real(self) -> int:
        return round((self.seconds + self.stepped) * SECOND)

    def mono(self) -> int:
        return round(self.seconds * SECOND)


@pytest.fixture
def kept(open_spool, queue):
    """An archive of 30 days with a file of now; return the spool, the archive and the clock."""
    spool = open_spool(RAW)
    check(spool, ArchiveOptions(b"archive", keep_for=30 * 86400.0))
    directory = queue / "archive"
    (directory / "report.csv").write_bytes(b"data")
    status = (directory / "report.csv").stat()
    return spool, directory, Hands(status.st_ctime_ns / SECOND)


def clear(spool, clock):
    """Make one pass; return how many files were removed."""
    retention = Retention(clock)
    while retention.batch(spool):
        pass
    return retention.removed


def test_what_is_older_is_removed_and_only_that(kept):
    spool, directory, clock = kept
    began = clock.seconds
    os.utime(directory / "report.csv", ns=(1, 1))  # another mtime is no age
    clock.seconds = began + 30 * 86400 - 1
    assert clear(spool, clock) == 0
    clock.seconds = began + 30 * 86400 + 60
    assert clear(spool, clock) == 1
    assert list(directory.iterdir()) == []


def test_an_archive_without_a_limit_keeps_everything(kept):
    spool, directory, clock = kept
    spool.use_archive(IN_QUEUE)
    clock.seconds += 1e9
    assert clear(spool, clock) == 0
    assert len(list(directory.iterdir())) == 1


def test_no_link_is_followed_and_no_other_folder_is_looked_into(kept, tmp_path):
    spool, directory, clock = kept
    outside = tmp_path / "outside"
    (outside / "2020-01-01").mkdir(parents=True)
    for path in (outside / "precious", outside / "2020-01-01/precious"):
        path.write_bytes(b"precious")
    (directory / "link").symlink_to(outside / "precious")
    (directory / "2020-01-01").symlink_to(outside / "2020-01-01")
    (directory / "2020-01-02").symlink_to(outside)
    (directory / "2020-01-03").mkdir()
    (directory / "2020-01-03/link").symlink_to(outside / "precious")
    (directory / "2020-01-03/folder").mkdir()
    (directory / "2020-01-03/folder/mine").write_bytes(b"")
    (directory / "keep").mkdir()
    (directory / "keep/2020-01-01").write_bytes(b"")
    os.mkfifo(directory / "FIFO")
    os.link(outside / "precious", directory / "second name")
    clock.seconds += 40 * 86400
    assert clear(spool, clock) == 2  # the report, and one of the names of a file
    assert (outside / "precious").read_bytes() == b"precious"
    assert tree(outside) == {"precious": b"precious", "2020-01-01/precious": b"precious"}
    assert sorted(path.name for path in directory.rglob("*")) == [
        "2020-01-01", "2020-01-01", "2020-01-02", "2020-01-03", "FIFO", "folder", "keep", "link",
        "link", "mine",
    ]  # fmt: skip


def test_a_day_that_is_over_for_long_is_removed_with_its_folder(kept):
    spool, directory, clock = kept
    day = directory / "2020-01-01"
    today = directory / "2020-01-02"
    for folder in (day, today):
        folder.mkdir()
        (folder / "file").write_bytes(b"")
    clock.seconds += 30 * 86400 + 60
    assert clear(spool, clock) == 3
    assert list(directory.iterdir()) == []
    day.mkdir()
    clock.seconds = 18_262 * 86400 + 30 * 86400 + 60  # 2020-01-01 and 30 days: just over for a part
    assert clear(spool, clock) == 0
    assert day.exists(), "its last hour is not so old yet"


def test_a_file_that_is_claimed_is_removed_by_the_next_pass(kept):
    """`requeue` is about to take it out of the archive."""
    spool, directory, clock = kept
    clock.seconds += 40 * 86400
    with open(directory / "report.csv", "rb") as claimed:
        fcntl.flock(claimed, fcntl.LOCK_EX)
        assert clear(spool, clock) == 0
    assert clear(spool, clock) == 1


def test_a_new_file_in_the_place_of_an_old_one_is_not_removed(kept):
    """`requeue` took the old one, and the queue's next entry of that name is archived already."""
    spool, directory, clock = kept

    class Replacing(Disk):
        def open(self, name, folder):
            (directory / "report.csv").rename(directory.parent / "report.csv")
            (directory / "report.csv").write_bytes(b"new")
            return super().open(name, folder)

    spool.disk = Replacing()
    clock.seconds += 40 * 86400
    assert clear(spool, clock) == 0
    assert tree(directory) == {"report.csv": b"new"}


def test_a_step_of_the_clock_removes_nothing_for_a_day(kept):
    spool, directory, clock = kept
    retention = Retention(clock)
    assert not retention.batch(spool, seconds=60.0)
    clock.stepped = 365 * 86400.0
    assert not retention.batch(spool, seconds=60.0)
    clock.seconds += 86400 - 1
    assert not retention.batch(spool, seconds=60.0)
    assert len(list(directory.iterdir())) == 1
    clock.seconds += 2
    assert not retention.batch(spool, seconds=60.0)
    assert retention.removed == 1


def test_a_batch_is_bounded_and_the_next_goes_on_where_it_ended(kept):
    spool, directory, clock = kept
    for number in range(99):
        (directory / f"{number}").write_bytes(b"")
    clock.seconds += 40 * 86400
    retention = Retention(clock)
    left = []
    while retention.batch(spool, 10, 60.0):
        left.append(len(list(directory.iterdir())))
    assert left[:3] == [90, 80, 70]
    assert retention.removed == 100
    assert list(directory.iterdir()) == []


def test_nothing_is_removed_once_the_archive_is_a_queue(kept):
    spool, directory, clock = kept
    clock.seconds += 40 * 86400
    (directory / ".watcher").mkdir()  # the daemon of that queue started later
    with pytest.raises(NotPermitted, match="it is a queue, too"):
        clear(spool, clock)
    assert (directory / "report.csv").exists()


def test_nothing_is_removed_from_a_folder_of_a_day_that_is_a_queue(kept):
    spool, directory, clock = kept
    (directory / "2001-01-01/.watcher").mkdir(parents=True)
    (directory / "2001-01-01/entry").write_bytes(b"")
    clock.seconds += 40 * 86400
    assert clear(spool, clock) == 1
    assert (directory / "2001-01-01/entry").exists()


def test_a_file_that_cannot_be_removed_stays_and_the_others_go(kept, monkeypatch):
    spool, directory, clock = kept
    (directory / "pinned").write_bytes(b"")
    real = Disk.unlink

    def refuse(self, name, where):
        if name == b"pinned":
            raise PermissionError(errno.EPERM, "pinned")
        real(self, name, where)

    monkeypatch.setattr(Disk, "unlink", refuse)
    clock.seconds += 40 * 86400
    assert clear(spool, clock) == 1
    assert [path.name for path in directory.iterdir()] == ["pinned"]


def test_an_archive_that_cannot_be_opened_is_an_error(kept):
    spool, directory, clock = kept
    directory.rename(directory.parent / "moved")
    directory.write_bytes(b"")
    with pytest.raises(WatcherError, match="is no directory"):
        clear(spool, clock)


def test_many_files_of_one_name_cost_few_looks(done, archive, queue, monkeypatch):
    """The number is found by bisection: two hundred namesakes take some twenty looks."""
    directory = queue / "archive"
    directory.mkdir()
    for number in range(1, 200):
        (directory / f"report~{number}.csv").touch()
    (directory / "report.csv").touch()
    looks = []
    real = os.stat

    def counting(path, **rest):
        looks.append(path)
        return real(path, **rest)

    monkeypatch.setattr(os, "stat", counting)
    done(b"data")
    looks = [os.fsencode(look) for look in looks if not isinstance(look, int)]
    assert 10 < len([look for look in looks if look.startswith(b"report~")]) < 40
    assert archive()["report~200.csv"] == b"data"
