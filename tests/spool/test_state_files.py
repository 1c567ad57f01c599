"""What lies in `.watcher/` may have been put there by another user: nothing of it is believed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from watcher.claim.take import take
from watcher.commit_one import enqueue
from watcher.errors import NotPermitted
from watcher.recovery import Recovered, recover
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout
from watcher.rules.retry import Policy
from watcher.settle import moves
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool import last_words, ledger, process_dir, state_files
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.journal_spill import unflushed
from watcher.spool.spool import Spool

RAW = Layout(b"", raw=True)
OWNER, OTHER = 1234, 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to play two users")
KINDS = ["FIFO", "symlink", "dangling symlink", "directory", "socket", "hard link"]
KINDS += ["device", "another's"] if os.geteuid() == 0 else []


def settlement():
    clock = SystemClock()
    patience = DiskRetry(lambda _seconds: False, lambda _text: None)
    terms = ClaimOptions(0.0, Ages(clock))
    return Finisher("q", terms, Policy(), clock, lambda _told: None, patience)


def plant(path, kind):
    """Put something odd in the place of a file of ours."""
    victim = path.parent.parent.parent.parent / "victim"
    victim.write_bytes(b"00000050not ours\n")
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)  # bind(2) takes no path this long
    elif kind == "device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    elif kind == "hard link":
        os.link(victim, path)
    elif kind == "another's":
        path.write_bytes(b"00000050not ours\n")
        os.chown(path, OTHER, OTHER)
    else:
        os.symlink(victim if kind == "symlink" else "nowhere", path)
    return victim


@pytest.fixture
def dead(queue):
    """Make the directory of a process that died."""
    place = queue / ".watcher" / "inflight" / "9.ab"
    place.mkdir(parents=True, mode=0o700)
    return place


def in_time(work):
    """Run something that must not wait without end."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(20)
    assert results, "it hangs, or it raised"
    return results[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [".ledger", ".journal", ".fault"])
def test_what_lies_in_the_place_of_a_dead_processs_file_is_told_of_and_not_read(
    queue, dead, open_spool, name, kind
):
    victim = plant(dead / name, kind)
    spool = open_spool(RAW)
    found = in_time(lambda: recover(spool, settlement()))
    allowed = name == ".fault" and kind == "hard link"  # linked into every queue's directory
    if not allowed:
        assert found.trouble, "it is told of"
    assert kind == "directory" or not dead.exists()
    assert victim.read_bytes() == b"00000050not ours\n"
    journal = queue / ".watcher" / "journal"
    assert not journal.exists() or b"not ours" not in journal.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_through_what_lies_in_the_place_of_the_journal(queue, open_spool, kind):
    (queue / ".watcher" / "x" / "y").mkdir(parents=True, mode=0o700)
    (queue / ".watcher" / "x" / "y").rmdir()
    victim = plant(queue / ".watcher" / "x" / "journal", kind)
    (queue / ".watcher" / "x" / "journal").rename(queue / ".watcher" / "journal")
    spool = open_spool(RAW)
    spool.journal.record(State.READY, Move.CLAIM, 1, b"a")
    in_time(lambda: spool.journal.flush() or True)
    assert spool.journal.trouble.startswith("the journal cannot be written")
    assert victim.read_bytes() == b"00000050not ours\n"


@pytest.mark.parametrize(
    "spill",
    [
        b"00000012odd\n",
        b"00000099\xff\xfe\n\0\0\n1\n",
        b"99999999" + b"\n" * 50,
        b"-0000001x\n",
        b"00000040nan inf 1 ready claim 1 a\n",
        b"\xff" * 100,
        b"",
    ],
)
def test_odd_bytes_in_a_spill_are_counted_and_nothing_more(queue, dead, open_spool, spill):
    (dead / ".journal").write_bytes(spill)
    found = recover(open_spool(RAW), settlement())
    assert found.trouble == ""
    assert not dead.exists()
    journal = queue / ".watcher" / "journal"
    for line in journal.read_bytes().splitlines() if journal.exists() else ():
        ours = (b" lost 0 - ", b" late 0 - ", b" begin 0 ")
        assert line == b"%" or any(words in line for words in ours)
        if line != b"%":
            float(line.split()[0])


