"""A done file that lay aside when its process died, whose name a replacement has: its key stays."""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple

import pytest

from watcher.attempt import Attempt
from watcher.claim.take import take
from watcher.handle.entry import Entry
from watcher.recovery import Recovered, recover
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.form import Form
from watcher.rules.lifecycle import State
from watcher.rules.names import DEFERRED, Layout
from watcher.rules.results import HANDLED, NotClaimed, Reason
from watcher.rules.retry import Policy
from watcher.rules.stamp import parse
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool.claimed import ClaimOptions
from watcher.spool.disk import Disk
from watcher.spool.part import Part

PCK, RAW, ANY = Layout(), Layout(b".csv", raw=True), Layout(b"", raw=True)
LONG = b"x" * 230
CASES = [
    (PCK, b"X.pck"),
    (RAW, b"X.csv"),
    (ANY, b"report"),
    (ANY, b"report.json"),
    (ANY, b"20200101T000000.000Z-a1-c0-d1-w1-X"),  # looks as if it were stamped already
    (RAW, LONG + b".csv"),
    (PCK, b"x" * 251 + b".pck"),
]
KINDS = pytest.mark.parametrize(("layout", "name"), CASES, ids=lambda it: ascii(it)[:20])
OLD, NEW = b"yesterday's", b"today's"


class Seen(NamedTuple):
    """What a handler was given."""

    name: str
    attempt: int
    crashes: int
    key: str


class Handler:
    """Calls everything done, and keeps what it was given."""

    def __init__(self):
        self.given = []

    def run(self, entry):
        self.given.append(Seen(entry.name, entry.attempt, entry.crashes, entry.key))
        return HANDLED


class Dying(Disk):
    """A disk whose process dies at the first unlink of a file aside."""

    def unlink(self, name, directory):  # noqa: ARG002 - as `Disk`
        os._exit(9)


class Countdown(Disk):
    """A disk whose process dies before the `left`th of its calls; a move is two where asked."""

    def __init__(self, left, *, noreplace):
        self.left = left
        self.noreplace = noreplace

    def _tick(self):
        self.left -= 1
        if self.left == 0:
            os._exit(9)

    def unlink(self, name, directory):
        self._tick()
        super().unlink(name, directory)

    def sync(self, directory):
        self._tick()
        super().sync(directory)

    def write_note(self, name, directory, data, *, durable=True):
        self._tick()
        super().write_note(name, directory, data, durable=durable)

    def move(self, name, source, target_name, target):
        self._tick()
        if self.noreplace:
            super().move(name, source, target_name, target)
            return
        with self._held(name, source):
            os.link(name, target_name, src_dir_fd=source, dst_dir_fd=target)
            self._tick()
            os.unlink(name, dir_fd=source)


def settle_by(grace=300.0):
    clock = SystemClock()
    patience = DiskRetry(lambda _seconds: False, lambda _text: None)
    return Finisher(
        "q", ClaimOptions(grace, Ages(clock)), Policy(), clock, lambda _record: None, patience
    )


def attempt(spool, name):
    """Handle one entry; return what the handler was given."""
    handler = Handler()
    Attempt(handler, settle_by())(spool, name, Proof.RENAMED)
    (seen,) = handler.given
    return seen


def key_of(path, layout, name):
    """Return the key that the entry `name` has while its file lies at `path`."""
    fd = os.open(path, os.O_RDONLY)
    try:
        now = os.fstat(fd)
        part = Part(name, fd, now.st_ino, now.st_size, now.st_ctime_ns, now.st_mtime_ns)
        entry = Entry(
            queue="q",
            name=layout.stem(name),
            key_name=layout.key_name(layout.stem(name)),
            directory=b"/",
            parts=(part,),
            form=Form.RAW,
            is_unique_name=layout.is_unique_name(name),
        )
        return entry.key
    finally:
        os.close(fd)


