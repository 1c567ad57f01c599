"""An open queue directory: the very one that was opened, and directories of ours that are ours."""

from __future__ import annotations

import errno
import gc
import os

import pytest

from watcher.errors import CannotCreate, NoSpace, NoSuch, NotPermitted, Unavailable
from watcher.inspect.balance import balance
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, Layout
from watcher.spool import mounts, process_dir
from watcher.spool.spool import Spool, as_watcher_error


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [("nothing", NoSuch, "does not exist"), ("file", NoSuch, "is not a directory")],
)
def test_what_is_no_directory_is_said_so(tmp_path, what, error, words):
    path = tmp_path / "queue\nx"
    if what == "file":
        path.touch()
    with pytest.raises(error, match=words) as caught:
        Spool(os.fsencode(path), Layout())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (13, NotPermitted),
        (1, NotPermitted),
        (30, NotPermitted),
        (28, NoSpace),
        (5, Unavailable),
    ],
)
def test_the_kernels_refusals_become_errors_that_say_what_to_do(number, error):
    made = as_watcher_error(OSError(number, os.strerror(number)), b"/q", "the queue directory")
    assert type(made) is error
    assert "/q" in str(made)
    assert os.strerror(number) in str(made)


def test_it_stays_the_directory_that_was_opened(open_spool, put, queue):
    put(b"x.pck")
    spool = open_spool()
    assert spool.is_current()
    queue.rename(queue.parent / "moved")
    assert not spool.is_current()
    queue.mkdir()
    assert not spool.is_current()
    assert spool.stat(b"x.pck") is not None


def test_stat_looks_at_a_link_not_through_it_and_nothing_is_none(open_spool, queue):
    (queue / "link").symlink_to(queue)
    spool = open_spool()
    assert spool.stat(b"link").st_ino == (queue / "link").lstat().st_ino
    assert spool.stat(b"nothing") is None
    assert spool.stat(b"link/" * 3 + b"nothing") is None
    assert spool.stat(b"n" * 256) is None


def test_any_other_trouble_with_a_name_is_raised(open_spool, queue):
    (queue / "loop").symlink_to(queue / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        open_spool().stat(b"loop/x")


@pytest.mark.parametrize("state", STATE_DIRECTORIES, ids=lambda state: state.value)
def test_a_place_is_made_when_first_needed_for_its_owner_only(open_spool, queue, state):
    spool = open_spool()
    assert spool.state_dir(state) is None
    assert not (queue / ".watcher").exists()
    fd = spool.make_state_dir(state)
    made = queue / ".watcher" / os.fsdecode(STATE_DIRECTORIES[state])
    assert os.fstat(fd).st_ino == made.stat().st_ino
    assert (queue / ".watcher").stat().st_mode & 0o777 == 0o700
    assert made.stat().st_mode & 0o777 == 0o700
    assert spool.make_state_dir(state) == fd == spool.state_dir(state)
    assert not os.get_inheritable(fd)


def test_a_directory_of_ours_that_exists_is_as_good(open_spool):
    open_spool().make_state_dir(State.DEAD)
    again = open_spool()
    assert again.state_dir(State.DEAD) is not None
    assert again.state_dir(State.HELD) is None


@pytest.mark.parametrize("where", [".watcher", ".watcher/dead"])
@pytest.mark.parametrize("what", ["file", "symlink", "dangling symlink", "FIFO"])
def test_what_is_in_the_way_of_ours_is_named_and_nothing_goes_there(
    open_spool, queue, tmp_path, where, what
):
    (tmp_path / "elsewhere").mkdir()
    path = queue / where
    path.parent.mkdir(exist_ok=True)
    if what == "file":
        path.touch()
    elif what == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / ("elsewhere" if what == "symlink" else "nothing"))
    with pytest.raises(CannotCreate, match="in the way"):
        open_spool().make_state_dir(State.DEAD)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "nothing").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("where", [".watcher", ".watcher/dead"])
def test_a_directory_of_another_user_is_not_ours(open_spool, queue, where, descriptors):
    open_spool().make_state_dir(State.DEAD)
    os.chown(queue / where, 65534, 65534)
    spool = open_spool()
    with pytest.raises(NotPermitted, match="belongs to user 65534"):
        spool.make_state_dir(State.DEAD)
    gc.collect()
    before = descriptors()
    for _ in range(3):
        with pytest.raises(NotPermitted):
            spool.make_state_dir(State.DEAD)
    assert descriptors() <= before + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_serves_the_queue_of_the_directorys_owner(open_spool, queue):
    open_spool().make_state_dir(State.DEAD)
    for path in (queue, queue / ".watcher", queue / ".watcher/dead"):
        os.chown(path, 65534, 65534)
    assert open_spool().make_state_dir(State.DEAD) >= 0


@pytest.mark.parametrize("how", ["removed", "moved away", "replaced", "all of ours removed"])
def test_a_place_that_an_operator_took_away_is_made_again(open_spool, queue, how):
    spool = open_spool()
    spool.make_state_dir(State.DEAD)
    dead = queue / ".watcher/dead"
    if how in {"removed", "all of ours removed"}:
        dead.rmdir()
    else:
        dead.rename(queue.parent / "archive")
    if how == "replaced":
        dead.mkdir(0o700)
    if how == "all of ours removed":
        (queue / ".watcher").rmdir()
    assert os.fstat(spool.make_state_dir(State.DEAD)).st_ino == dead.stat().st_ino


def test_a_spool_closes_what_it_opened_with_its_last_reference(open_spool, descriptors):
    gc.collect()
    before = descriptors()
    spool = open_spool()
    for state in STATE_DIRECTORIES:
        spool.make_state_dir(state)
    spool.inflight()
    assert descriptors() == before + 7
    del spool
    gc.collect()
    assert descriptors() == before


def test_writable_says_whether_entries_can_be_removed(open_spool, queue, child):
    assert open_spool().writable()
    if os.geteuid() == 0:
        program = (
            "import os, sys\nfrom watcher.rules.names import Layout\n"
            "from watcher.spool.spool import Spool\nspool = Spool(sys.argv[1].encode(), Layout())\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "print(spool.writable(), flush=True)"
        )
        assert child(program, queue).hear() == "False"


def test_the_file_system_is_the_one_the_mount_table_has(tmp_path):
    fd = os.open("/proc/self", os.O_RDONLY)
    assert mounts.filesystem(fd) == "proc"
    os.close(fd)
    assert mounts.filesystem(fd) == ""
    assert "proc" not in mounts.EVENTS_BLIND
    assert "nfs4" in mounts.EVENTS_BLIND <= mounts.LEASES_BLIND


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_users_directory_of_ours_is_said_in_words(open_spool, queue):
    """The error says what is wrong and which directory it is, and is not a bare errno."""
    open_spool().inflight()
    spool = open_spool()
    asked = [
        lambda: spool.state_dir(State.DEFERRED),
        lambda: list(process_dir.dead(spool)),
        lambda: balance(spool),
    ]
    os.seteuid(65534)
    try:
        for ask in asked:
            with pytest.raises(NotPermitted, match=r"/queue/\.watcher: .*check owner and mode"):
                ask()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_file_system_that_cannot_be_told_now_is_not_taken_for_one_that_sees_all(
    open_spool, monkeypatch, number
):
    """Leases would be believed on FUSE, and a file be handled while its writer has it open."""

    def refuse(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(Unavailable, match=os.strerror(number)):
            open_spool()
    assert open_spool().filesystem