def test_good_lines_among_odd_ones_are_kept(dead):
    line = b"1700000000.000001 9 claimed finish 7 a%20b some detail\n"
    lines = line + b"odd\n" + line
    (dead / ".journal").write_bytes(b"%08d" % (8 + len(lines)) + lines)
    fd = os.open(dead, os.O_RDONLY)
    try:
        kept = unflushed(fd).splitlines(keepends=True)
    finally:
        os.close(fd)
    assert kept[:2] == [line, line]
    assert b"1 lines that made no sense" in kept[2]


WORDS = [b"7", b" ", b"queue/", b"deferred/", b"a", b"\0", b"\n", b"/", b"..", b"\xff", b"-1"]
PIECES = st.sampled_from([*WORDS, b"9" * 300])


@given(st.lists(st.lists(PIECES, max_size=9).map(b"".join), max_size=4), st.binary(max_size=80))
@example([b"7 7 queue/a\0a\n", b"7 7 deferred/\0\n"], b"")
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_ledger_spill_or_fault_of_any_bytes_ends_a_recovery(queue, open_spool, slots, other):
    place = queue / ".watcher" / "inflight" / "9.ab"
    place.mkdir(parents=True, mode=0o700, exist_ok=True)
    (place / ".ledger").write_bytes(b"".join(slot.ljust(ledger.SLOT, b"\0") for slot in slots))
    for name in (".journal", ".fault"):
        (place / name).write_bytes(other)
    found = recover(open_spool(RAW), settlement())
    assert found.trouble == ""
    assert not place.exists()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_state_directory_that_others_may_write_is_refused(queue, open_spool, mode):
    (queue / ".watcher").mkdir()
    (queue / ".watcher").chmod(mode)
    with pytest.raises(NotPermitted, match=r"others may write to it .*: chmod go-w"):
        open_spool(RAW).make_state_dir(State.DEAD)


# -- root in another user's queue -------------------------------------------------------------


@pytest.fixture
def owned():
    """A queue of another user."""
    place = Path(tempfile.mkdtemp(prefix="watcher-test-"))
    place.chmod(0o755)
    queue = place / "queue"
    queue.mkdir()
    os.chown(queue, OWNER, OWNER)
    yield queue
    shutil.rmtree(place)


def everything(queue):
    return [path for path in queue.rglob("*") if path.is_dir() or path.is_file()]


@AS_ROOT
def test_what_root_makes_in_a_queue_belongs_to_the_queues_owner(owned):
    spool = Spool(os.fsencode(owned), RAW)
    for name in ("a", "b"):
        (owned / name).write_bytes(b"x")
        os.chown(owned / name, OWNER, OWNER)
        claim = take(spool, name.encode(), Proof.RENAMED, ClaimOptions(0.0, Ages(SystemClock())))
        assert isinstance(claim, Claim)
        spool.ledger.take(spool, claim.parts[0])
        Finisher.record(claim, State.CLAIMED, Move.REJECT)
        assert moves.put_away(spool, State.DEAD, claim.parts, "because", {})
        claim.release()
    for state in State.DEFERRED, State.HELD, State.ORPHAN:
        spool.make_state_dir(state)
    spool.journal.flush()
    enqueue(owned, b"message", raw=True, suffix="")
    left = [path for path in everything(owned) if path.stat().st_uid != OWNER]
    assert [path.name for path in left] == [".fault"]  # it has names in queues of several owners
    assert left[0].stat().st_mode & 0o444 == 0o444
    names = {path.name for path in everything(owned)}
    assert {".ledger", ".journal", "journal", "a", ".a.json", "deferred", "inflight"} <= names


@AS_ROOT
def test_a_directory_that_its_owner_swaps_for_a_trap_is_not_used(owned, behind):
    victim = owned.parent / "victim"
    victim.write_bytes(b"root's")
    trap = owned / "trap"
    trap.mkdir()
    os.chown(trap, OWNER, OWNER)
    for name in (".ledger", ".journal", ".fault"):
        (trap / name).symlink_to(victim)
    spool = Spool(os.fsencode(owned), RAW, behind)
    spool.inflight()

    def swap():
        (made,) = (owned / ".watcher" / "inflight").iterdir()
        made.rename(owned / ".watcher" / "was")
        trap.rename(made)

    behind.acts["after make_directory"] = swap
    directory = process_dir.process_dir_for(spool)
    assert os.fstat(directory.fd).st_uid == OWNER  # given, once it was known to be ours
    assert os.listdir(directory.fd) == []
    spool.journal.record(State.READY, Move.CLAIM, 1, b"a")
    spool.ledger._ready(spool)
    assert victim.read_bytes() == b"root's"


