"""Claims on real files: one holder over all processes, of what is an entry and complete only."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import pickle
import signal
import subprocess
import sys

import pytest

from tests.hostile_names import HOSTILE
from watcher.claim.take import take
from watcher.rules.evidence import Action, Proof, Shape, Writer
from watcher.rules.names import Layout
from watcher.rules.results import NotClaimed, Reason
from watcher.spool import lease, mounts
from watcher.spool.claimed import Claim

LEGACY = Layout(legacy=True)
TWO_PICKLES = pickle.dumps(b"m", 2) + pickle.dumps({}, 2)
NAMES = [b"1.0+ab.pck", *HOSTILE]

TAKE = """
import sys
from watcher.rules.age import Ages, SystemClock
from watcher.spool.claimed import ClaimOptions
from watcher.claim.take import take
from watcher.rules.evidence import Proof
from watcher.rules.names import Layout
from watcher.spool.spool import Spool
spool = Spool(sys.argv[1].encode(), Layout())
claim = take(spool, sys.argv[2].encode(), Proof.RENAMED, ClaimOptions(300, Ages(SystemClock())))
"""


def refusal(result):
    assert isinstance(result, NotClaimed), result
    return result.refusal


@pytest.mark.parametrize("proof", [Proof.RENAMED, Proof.NO_WRITER], ids=lambda proof: proof.name)
@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:24])
def test_an_entry_of_any_name_is_claimed(open_spool, put, terms, name, proof):
    put(name, b"message")
    claim = take(open_spool(), name, proof, terms())
    assert isinstance(claim, Claim)
    (part,) = claim.parts
    assert (part.name, part.size, os.pread(part.fd, 99, 0)) == (name, 7, b"message")
    assert not os.get_inheritable(part.fd)
    claim.release()


def test_what_is_no_entry_is_refused_at_once_and_nothing_of_it_is_kept_open(
    open_spool, odd_file, terms, descriptors
):
    name, kind = odd_file
    spool = open_spool()
    before = descriptors()
    for proof in (Proof.RENAMED, Proof.NONE):
        result = take(spool, name, proof, terms(0))
        assert refusal(result) is Reason.FOREIGN, kind
        assert result.why
    assert descriptors() == before


@pytest.mark.parametrize("name", [b"gone.pck", b"n" * 256 + b".pck"], ids=["gone", "too long"])
def test_what_is_not_there_is_gone_or_an_error_never_a_raise(open_spool, terms, name):
    result = take(open_spool(), name, Proof.NONE, terms())
    assert refusal(result) is (Reason.GONE if len(name) < 255 else Reason.ERROR)


# -- one holder -------------------------------------------------------------------------------


def test_two_processes_one_claim_and_the_kernel_frees_it(open_spool, put, terms, queue, child):
    put(b"x.pck")
    other = child(TAKE + "print(type(claim).__name__, flush=True); input()", queue, "x.pck")
    assert other.hear() == "Claim"
    spool = open_spool()
    assert refusal(take(spool, b"x.pck", Proof.RENAMED, terms())) is Reason.BUSY
    other.kill()
    claim = take(spool, b"x.pck", Proof.RENAMED, terms())
    assert isinstance(claim, Claim)
    late = child(TAKE + "print(claim.refusal.name, flush=True)", queue, "x.pck")
    assert late.hear() == "BUSY"
    claim.release()


def test_two_claims_in_one_process_are_two_holders_too(open_spool, put, terms, descriptors):
    put(b"x.pck")
    spool, again = open_spool(), open_spool()
    claim = take(spool, b"x.pck", Proof.RENAMED, terms())
    before = descriptors()
    assert refusal(take(spool, b"x.pck", Proof.RENAMED, terms())) is Reason.BUSY
    assert refusal(take(again, b"x.pck", Proof.RENAMED, terms())) is Reason.BUSY
    assert descriptors() == before
    claim.release()
    assert isinstance(take(again, b"x.pck", Proof.RENAMED, terms()), Claim)


def test_a_handler_that_inherits_a_claim_keeps_it_when_its_daemon_is_killed(
    open_spool, put, terms, queue, child, eventually
):
    put(b"x.pck")
    gate = queue.parent / "gate"
    os.mkfifo(gate)
    daemon = child(
        TAKE + "import subprocess\n"
        "handler = subprocess.Popen(['cat', sys.argv[3]], pass_fds=[claim.parts[0].fd],"
        " stdout=subprocess.DEVNULL)\n"
        "print(handler.pid, flush=True); input()",
        queue,
        "x.pck",
        gate,
    )
    assert int(daemon.hear())
    daemon.kill()
    spool = open_spool()
    assert refusal(take(spool, b"x.pck", Proof.RENAMED, terms())) is Reason.BUSY
    with open(gate, "wb"):
        pass  # its handler ends
    claim = eventually(
        lambda: isinstance(found := take(spool, b"x.pck", Proof.RENAMED, terms()), Claim) and found
    )
    claim.release()


def test_a_look_without_a_lock_disturbs_no_other(open_spool, put, terms):
    put(b"x.pck")
    spool = open_spool()
    look = take(spool, b"x.pck", Proof.NO_WRITER, terms(lock=False))
    assert isinstance(look, Claim)
    claim = take(spool, b"x.pck", Proof.NO_WRITER, terms())
    assert isinstance(claim, Claim)
    assert isinstance(take(spool, b"x.pck", Proof.NO_WRITER, terms(lock=False)), Claim)


# -- what is claimed is what lies under the name ----------------------------------------------


@pytest.mark.parametrize("when", ["after open", "lock", "after lock"])
@pytest.mark.parametrize(
    ("deed", "expected"),
    [
        ("renamed over", Reason.GONE),
        ("moved away", Reason.GONE),
        ("moved in the queue", Reason.GONE),
        ("unlinked", Reason.GONE),
        ("linked", Reason.FOREIGN),
        ("swapped for a link", Reason.GONE),
    ],
)
def test_a_file_that_changes_its_name_meanwhile_is_not_claimed(
    open_spool, put, terms, queue, behind, descriptors, when, deed, expected
):
    path, other = queue / "x.pck", queue.parent / "away"

    def act():
        if deed == "renamed over":
            put(b"x.pck", b"replacement")
        elif deed == "moved away":
            path.rename(other)
        elif deed == "moved in the queue":
            path.rename(queue / "y.pck")
        elif deed == "linked":
            other.hardlink_to(path)
        else:
            path.unlink() if deed == "unlinked" else path.rename(other)
            if deed == "swapped for a link":
                path.symlink_to(other)

    put(b"x.pck")
    spool = open_spool(disk=behind)
    behind.acts[when] = act
    before = descriptors()
    assert refusal(take(spool, b"x.pck", Proof.RENAMED, terms())) is expected
    assert descriptors() == before
    assert behind.calls == ["open", "lock", "unlock"]


# -- is a process writing? --------------------------------------------------------------------

WRITE = (
    "import sys; f = open(sys.argv[1], sys.argv[2]); print('open', flush=True); input(); f.close()"
)
WRITE += "; print('closed', flush=True); input()"


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_a_file_that_another_process_writes_is_left_alone_however_old(
    open_spool, put, terms, queue, child, mode
):
    put(b"x.pck")
    writer = child(WRITE, queue / "x.pck", mode)
    assert writer.hear() == "open"
    spool = open_spool()
    for proof in (Proof.NO_WRITER, Proof.NONE):
        assert refusal(take(spool, b"x.pck", proof, terms(grace=-1e9))) is Reason.WRITER
    writer.go_on()
    assert writer.hear() == "closed"
    assert isinstance(take(spool, b"x.pck", Proof.NO_WRITER, terms()), Claim)


def test_a_shared_writable_mapping_kept_after_close_is_a_writer(
    open_spool, put, terms, queue, child
):
    put(b"x.pck")
    program = (
        "import mmap, os, sys; fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "view = mmap.mmap(fd, 4); os.close(fd)\n"
        "print('mapped', flush=True); input(); view.close(); print('gone', flush=True); input()"
    )
    writer = child(program, queue / "x.pck")
    assert writer.hear() == "mapped"
    spool = open_spool()
    assert refusal(take(spool, b"x.pck", Proof.NO_WRITER, terms())) is Reason.WRITER
    writer.go_on()
    # mmap.close() closes its own duplicate of the descriptor too.
    assert writer.hear() == "gone"
    assert isinstance(take(spool, b"x.pck", Proof.NO_WRITER, terms()), Claim)


def test_a_mapping_to_read_is_no_writer(open_spool, put, terms, queue):
    put(b"x.pck")
    with open(queue / "x.pck", "rb") as file, mmap.mmap(file.fileno(), 4, prot=mmap.PROT_READ):
        assert isinstance(take(open_spool(), b"x.pck", Proof.NO_WRITER, terms()), Claim)


def test_a_lease_that_cannot_be_had_leaves_it_to_the_grace_age(put, queue, child):
    if os.geteuid() != 0:
        pytest.skip("needs another user's file")
    put(b"x.pck")
    program = (
        "import os\n"
        + TAKE.replace("Proof.RENAMED", "Proof.NO_WRITER")
        .replace("300", "float(sys.argv[3])")
        .replace("claim =", "os.setgroups([]); os.setgid(65534); os.setuid(65534)\nclaim =")
        + "from watcher.spool import lease\n"
        "fd = os.open(sys.argv[2], os.O_RDONLY, dir_fd=spool.fd)\n"
        "taken = getattr(claim, 'refusal', None)\n"
        "print(lease.writer(fd).name, taken.name if taken else 'taken', flush=True)"
    )
    assert child(program, queue, "x.pck", 300).hear() == "UNKNOWN YOUNG"
    assert child(program, queue, "x.pck", 0).hear() == "UNKNOWN taken"


def test_a_file_system_whose_leases_are_blind_is_not_asked(open_spool, put, terms):
    put(b"x.pck")
    spool = open_spool()
    spool.leases = False
    result = take(spool, b"x.pck", Proof.NO_WRITER, terms())
    assert refusal(result) is Reason.YOUNG
    assert 299 < result.wait <= 300


@pytest.mark.parametrize("number", [errno.EIO, errno.EINTR, errno.ENOMEM])
def test_a_lease_refused_for_a_moment_is_no_word_about_writers(
    open_spool, put, terms, monkeypatch, number
):
    """Taken for "no leases here", it would leave a slow writer's file to the grace age."""
    put(b"x.pck")
    spool, real = open_spool(), fcntl.fcntl

    def refused(fd, command, argument=0):
        if (command, argument) == (fcntl.F_SETLEASE, fcntl.F_RDLCK):
            raise OSError(number, os.strerror(number))
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", refused)
    for proof in (Proof.NO_WRITER, Proof.NONE):
        assert refusal(take(spool, b"x.pck", proof, terms(0))) is Reason.ERROR
    monkeypatch.undo()
    assert isinstance(take(spool, b"x.pck", Proof.NONE, terms(0)), Claim)