def in_a_child(work):
    """Run `work` in a process of its own; return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def left_aside(open_spool, put):
    """Have a process die between the rename and the unlink of a done file; put a replacement."""

    def leave(layout=ANY, name=b"report"):
        put(name, OLD)
        assert in_a_child(lambda: attempt(open_spool(layout, Dying()), name)) == 9
        put(name, NEW)

    return leave


@pytest.fixture
def deferred(files):
    """Return the entries in deferred/ by the names that they have there."""

    def read():
        return {name: data for name, data in files(State.DEFERRED).items() if b"since" not in data}

    return read


@pytest.fixture
def aside(queue):
    """Return the one file that lies aside."""

    def find():
        found = [path for path in (queue / ".watcher/inflight").glob("*/*") if path.name[0] != "."]
        (path,) = [path for path in found if path.is_file()]
        return path

    return find


@KINDS
def test_it_waits_in_deferred_due_now_and_keeps_name_and_key(
    open_spool, put, files, deferred, left_aside, aside, layout, name
):
    left_aside(layout, name)
    key = key_of(aside(), layout, name)
    spool = open_spool(layout)
    assert recover(spool, settle_by()) == Recovered(1, 0)
    assert files() == {name: NEW}
    ((stamped, data),) = deferred().items()
    schedule, _ = parse(stamped)
    assert (data, schedule.attempts, schedule.crashes, schedule.delay) == (OLD, 0, 0, 0)
    assert schedule.due_ms <= SystemClock().real() // 1_000_000
    stem = os.fsdecode(layout.stem(name))
    assert attempt(spool, DEFERRED + stamped) == (stem, 1, 0, key)
    assert attempt(spool, name).key != key
    assert files() == {}
    assert deferred() == {}
    assert os.listdir(os.path.join(spool.path, b".watcher/inflight")) != []  # our own
    assert recover(open_spool(layout), settle_by()) == Recovered()


@pytest.mark.parametrize("written", [True, False])
def test_what_was_written_to_while_it_was_in_hand_waits_for_its_age(
    open_spool, queue, terms, left_aside, aside, written
):
    """Its times, and the event of its link, would call it complete: its writer may write more."""
    left_aside()
    (queue / "report").unlink()
    moved = aside().stat().st_ctime_ns  # later than the claim
    while written and aside().stat().st_mtime_ns <= moved:  # until the kernel's clock ticks
        aside().write_bytes(OLD + b" and more")
    assert recover(open_spool(ANY), settle_by()) == Recovered(1, 0)
    heard = terms()._replace(closed=lambda _name: False)
    for proof in (Proof.NO_WRITER, Proof.LINKED):
        found = take(open_spool(ANY), b"report", proof, heard)
        assert isinstance(found, NotClaimed) is written
        if isinstance(found, NotClaimed):
            assert found.refusal is Reason.YOUNG
        else:
            found.release()


def test_the_ledger_is_evidence_where_there_are_no_leases(open_spool, files, deferred, left_aside):
    left_aside()
    spool = open_spool(ANY)
    spool.leases = False
    assert recover(spool, settle_by()).files == 1
    assert list(deferred().values()) == [OLD]
    assert files() == {b"report": NEW}


@pytest.mark.parametrize("what", ["another's ledger", "written to since", "no ledger"])
def test_without_it_what_is_young_goes_beside_the_replacement(
    open_spool, files, deferred, left_aside, aside, what
):
    left_aside()
    path = aside()
    if what == "written to since":
        os.utime(path, ns=(0, 4_000_000_000_000_000_000))  # whatever the clock's grain
    elif what == "no ledger":
        (path.parent / ".ledger").unlink()
    else:
        (path.parent / ".ledger").write_bytes(b"1 9999999999999999999 queue/report\n")
    spool = open_spool(ANY)
    spool.leases = False
    assert recover(spool, settle_by()).files == 1
    assert files() == {b"report": NEW, b"report~1": OLD}
    assert deferred() == {}


@pytest.mark.parametrize("grace", [0.0, 300.0])
def test_where_no_ledger_knows_it_its_age_and_a_lease_tell(
    open_spool, files, deferred, left_aside, aside, grace
):
    """It may be a replacement that is written in place, and was closed for a moment."""
    left_aside()
    (aside().parent / ".ledger").unlink()
    assert recover(open_spool(ANY), settle_by(grace)).files == 1
    beside = {b"report~1": OLD} if grace else {}
    assert files() == {b"report": NEW} | beside
    assert list(deferred().values()) == ([] if grace else [OLD])


def test_what_is_being_written_is_not_deferred(open_spool, files, deferred, left_aside, aside):
    left_aside()
    with aside().open("ab"):
        assert recover(open_spool(ANY), settle_by()).files == 1
    assert files() == {b"report": NEW, b"report~1": OLD}
    assert deferred() == {}


def test_a_child_of_its_handler_that_kept_the_claim_is_no_writer(
    open_spool, files, deferred, left_aside, aside
):
    left_aside()
    with aside().open("rb") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        assert recover(open_spool(ANY), settle_by()).files == 1
    assert files() == {b"report": NEW}
    assert list(deferred().values()) == [OLD]


def test_where_deferred_cannot_be_made_it_goes_beside_the_replacement(
    open_spool, files, queue, left_aside
):
    left_aside()
    (queue / ".watcher/deferred").write_bytes(b"in the way")
    assert recover(open_spool(ANY), settle_by()).files == 1
    assert files() == {b"report": NEW, b"report~1": OLD}
    assert list((queue / ".watcher/inflight").iterdir()) == []


@pytest.mark.parametrize("noreplace", [True, False])
@pytest.mark.parametrize("step", range(1, 9))
def test_whichever_step_a_recovery_dies_at_the_next_one_ends_it(
    open_spool, files, queue, deferred, left_aside, noreplace, step
):
    left_aside()
    disk = Countdown(step, noreplace=noreplace)
    in_a_child(lambda: recover(open_spool(ANY, disk), settle_by()))
    recover(open_spool(ANY), settle_by())
    assert files() == {b"report": NEW}
    ((stamped, data),) = deferred().items()
    assert data == OLD
    assert os.stat(os.path.join(os.fsencode(queue), b".watcher/deferred", stamped)).st_nlink == 1
    assert list((queue / ".watcher/inflight").iterdir()) == []


def test_a_file_in_the_middle_of_anothers_move_keeps_both_its_names(
    open_spool, files, queue, deferred, left_aside, aside
):
    """Its mover would take back the one in deferred/, and that would be the last."""
    left_aside()
    (queue / ".watcher/deferred").mkdir(mode=0o700)
    stamped = queue / ".watcher/deferred/20200101T000000.000Z-a1-c0-d1-w1-report"
    stamped.hardlink_to(aside())
    with stamped.open("rb") as mover:
        fcntl.flock(mover, fcntl.LOCK_EX)
        assert recover(open_spool(ANY), settle_by()).files == 0
        assert aside().samefile(stamped)
        stamped.unlink()
    assert recover(open_spool(ANY), settle_by()).files == 1
    assert files() == {b"report": NEW}
    assert list(deferred().values()) == [OLD]
