"""A queue with markers: taken by the marker alone, and never completed by a marker left behind.

A crash may come before every call to the disk. Then the writer begins its next file under the same
name, in place; and a fresh process sweeps.
"""

from __future__ import annotations

import os

import pytest

from watcher.attempt import Attempt
from watcher.claim.take import take
from watcher.recovery import recover
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.rules.results import (
    HANDLED,
    AttemptEnd,
    HandlerResult,
    NotClaimed,
    Reason,
    Renamed,
    Verdict,
)
from watcher.rules.retry import Policy
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.disk import Disk
from watcher.sweep import Limits, Sweep, SweepOptions

pytestmark = [pytest.mark.promise1, pytest.mark.promise2, pytest.mark.promise4]

MARKED = Layout(b"", raw=True, marker=b"{name}.done")
BUSY = Layout(b"", raw=True, companions=(b"{name}.aria2", b".~lock.{name}#"))
NAME, DONE = b"report.csv", b"report.csv.done"
OLD, HALF, NEW = b"yesterday's", b"tod", b"today's"
LATER = 1e9  # seconds: a grace age that no file of a test comes to
DAY = 86_400
VERDICTS = [HANDLED, HandlerResult(Verdict.RETRY, "later"), HandlerResult(Verdict.REJECT, "no")]


class Clock(SystemClock):
    """The kernel's clock, set forward: what is deferred is due."""

    def __init__(self, ahead=0):
        self._ahead_ns = ahead * 1_000_000_000

    def real(self):
        return super().real() + self._ahead_ns


class Handler:
    """Says one thing of every entry, and keeps what it was given."""

    def __init__(self, said=HANDLED, then=lambda: None):
        self.given = []
        self._said, self._then = said, then

    def run(self, entry):
        self.given.append(entry.message)
        self._then()
        return self._said


class Dying(Disk):
    """A disk whose process dies before the `left`th call that changes names."""

    def __init__(self, left):
        self.left = left

    def _tick(self):
        self.left -= 1
        if self.left == 0:
            os._exit(9)

    def unlink(self, name, directory):
        self._tick()
        super().unlink(name, directory)

    def move(self, name, source, target_name, target):
        self._tick()
        super().move(name, source, target_name, target)

    def move_aside(self, name, source, target):
        self._tick()
        super().move_aside(name, source, target)

    def link_and_unlink(self, name, source, target_name, target):
        self._tick()
        super().link_and_unlink(name, source, target_name, target)

    def write_note(self, name, directory, data, *, durable=True):
        self._tick()
        super().write_note(name, directory, data, durable=durable)


def finisher(clock):
    return Finisher(
        *("q", ClaimOptions(LATER, Ages(clock)), Policy(), clock),
        *(lambda _record: None, DiskRetry(lambda _seconds: False, lambda _text: None)),
    )


def attempt(spool, handler, name=NAME):
    return Attempt(handler, finisher(SystemClock()))(spool, name, Proof.NONE)


def sweep(spool, ahead=0):
    """Sweep once as a fresh process would; return what the handler was given."""
    handler = Handler()
    clock = Clock(ahead)
    orders = SweepOptions("q", ClaimOptions(LATER, Ages(clock)), Policy(), clock)
    for _ in Sweep(spool, orders, handler, Limits()).lines(lambda _record: None):
        pass
    return handler.given