def test_the_lease_is_given_back_at_once(open_spool, put, terms, queue):
    put(b"x.pck")
    claim = take(open_spool(), b"x.pck", Proof.NO_WRITER, terms())
    assert isinstance(claim, Claim)
    os.close(os.open(queue / "x.pck", os.O_WRONLY | os.O_NONBLOCK))  # EAGAIN under a lease
    assert lease.writer(claim.parts[0].fd) is Writer.NONE


def test_a_broken_lease_does_not_kill_and_children_do_not_inherit_how():
    program = (
        "import os, signal, subprocess, sys\nfrom watcher.spool.lease import ignore_sigio\n"
        "ignore_sigio(); os.kill(os.getpid(), signal.SIGIO); print('alive', flush=True)\n"
        "sys.exit(-subprocess.run(['sh', '-c', 'kill -IO $$']).returncode)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.stdout == b"alive\n", done.stderr
    assert done.returncode == signal.SIGIO


def test_a_file_on_which_a_server_holds_a_lease_is_busy_not_broken(
    open_spool, put, terms, queue, child
):
    """Samba's kernel oplocks: opening breaks the lease, and until it is given back says EAGAIN."""
    put(b"x.pck")
    program = (
        "import fcntl, os, signal, sys\nsignal.signal(signal.SIGIO, lambda *_: None)\n"
        "fd = os.open(sys.argv[1], os.O_RDWR); fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print('leased', flush=True); input()"
    )
    server = child(program, queue / "x.pck")
    assert server.hear() == "leased"
    spool = open_spool()
    assert refusal(take(spool, b"x.pck", Proof.NONE, terms(0))) is Reason.BUSY
    server.kill()
    assert isinstance(take(spool, b"x.pck", Proof.NO_WRITER, terms()), Claim)


# -- pairs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "name", "proof", "expected"),
    [
        ([b"x.msg", b"x.db"], b"x.msg", Proof.CLOSED, "pair"),
        ([b"x.msg", b"x.db"], b"x.msg", Proof.RENAMED, Reason.YOUNG),
        ([b"x.msg", b"x.db"], b"x.msg", Proof.NO_WRITER, Reason.YOUNG),
        ([b"x.msg", b"x.db"], b"x.msg", Proof.NONE, Reason.YOUNG),
        ([b"x.msg", b"x.db"], b"x.db", Proof.NONE, Reason.GONE),
        ([b"x.pck", b"x.db"], b"x.db", Proof.NONE, Reason.GONE),
        ([b"x.msg"], b"x.msg", Proof.CLOSED, Reason.YOUNG),
        ([b"x.msg"], b"x.msg", Proof.RENAMED, Reason.YOUNG),
        ([b"x.db"], b"x.db", Proof.NONE, Reason.YOUNG),
        ([b"x.pck"], b"x.pck", Proof.RENAMED, "pck"),
        ([b"x.pck"], b"x.pck", Proof.NO_WRITER, "pck"),
        ([b"x.pck"], b"x.pck", Proof.NONE, Reason.YOUNG),
    ],
    ids=lambda value: getattr(value, "name", None) or repr(value),
)
def test_young_pairs_need_both_halves_closing(open_spool, put, terms, there, name, proof, expected):
    for each in there:
        put(each, TWO_PICKLES)
    result = take(open_spool(LEGACY), name, proof, terms())
    if isinstance(expected, str):
        assert isinstance(result, Claim)
        assert result.form == expected
        assert {part.name for part in result.parts} == set(there)
        assert result.parts[0].name == name
    else:
        assert refusal(result) is expected