@AS_ROOT
def test_what_the_owner_plants_in_roots_own_directory_is_replaced_and_not_followed(owned):
    victim = owned.parent / "victim"
    victim.write_bytes(b"root's")
    spool = Spool(os.fsencode(owned), RAW)
    directory = process_dir.process_dir_for(spool)
    for name in (b".ledger", b".journal", b".fault"):
        os.symlink(victim, name, dir_fd=directory.fd)
    assert spool.ledger._ready(spool)
    spool.journal.record(State.READY, Move.CLAIM, 1, b"a")
    last_words.arm(directory.fd)
    assert victim.read_bytes() == b"root's"
    assert victim.stat().st_uid == 0
    for name in (b".ledger", b".journal"):
        assert state_files.odd(name, directory.fd) == ""


@AS_ROOT
def test_a_file_of_a_stranger_is_none_of_ours_but_one_of_the_owner_is(owned):
    (owned / "file").write_bytes(b"x")
    directory = os.open(owned, os.O_RDONLY)
    try:
        for uid, good in ((OWNER, True), (0, True), (OTHER, False)):
            os.chown(owned / "file", uid, uid)
            assert (state_files.odd(b"file", directory) == "") is good
        with pytest.raises(FileNotFoundError):
            state_files.open_file(b"nothing", directory)
        with pytest.raises(OSError, match="user 65534") as refused:
            state_files.open_file(b"file", directory)
        assert refused.value.errno == errno.EPERM
    finally:
        os.close(directory)


@AS_ROOT
def test_root_follows_no_users_link_to_a_directory_of_another(owned):
    victim = owned.parent / "roots"
    victim.mkdir()
    os.rename(owned, owned.parent / "was")
    owned.symlink_to(victim)
    os.lchown(owned, OWNER, OWNER)
    with pytest.raises(NotPermitted, match=f"link of a user to a directory of user {os.geteuid()}"):
        Spool(os.fsencode(owned), RAW)
    (owned.parent / "by way").symlink_to(owned)  # root's own link, to the user's
    with pytest.raises(NotPermitted, match="link of a user"):
        Spool(os.fsencode(owned.parent / "by way"), RAW)
    with pytest.raises(NotPermitted, match="link of a user"):
        Spool(os.fsencode(owned / "../queue"), RAW)
    os.chown(victim, OWNER, OWNER)  # to a directory of his own a user may lead us
    assert Spool(os.fsencode(owned), RAW).is_current()
    os.chown(victim, 0, 0)
    os.lchown(owned, 0, 0)
    assert Spool(os.fsencode(owned), RAW).is_current()


@AS_ROOT
def test_what_roots_daemon_left_when_it_was_killed_its_owners_recovers(owned):
    spool = Spool(os.fsencode(owned), RAW)
    (owned / "a").write_bytes(b"x")
    os.chown(owned / "a", OWNER, OWNER)
    pid = os.fork()
    if pid == 0:  # dies with the entry in hand, and another file on its way out
        theirs = Spool(os.fsencode(owned), RAW)
        claim = take(theirs, b"a", Proof.RENAMED, ClaimOptions(0.0, Ages(SystemClock())))
        theirs.ledger.take(theirs, claim.parts[0])
        theirs.journal.record(State.READY, Move.CLAIM, 1, b"a")
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    (owned / ".watcher" / "inflight" / "9.empty").mkdir(mode=0o700)  # root's, not given yet
    del spool
    moves.prepare()  # another user may not be able to read the interpreter's modules
    pid = os.fork()
    if pid == 0:
        found: object = None
        try:
            os.setgroups([])
            os.setresgid(OWNER, OWNER, OWNER)
            os.setresuid(OWNER, OWNER, OWNER)
            found = recover(Spool(os.fsencode(owned), RAW), settlement())
        except BaseException as error:  # noqa: BLE001 - told below
            found = error
        os.write(2, repr(found).encode())
        os._exit(0 if found == Recovered(entries=1) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    names = [path.name for path in (owned / ".watcher" / "inflight").iterdir()]
    assert "9.empty" not in names
    assert any(path.name.endswith("-a") for path in (owned / ".watcher" / "deferred").iterdir())