def in_a_child(work):
    """Run `work` in a process of its own; return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def write(queue, name, data, how="wb"):
    """Write a file in place, as `cp` does."""
    with open(os.fsencode(queue) + b"/" + name, how) as file:
        file.write(data)


@pytest.fixture
def marked(queue):
    """An entry and its marker."""
    write(queue, NAME, OLD)
    write(queue, DONE, b"")


def took(spool, name=NAME, grace=LATER):
    """Claim and release; return the refusal, or None."""
    made = take(spool, name, Proof.RENAMED, ClaimOptions(grace, Ages(SystemClock())))
    if isinstance(made, Claim):
        made.release()
        return None
    return made


# -- what is complete -------------------------------------------------------------------------


def test_without_its_marker_no_age_and_no_rename_makes_an_entry_complete(open_spool, queue):
    write(queue, NAME, OLD)
    refused = took(open_spool(MARKED), grace=0.0)
    assert (refused.refusal, refused.why) == (
        Reason.UNPROVEN,
        f"waits for its marker {DONE.decode()}",
    )


@pytest.mark.parametrize("how", ["in place", "renamed", "linked", "open"])
def test_its_marker_completes_it_however_it_came(open_spool, queue, how):
    write(queue, NAME, OLD)
    spool = open_spool(MARKED)
    assert took(spool) is not None
    path, scratch = queue / os.fsdecode(DONE), queue / ".scratch"
    if how == "open":
        with path.open("wb"):
            assert took(spool) is None
    else:
        (path if how == "in place" else scratch).write_bytes(b"")
        if how == "renamed":
            scratch.rename(path)
        elif how == "linked":
            path.hardlink_to(scratch)
    assert took(spool) is None


def test_an_entry_that_is_renamed_in_after_its_marker_is_complete(open_spool, queue):
    write(queue, b".scratch", OLD)
    write(queue, DONE, b"")
    (queue / ".scratch").rename(queue / os.fsdecode(NAME))
    assert took(open_spool(MARKED)) is None


def test_a_writer_keeps_an_entry_from_being_taken_though_its_marker_is_there(
    open_spool, queue, marked
):
    with (queue / os.fsdecode(NAME)).open("ab"):
        refused = took(open_spool(MARKED))
    assert (refused.refusal, refused.proof) == (Reason.WRITER, Proof.NO_WRITER)  # looked at soon


def test_a_marker_left_behind_completes_no_later_file_at_once(open_spool, queue):
    write(queue, DONE, b"")
    os.utime(queue / os.fsdecode(DONE))  # its ctime is that of the kernel's clock, before
    write(queue, NAME, HALF)
    later = os.stat(queue / os.fsdecode(DONE)).st_ctime_ns + 1
    while os.stat(queue / os.fsdecode(NAME)).st_mtime_ns < later:  # one tick of the clock
        write(queue, NAME, HALF)
    refused = took(open_spool(MARKED))
    assert refused.refusal is Reason.YOUNG
    assert refused.why == "its marker is older than its last write"
    assert took(open_spool(MARKED), grace=0.0) is None  # and does not wait for ever
    (queue / os.fsdecode(DONE)).touch()
    assert took(open_spool(MARKED)) is None


def test_a_directory_of_the_markers_name_is_no_marker(open_spool, queue):
    write(queue, NAME, OLD)
    (queue / os.fsdecode(DONE)).mkdir()
    assert took(open_spool(MARKED)).refusal is Reason.UNPROVEN


def test_a_name_that_leaves_no_room_for_its_marker_waits(open_spool, queue):
    name = b"n" * 255
    write(queue, name, OLD)
    assert took(open_spool(MARKED), name).refusal is Reason.UNPROVEN


@pytest.mark.parametrize("companion", ["report.csv.aria2", ".~lock.report.csv#"])
def test_an_entry_waits_until_its_companion_is_gone_and_its_rename_is_not_forgotten(
    open_spool, queue, companion
):
    write(queue, NAME, OLD)
    (queue / companion).write_bytes(b"")
    spool = open_spool(BUSY)
    refused = took(spool)
    assert isinstance(refused, NotClaimed)
    assert refused.refusal is Reason.UNPROVEN
    assert refused.why == f"waits until its companion {companion} is gone"
    assert (refused.proof, type(refused.renamed)) == (Proof.RENAMED, Renamed)
    assert took(spool, grace=0.0) is not None
    (queue / companion).unlink()
    assert took(spool) is None


# -- what becomes of the marker ---------------------------------------------------------------


@pytest.mark.parametrize("said", VERDICTS, ids=lambda said: said.verdict.value)
def test_the_marker_goes_with_its_entry(open_spool, queue, files, marked, said):
    attempt(open_spool(MARKED), Handler(said))
    assert files() == {}
    left = {path.name for path in queue.rglob("*") if path.is_file() and path.name[0] != "."}
    assert not [name for name in left if name.endswith(".done")]


def test_the_marker_goes_before_a_done_entry(open_spool, behind, queue, files, marked):
    seen = []
    behind.acts["after move_aside"] = lambda: seen.append(dict(files()))
    attempt(open_spool(MARKED, behind), Handler())
    assert seen == [{NAME: OLD}]


@pytest.mark.parametrize("said", VERDICTS[1:], ids=lambda said: said.verdict.value)
def test_an_entry_that_was_not_handled_goes_before_its_marker(
    open_spool, behind, queue, files, marked, said
):
    """The writer may take the marker's absence for leave to write into the entry."""
    seen = []
    behind.acts["move_aside"] = lambda: seen.append(dict(files()))
    attempt(open_spool(MARKED, behind), Handler(said))
    assert seen == [{DONE: b""}]


def test_a_marker_that_is_written_in_two_steps_goes_too(open_spool, queue, files, marked):
    spool = open_spool(MARKED)
    attempt(spool, Handler(then=lambda: write(queue, DONE, b"sum 123")))
    assert files() == {}


def test_an_entry_that_its_handler_moved_away_takes_its_marker_along(
    open_spool, queue, files, marked
):
    def move():
        (queue / os.fsdecode(NAME)).rename(queue.parent / "elsewhere")

    attempt(open_spool(MARKED), Handler(then=move))
    assert files() == {}