def test_of_age_a_pair_is_taken_and_a_half_is_an_orphan(open_spool, put, terms):
    spool = open_spool(LEGACY)
    for name in (b"x.msg", b"x.db", b"y.msg", b"z.db"):
        put(name)
    claims = {
        name: take(spool, name, Proof.NONE, terms(0)) for name in (b"x.msg", b"y.msg", b"z.db")
    }
    assert {name: (c.form, c.action) for name, c in claims.items()} == {
        b"x.msg": ("pair", Action.TAKE),
        b"y.msg": ("half", Action.ORPHAN),
        b"z.db": ("half", Action.ORPHAN),
    }


def test_one_pickle_wants_its_metadata_and_gets_it(open_spool, put, terms):
    spool = open_spool(LEGACY)
    put(b"x.pck", pickle.dumps(b"m", 2))
    result = take(spool, b"x.pck", Proof.NO_WRITER, terms())
    assert (refusal(result), result.shape) == (Reason.YOUNG, Shape.HALF)
    put(b"x.db")
    claim = take(spool, b"x.pck", Proof.CLOSED, terms())
    assert claim.form == "pck+db"
    assert [part.name for part in claim.parts] == [b"x.pck", b"x.db"]


def test_a_damaged_pck_is_whole_decoding_it_says_what_is_wrong(open_spool, put, terms):
    put(b"x.pck", b"\x80\x02garbage")
    claim = take(open_spool(LEGACY), b"x.pck", Proof.NO_WRITER, terms())
    assert claim.form == "pck"


