"""A file that cannot be removed is not handled, or once; it is named, and blocks nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from watcher.attempt import Attempt
from watcher.claim.take import take
from watcher.handle.function import Function
from watcher.handle.handler import Retry
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.rules.results import AttemptEnd, NotClaimed, Reason
from watcher.rules.retry import Policy
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.settle.unremovable import FIRST, Unremovable
from watcher.spool.claimed import Claim, ClaimOptions

RAW = Layout(b"", raw=True)
STRANGER, OTHER = 65534, 1
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to play two users")


def as_user(uid, work):
    """Return what `work` returns in a child that has become another user."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(write, str(work()).encode())
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(write, repr(error).encode())
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as told:
        said = told.read()
    os.waitpid(pid, 0)
    return said


@pytest.fixture
def public():
    """A directory that every user can come to."""
    path = Path(tempfile.mkdtemp(prefix="watcher-test-"))
    path.chmod(0o1777)
    yield path
    subprocess.run(["chattr", "-R", "-i", "-a", path], check=False, capture_output=True)
    shutil.rmtree(path)


@AS_ROOT
@pytest.mark.parametrize(
    ("mode", "owner", "uid", "taken"),
    [
        (0o1777, OTHER, STRANGER, False),
        (0o1777, STRANGER, STRANGER, True),
        (0o1777, OTHER, 0, True),  # root has CAP_FOWNER
        (0o777, OTHER, STRANGER, True),
    ],
)
def test_in_a_sticky_directory_another_users_file_is_refused_before_any_handler(
    public, open_spool, terms, mode, owner, uid, taken
):
    from watcher.spool.spool import Spool

    (public / "a.csv").write_bytes(b"data")
    os.chown(public / "a.csv", owner, owner)
    public.chmod(mode)

    def attempt():
        found = take(Spool(os.fsencode(public), RAW), b"a.csv", Proof.RENAMED, terms())
        return found.why if isinstance(found, NotClaimed) else "taken"

    said = as_user(uid, attempt)
    assert (said == "taken") is taken, said
    if not taken:
        assert said.startswith("a.csv: cannot be removed: the directory is sticky")


@AS_ROOT
def test_check_and_list_tell_of_files_that_cannot_be_removed(public):
    from watcher.inspect.check_directory import check_directory
    from watcher.inspect.list_entries import list_entries
    from watcher.spool.spool import Spool

    (public / "a.csv").write_bytes(b"data")
    os.chown(public / "a.csv", OTHER, OTHER)

    import encodings.ascii  # another user may not be able to read the interpreter's modules
    import encodings.idna

    del encodings

    def look():
        spool = Spool(os.fsencode(public), RAW)
        said = [check.what for check in check_directory(spool, 1.0) if check.about == "permission"]
        return [*said, *(found.why for found in list_entries(spool))]

    said = as_user(STRANGER, look)
    assert "sticky, and another user's: other users' files cannot be removed" in said
    assert "cannot be removed: the directory is sticky" in said


def pin(path, attribute):
    done = subprocess.run(["chattr", f"+{attribute}", path], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"no attributes to be set here: {done.stderr.decode().strip()}")


@pytest.mark.parametrize("attribute", ["i", "a"])
def test_a_pinned_file_that_a_scan_finds_is_refused_before_any_handler(
    public, attribute, terms, attempt_with
):
    from watcher.spool.spool import Spool

    (public / "a.csv").write_bytes(b"data")
    pin(public / "a.csv", attribute)
    attempt, calls, _ = attempt_with()
    spool = Spool(os.fsencode(public), RAW)
    claim = take(spool, b"a.csv", Proof.NONE, terms(0))
    assert isinstance(claim, Claim)
    claim.release()
    report = attempt(spool, b"a.csv", Proof.NONE)
    assert report.result is AttemptEnd.PINNED
    assert f"chattr -{attribute}" in report.why
    assert calls == []


# -- refused after the handler's word -----------------------------------------------------------


class Refusing:
    """Has a disk refuse to move or remove the files of one name."""

    def __init__(self, disk, name):
        self.refuses = True
        for what in ("move", "move_aside", "unlink"):
            act = getattr(disk, what)

            def call(first, *rest, _act=act):
                if self.refuses and first == name:
                    raise PermissionError(1, "Operation not permitted")
                return _act(first, *rest)

            setattr(disk, what, call)