@pytest.mark.parametrize("said", VERDICTS, ids=lambda said: said.verdict.value)
@pytest.mark.parametrize("how", ["in place", "renamed over"])
@pytest.mark.parametrize("complete", [True, False])
def test_a_new_file_of_the_name_keeps_its_own_marker_and_loses_the_old_ones(
    open_spool, queue, files, marked, said, how, complete
):
    """The writer does not wait for its first file to be handled."""
    data = NEW if complete else HALF

    def again():
        if how == "in place":
            write(queue, NAME, data)
        else:
            write(queue, b".scratch", data)
            (queue / ".scratch").rename(queue / os.fsdecode(NAME))
        if complete:
            write(queue, DONE, b"new")

    spool = open_spool(MARKED)
    attempt(spool, Handler(said, again))
    if how == "in place" and said is not HANDLED:
        return  # it is one file: the new bytes are in deferred/ or dead/
    assert files() == {NAME: data} | ({DONE: b"new"} if complete else {})
    assert sweep(spool, DAY) == ([NEW] if complete else [])
    if not complete:
        assert files() == {NAME: data}
        write(queue, NAME, NEW)
        write(queue, DONE, b"")
        assert sweep(spool) == [NEW]
    assert files() == {}


# -- crashes ----------------------------------------------------------------------------------


def dies(queue, open_spool, said, call):
    """Have a process die before the `call`th call; return whether it came to that call."""

    def work():
        attempt(open_spool(MARKED, Dying(call)), Handler(said))

    return in_a_child(work) == 9


@pytest.mark.parametrize("writer", ["waits", "sees the entry gone", "sees the marker gone"])
@pytest.mark.parametrize("said", VERDICTS, ids=lambda said: said.verdict.value)
@pytest.mark.parametrize("call", range(1, 9))
def test_a_crash_before_any_call_leaves_nothing_stuck_and_nothing_early(
    open_spool, queue, files, marked, said, writer, call
):
    """The writer begins its next file as soon as it takes the first one for handled."""
    dies(queue, open_spool, said, call)
    began = {
        "waits": False,
        "sees the entry gone": NAME not in files(),
        "sees the marker gone": DONE not in files(),
    }[writer]
    if began:
        write(queue, NAME, HALF, "wb" if NAME not in files() else "r+b")
        os.truncate(queue / os.fsdecode(NAME), len(HALF))
    given = sweep(open_spool(MARKED), DAY) + sweep(open_spool(MARKED), 2 * DAY)
    assert HALF not in given
    assert given.count(OLD) <= 1
    if said.verdict is Verdict.RETRY:
        assert given == [OLD]
    if began:
        assert files().get(NAME) == HALF
        write(queue, NAME, NEW)
        write(queue, DONE, b"")
        assert sweep(open_spool(MARKED), 3 * DAY) == [NEW]
    assert files() == {}
    assert not list((queue / ".watcher/inflight").glob("*/*.done"))


@pytest.mark.parametrize("call", range(1, 5))
def test_a_marker_with_an_old_time_of_its_own_leaves_nothing_stuck_after_a_crash(
    open_spool, queue, files, marked, call
):
    """As `cp -p` and `rsync -t` make one."""
    os.utime(queue / os.fsdecode(DONE), (0, 0))
    assert dies(queue, open_spool, HANDLED, call)
    given = sweep(open_spool(MARKED), DAY) + sweep(open_spool(MARKED), 2 * DAY)
    assert given in ([], [OLD])
    assert files() == {}


def test_a_new_marker_with_an_old_time_of_its_own_is_kept_for_the_new_file(
    open_spool, queue, files, marked
):
    def again():
        write(queue, NAME, NEW)
        write(queue, DONE, b"new")
        os.utime(queue / os.fsdecode(DONE), (0, 0))

    spool = open_spool(MARKED)
    attempt(spool, Handler(then=again))
    assert sweep(spool) == [NEW]
    assert files() == {}


@pytest.mark.parametrize("said", VERDICTS, ids=lambda said: said.verdict.value)
def test_the_calls_of_these_tests_are_enough(open_spool, queue, marked, said):
    assert not dies(queue, open_spool, said, 9)


def test_a_done_entry_is_handled_again_after_a_power_failure_that_lost_the_ledger(
    open_spool, queue, files, marked
):
    assert dies(queue, open_spool, HANDLED, 2)
    assert DONE not in files()
    for ledger in (queue / ".watcher/inflight").glob("*/.ledger"):
        ledger.unlink()
    spool = open_spool(MARKED)
    recover(spool, finisher(SystemClock()))
    assert set(files()) == {NAME, DONE}
    assert sweep(spool) == [OLD]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_a_marker_that_cannot_be_removed_is_known_before_the_handler_runs(
    open_spool, queue, marked
):
    spool = open_spool(MARKED)
    spool.sticky, spool.euid = True, os.stat(queue / os.fsdecode(NAME)).st_uid
    assert took(spool) is None
    os.chown(queue / os.fsdecode(DONE), 12345, -1) if os.geteuid() == 0 else pytest.skip(
        "root only"
    )
    assert took(spool).refusal is Reason.PINNED


def test_a_deferred_entry_needs_no_marker(open_spool, files, marked):
    spool = open_spool(MARKED)
    assert attempt(spool, Handler(VERDICTS[1])).result is AttemptEnd.DEFERRED
    assert files() == {}
    assert any(name.endswith(NAME) for name in files(State.DEFERRED))
    assert sweep(spool, DAY) == [OLD]