@pytest.mark.parametrize("half", [b"x.msg", b"x.db"])
def test_a_writer_of_either_half_keeps_the_pair(open_spool, put, terms, queue, child, half):
    put(b"x.msg")
    put(b"x.db")
    writer = child(WRITE, queue / os.fsdecode(half), "ab")
    assert writer.hear() == "open"
    spool = open_spool(LEGACY)
    for proof in (Proof.CLOSED, Proof.NONE):
        assert refusal(take(spool, b"x.msg", proof, terms(-1e9))) is Reason.WRITER


def test_a_message_written_to_while_the_evidence_is_gathered_is_no_pair_yet(
    open_spool, behind, put, terms, queue
):
    """Where no lease tells of a writer: it came and went between our two looks at the pair."""
    put(b"x.msg")
    put(b"x.db")
    spool = open_spool(LEGACY, behind)
    spool.leases = False

    def write():
        with open(queue / "x.msg", "ab") as file:
            file.write(b"more")

    behind.acts["after lock"] = lambda: behind.acts.update(lock=write)  # before that of the .db
    assert refusal(take(spool, b"x.msg", Proof.NONE, terms(0))) is Reason.WRITER
    assert isinstance(take(spool, b"x.msg", Proof.NONE, terms(0)), Claim)


def test_a_pair_whose_metadata_another_has_is_busy_and_let_go(open_spool, put, terms, descriptors):
    put(b"x.db")
    spool = open_spool(LEGACY)
    other = take(spool, b"x.db", Proof.NONE, terms(0))
    put(b"x.msg")
    before = descriptors()
    assert refusal(take(spool, b"x.msg", Proof.CLOSED, terms())) is Reason.BUSY
    assert descriptors() == before
    other.release()
    assert isinstance(take(spool, b"x.msg", Proof.CLOSED, terms()), Claim)