@pytest.fixture
def attempt_with():
    """Make attempts with a handler that does as told; return them, its calls, and what is kept."""

    def make(says=None, limit=64):
        now, calls = [0.0], []

        def handler(entry):
            calls.append(entry.name)
            if says is not None:
                raise says

        clock = SystemClock()
        patience = DiskRetry(lambda _seconds: False, lambda _text: None)
        settlement = Finisher(
            "q", ClaimOptions(0.0, Ages(clock)), Policy(), clock, lambda _told: None, patience
        )
        settlement.unremovable = Unremovable(lambda: now[0], limit)
        return Attempt(Function(handler), settlement), calls, (settlement.unremovable, now)

    return make


@pytest.mark.parametrize(
    ("says", "result", "state"),
    [
        (None, AttemptEnd.DONE, None),
        (Retry("later"), AttemptEnd.DEFERRED, State.DEFERRED),
    ],
)
def test_one_entry_that_cannot_go_blocks_no_worker_and_is_not_handled_again(
    open_spool, put, files, behind, attempt_with, says, result, state
):
    refusing = Refusing(behind, b"a.csv")
    attempt, calls, (kept, now) = attempt_with(says)
    spool = open_spool(RAW, behind)
    put(b"a.csv")
    report = attempt(spool, b"a.csv", Proof.RENAMED)
    assert report.result is AttemptEnd.KEPT
    assert report.why.startswith("a.csv: finished with, but it cannot be moved: Operation not")
    assert attempt(spool, b"a.csv", Proof.NONE).result is AttemptEnd.BUSY
    put(b"b.csv")
    assert attempt(spool, b"b.csv", Proof.RENAMED).result is result
    assert calls == ["a.csv", "b.csv"]

    assert kept.retry() == []
    assert kept.next() == FIRST
    now[0] = FIRST
    assert kept.retry() == []  # refused again: later, and ever later
    assert kept.next() > 2 * FIRST
    refusing.refuses = False
    now[0] = kept.next()
    ((name, after),) = kept.retry()
    assert (name, after.result, len(kept)) == (b"a.csv", result, 0)
    assert b"a.csv" not in files()
    assert state is None or any(name.endswith(b"-a.csv") for name in files(state))
    assert calls == ["a.csv", "b.csv"]


def test_a_replacement_to_the_name_of_an_entry_that_cannot_go_is_handled(
    open_spool, put, files, behind, attempt_with
):
    refusing = Refusing(behind, b"a.csv")
    attempt, calls, (kept, now) = attempt_with()
    spool = open_spool(RAW, behind)
    put(b"a.csv", b"old")
    assert attempt(spool, b"a.csv", Proof.RENAMED).result is AttemptEnd.KEPT
    refusing.refuses = False
    put(b"a.csv", b"new")
    now[0] = kept.next()
    assert [report.result for _, report in kept.retry()] == [AttemptEnd.DONE]
    assert files()[b"a.csv"] == b"new"
    assert attempt(spool, b"a.csv", Proof.RENAMED).result is AttemptEnd.DONE
    assert len(calls) == 2


def test_beyond_the_bound_the_worker_keeps_its_claim_itself(
    open_spool, put, behind, attempt_with, descriptors
):
    Refusing(behind, b"a.csv")
    attempt, _, (kept, _now) = attempt_with(limit=0)
    put(b"a.csv")
    before = descriptors()
    spool = open_spool(RAW, behind)
    assert attempt(spool, b"a.csv", Proof.RENAMED).result is AttemptEnd.STUCK
    assert len(kept) == 0
    del spool, before


def test_what_is_kept_is_let_go_of_with_its_descriptor(
    open_spool, put, behind, attempt_with, terms
):
    Refusing(behind, b"a.csv")
    attempt, _, (kept, _now) = attempt_with()
    spool = open_spool(RAW, behind)
    put(b"a.csv")
    assert attempt(spool, b"a.csv", Proof.RENAMED).result is AttemptEnd.KEPT
    refused = take(spool, b"a.csv", Proof.RENAMED, terms())
    assert isinstance(refused, NotClaimed)
    assert refused.refusal is Reason.BUSY
    kept.let_go()
    claim = take(spool, b"a.csv", Proof.RENAMED, terms())
    assert isinstance(claim, Claim)
    claim.release()