def test_the_age_is_by_ctime_which_no_writer_sets_back(open_spool, put, terms, queue):
    put(b"x.pck", TWO_PICKLES)
    os.utime(queue / "x.pck", (0, 0))  # as `cp -p` and `rsync -t` do
    result = take(open_spool(), b"x.pck", Proof.NONE, terms())
    assert refusal(result) is Reason.YOUNG
    assert 0 < result.wait <= 300


def test_the_age_of_a_pair_is_its_younger_halfs(open_spool, put, terms):
    put(b"x.msg")
    put(b"x.db")
    claim = take(open_spool(LEGACY), b"x.msg", Proof.NONE, terms(0))
    claim.parts = (claim.parts[0]._replace(ctime_ns=0), claim.parts[1])
    assert claim.age() < 60


@pytest.mark.parametrize("suffix", [b".db", b".msg", b".pck"])
def test_halves_with_the_longest_of_names(open_spool, put, terms, suffix):
    """The other half's name would be longer than a name can be: it is not there, that is all."""
    name = put(b"n" * (255 - len(suffix)) + suffix, pickle.dumps(b"m", 2))
    claim = take(open_spool(LEGACY), name, Proof.NONE, terms(0))
    assert isinstance(claim, Claim)
    assert (claim.form, claim.action) == ("half", Action.ORPHAN)


def test_a_disk_that_cannot_be_read_is_a_refusal_not_a_raise(
    open_spool, put, terms, monkeypatch, descriptors
):
    put(b"x.pck", TWO_PICKLES)
    spool = open_spool(LEGACY)
    before = descriptors()

    def broken(*_arguments):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "pread", broken)
    assert refusal(take(spool, b"x.pck", Proof.NO_WRITER, terms())) is Reason.ERROR
    assert descriptors() == before


# -- raw: what the times of a file tell ---------------------------------------------------------

RAW = Layout(b".csv", raw=True)
OLD = 1_600_000_000_000_000_000  # nanoseconds: long ago


def raw_file(queue, deed):
    """Make a raw file in the queue, in one of the ways that writers have."""
    path = queue / "a.csv"
    if deed == "renamed while no event was read":
        (queue / "a.tmp").write_bytes(b"data")
        os.utime(queue / "a.tmp", ns=(OLD, OLD))
        (queue / "a.tmp").rename(path)
    else:
        path.write_bytes(b"data")
    if deed == "its time was set":
        os.utime(path, ns=(OLD, OLD))
    elif deed == "its mode was set":
        os.utime(path, ns=(OLD, OLD))
        path.chmod(0o600)
    elif deed == "its time was set to come":
        os.utime(path, ns=(OLD * 2, OLD * 2))


@pytest.mark.parametrize(
    "deed", ["renamed while no event was read", "its time was set", "its mode was set"]
)
def test_a_raw_file_that_was_finished_after_its_last_write_is_taken_by_a_catch_up_scan(
    open_spool, queue, terms, deed
):
    raw_file(queue, deed)
    claim = take(open_spool(RAW), b"a.csv", Proof.NO_WRITER, terms())
    assert isinstance(claim, Claim)
    claim.release()
    assert refusal(take(open_spool(RAW), b"a.csv", Proof.NONE, terms())) is Reason.YOUNG
    with (queue / "a.csv").open("ab"):
        refused = take(open_spool(RAW), b"a.csv", Proof.NO_WRITER, terms())
        assert (refused.refusal, refused.proof) == (Reason.WRITER, Proof.NONE)


@pytest.mark.parametrize(("birth", "wait"), [(0, 10.0), (-20_000_000, 300.0), (None, 300.0)])
def test_a_raw_file_written_in_place_waits_and_how_long_its_birth_tells(
    open_spool, queue, terms, monkeypatch, birth, wait
):
    raw_file(queue, "in place")
    written = os.stat(queue / "a.csv").st_mtime_ns
    monkeypatch.setattr("watcher.claim.take.birth_ns", lambda _fd: birth and written + birth)
    if birth == 0:
        monkeypatch.setattr("watcher.claim.take.birth_ns", lambda _fd: written)
    refused = take(open_spool(RAW), b"a.csv", Proof.NO_WRITER, terms())
    assert refusal(refused) is Reason.YOUNG
    assert wait - 2 < refused.wait <= wait
    assert refused.proof is (Proof.NO_WRITER if wait == 10.0 else Proof.NONE), (
        "what it may build on then"
    )
    assert 3 < take(open_spool(RAW), b"a.csv", Proof.NO_WRITER, terms(5.0)).wait <= 5
    assert isinstance(take(open_spool(RAW), b"a.csv", Proof.NO_WRITER, terms(0.0)), Claim)


@pytest.mark.parametrize("deed", ["in place", "its time was set to come"])
def test_where_every_writer_renames_a_scan_takes_what_has_no_writer(open_spool, queue, terms, deed):
    raw_file(queue, deed)
    spool, renames = open_spool(RAW), terms()._replace(renames=True)
    with (queue / "a.csv").open("ab"):
        refused = take(spool, b"a.csv", Proof.NO_WRITER, renames)
        assert (refused.refusal, refused.proof) == (Reason.WRITER, Proof.NO_WRITER)
    spool.leases = False
    assert refusal(take(spool, b"a.csv", Proof.NO_WRITER, renames)) is Reason.YOUNG
    spool.leases = True
    assert isinstance(take(spool, b"a.csv", Proof.NO_WRITER, renames), Claim)


def test_where_leases_are_blind_one_that_is_refused_means_a_writer_all_the_same(
    open_spool, put, queue, terms
):
    """FUSE: the kernel counts this machine's writers, and those only."""
    put(b"a.csv")
    spool = open_spool(RAW)
    spool.leases, spool.asks = False, True
    with (queue / "a.csv").open("ab"):
        for proof in (Proof.RENAMED, Proof.NONE):
            assert refusal(take(spool, b"a.csv", proof, terms(0.0))) is Reason.WRITER
    assert refusal(take(spool, b"a.csv", Proof.NONE, terms())) is Reason.YOUNG
    assert isinstance(take(spool, b"a.csv", Proof.RENAMED, terms()), Claim)
    assert {"fuse", "fuseblk"} <= mounts.LEASES_LOCAL <= mounts.LEASES_BLIND
    assert not {"nfs", "nfs4", "cifs"} & mounts.LEASES_LOCAL, "there it may be refused for less"


def test_a_name_that_its_writer_drew_is_taken_by_its_rename_without_a_lease(
    open_spool, put, queue, terms
):
    is_unique_name = b"1795437730.7523751+b9b4254987c241d208ed4516474a43dc01750447.pck"
    put(is_unique_name)
    with (queue / os.fsdecode(is_unique_name)).open("ab"):
        claim = take(open_spool(), is_unique_name, Proof.RENAMED, terms())
        assert isinstance(claim, Claim)
        claim.release()
        put(b"odd.pck")
    with (queue / "odd.pck").open("ab"):
        assert refusal(take(open_spool(), b"odd.pck", Proof.RENAMED, terms())) is Reason.WRITER
