"""`maildir`: each message is in the Maildir once, whole and durable, whatever dies on the way."""

from __future__ import annotations

import errno
import mailbox
import os
import shutil
import stat

import pytest

from watcher.errors import BadConfiguration
from watcher.handle import copy_bytes
from watcher.handle.handler_kinds import read_handler
from watcher.handle.kinds import maildir
from watcher.handle.kinds.move_files import Move
from watcher.rules.finding import OK
from watcher.rules.results import HANDLED, Verdict
from watcher.spool import disk, libc

ODD = b"From me\r\nSubject: x\n\nFrom the mbox\r\n\x00\xff no end of line"
FORMS = ["pck", "raw", "pair"]


@pytest.fixture
def box(tmp_path):
    """Return a complete Maildir."""
    mailbox.Maildir(str(tmp_path / "Maildir"), create=True)
    return tmp_path / "Maildir"


def files(directory):
    """Return what is in each file of a Maildir, by its path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def delivered(box):
    """Return the messages, sorted."""
    return sorted(files(box).values())


def read_by_a_client(box, flags=b"S"):
    """Move each new message to cur/, as a reader does."""
    for name in os.listdir(os.fsencode(box / "new")):
        path = os.fsencode(box)
        os.rename(path + b"/new/" + name, path + b"/cur/" + name + b":2," + flags)


@pytest.mark.parametrize("form", FORMS)
def test_a_message_is_in_new_byte_for_byte_and_for_its_owner_alone(box, claimed_entry, form):
    entry = claimed_entry(ODD, {"lang": "en"}, form=form)
    assert maildir.Maildir(str(box)).run(entry) == HANDLED
    ((name, data),) = files(box).items()
    assert data == ODD
    assert name.startswith("new/")
    assert f"K{entry.key[:32]}." in name
    assert name.endswith(f",S={len(ODD)}")
    assert stat.S_IMODE((box / name).stat().st_mode) == 0o600


def test_pythons_reader_sees_the_messages(box, claimed_entry):
    handler = maildir.Maildir(str(box))
    for number in range(3):
        handler.run(claimed_entry(b"Subject: %d\n\nbody\n" % number))
    found = mailbox.Maildir(str(box), create=False)
    assert sorted(message["Subject"] for message in found) == ["0", "1", "2"]
    assert {message.get_subdir() for message in found} == {"new"}


def test_two_entries_of_the_same_bytes_are_two_messages(box, claimed_entry):
    handler = maildir.Maildir(str(box))
    for _ in range(2):
        handler.run(claimed_entry(b"same", form="raw", stem=None))
    assert delivered(box) == [b"same"] * 2


@pytest.mark.parametrize("read", [False, True])
def test_a_second_attempt_finds_what_the_first_delivered(box, claimed_entry, read):
    entry, handler = claimed_entry(), maildir.Maildir(str(box))
    handler.run(entry)
    if read:
        read_by_a_client(box, b"FRS")
    assert handler.run(entry) == HANDLED
    assert delivered(box) == [b"message"]


def test_what_a_reader_removed_is_delivered_again(box, claimed_entry):
    entry, handler = claimed_entry(), maildir.Maildir(str(box))
    handler.run(entry)
    shutil.rmtree(box / "new")
    (box / "new").mkdir()
    handler.run(entry)
    assert delivered(box) == [b"message"]


def test_a_message_that_got_flags_and_stayed_in_new_is_found_too(box, claimed_entry):
    entry, handler = claimed_entry(), maildir.Maildir(str(box))
    handler.run(entry)
    (message,) = (box / "new").iterdir()
    message.rename(f"{message}:2,FS")
    assert handler.run(entry) == HANDLED
    assert delivered(box) == [b"message"]


def test_the_maildir_is_listed_only_for_what_an_earlier_attempt_may_have_delivered(
    box, claimed_entry, monkeypatch
):
    listed = []
    real = maildir.names_in
    monkeypatch.setattr(maildir, "names_in", lambda fd: listed.append(fd) or real(fd))

    def lists(began_ns=None, **more):
        del listed[:]
        handler = maildir.Maildir(str(box))
        handler._began_ns = handler._began_ns if began_ns is None else began_ns
        handler.run(claimed_entry(**more))
        return len(listed)

    assert lists() == 2, "an entry that may be older than the process: new/ and cur/"
    os.utime(box / "cur", (1, 1))
    assert lists() == 1, "no reader changed cur/ since the entry was made"
    assert lists(began_ns=0) == 0, "an entry that came while the process was at work"
    assert lists(began_ns=0, crashes=1) == 1, "a process died with this one"


def test_a_backlog_lists_the_maildir_again_only_if_a_reader_changed_it(
    box, claimed_entry, monkeypatch
):
    listed = []
    real = maildir.names_in
    monkeypatch.setattr(maildir, "names_in", lambda fd: listed.append(fd) or real(fd))
    before, handler = maildir.Maildir(str(box)), maildir.Maildir(str(box))
    entries = [claimed_entry(b"%d" % number) for number in range(5)]
    for entry in entries[2:]:
        before.run(entry)
    del listed[:]
    for entry in entries[:3]:
        handler.run(entry)
    assert len(listed) == 2, "new/ and cur/ once"
    for number, entry in enumerate(entries[3:]):
        (message,) = (box / "new").glob(f"*{entry.key[:32]}*")
        message.rename(f"{box / ('new', 'cur')[number] / message.name}:2,S")
        assert handler.run(entry) == HANDLED
    assert delivered(box) == [b"%d" % number for number in range(5)]


# A death at each step


class Died(BaseException):
    """The process is killed at a step of the delivery."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["create_anew", "copy_bytes", "fsync", "move", "sync"])
@pytest.mark.parametrize("read", [False, True], ids=["not read", "read"])
def test_after_a_death_at_any_step_the_next_attempt_leaves_one_message(
    box, claimed_entry, monkeypatch, step, after, read
):
    home = {"create_anew": maildir.state_files, "copy_bytes": maildir, "fsync": os}
    entry, handler = claimed_entry(b"whole", form="raw"), maildir.Maildir(str(box))
    real = getattr(home.get(step, disk.Disk), step)

    def die(*arguments, **named):
        if after:
            real(*arguments, **named)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(home.get(step, disk.Disk), step, die)
        patch.setattr(os, "unlink", lambda *_names, **_rest: None)
        with pytest.raises(Died):
            handler.run(entry)
    if read:
        read_by_a_client(box)
    assert handler.run(entry) == HANDLED
    assert delivered(box) == [b"whole"]
    assert os.listdir(box / "tmp") == []


def test_a_message_is_durable_before_it_is_in_new_and_new_before_the_end(
    box, claimed_entry, monkeypatch
):
    steps = []
    for home, step in ((os, "fsync"), (disk.Disk, "move"), (maildir, "copy_bytes")):
        real = getattr(home, step)

        def call(*arguments, real=real, step=step):
            steps.append(step)
            return real(*arguments)

        monkeypatch.setattr(home, step, call)
    maildir.Maildir(str(box)).run(claimed_entry(form="raw"))
    assert steps == ["copy_bytes", "fsync", "move", "fsync"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EPERM])
def test_where_no_rename_can_refuse_to_overwrite_it_is_delivered_all_the_same(
    box, claimed_entry, monkeypatch, code
):
    monkeypatch.setattr(libc, "renameat2", lambda *_arguments: errno.EINVAL)
    if code == errno.EPERM:  # no hard links either

        def refuse(*_names, **_rest):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", refuse)
    assert maildir.Maildir(str(box)).run(claimed_entry()) == HANDLED
    assert delivered(box) == [b"message"]
    assert os.listdir(box / "tmp") == []


# What is wrong with the Maildir, or with the entry


@pytest.mark.parametrize("missing", [".", "tmp", "new", "cur"])
def test_what_is_missing_is_the_operators_mistake(box, claimed_entry, missing):
    shutil.rmtree(box / missing)
    result = maildir.Maildir(str(box)).run(claimed_entry())
    assert result.verdict is Verdict.MISCONFIGURED
    where = str(box) if missing == "." else f"{box}: {missing}/"
    assert result.reason.startswith(f"maildir {where}")
    assert "set create = true" in result.reason


@pytest.mark.parametrize("missing", [".", "tmp", "new", "cur"])
def test_with_create_what_is_missing_is_made(box, claimed_entry, missing):
    shutil.rmtree(box / missing)
    assert maildir.Maildir(str(box), create=True).run(claimed_entry()) == HANDLED
    assert delivered(box) == [b"message"]
    assert {path.name for path in box.iterdir()} == {"cur", "new", "tmp"}
    assert stat.S_IMODE((box / missing).stat().st_mode) == 0o700


def test_nothing_is_made_below_a_directory_that_is_missing(tmp_path, claimed_entry):
    result = maildir.Maildir(str(tmp_path / "no" / "Maildir"), create=True).run(claimed_entry())
    assert result.verdict is Verdict.MISCONFIGURED
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", ["tmp", "new", "cur"])
def test_a_link_in_the_place_of_a_directory_is_not_followed(box, tmp_path, claimed_entry, name):
    (box / name).rename(tmp_path / "elsewhere")
    (box / name).symlink_to(tmp_path / "elsewhere")
    result = maildir.Maildir(str(box), create=True).run(claimed_entry())
    assert result.verdict is Verdict.MISCONFIGURED
    assert files(tmp_path / "elsewhere") == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_delivers_and_makes_belongs_to_the_owner(box, claimed_entry):
    os.chown(box, 65534, 65534)
    shutil.rmtree(box / "new")
    for name in ("tmp", "cur"):
        os.chown(box / name, 65534, 65534)
    maildir.Maildir(str(box), create=True).run(claimed_entry())
    assert {(path.stat().st_uid) for path in box.rglob("*")} == {65534}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("kind", [maildir.Maildir, Move])
def test_root_follows_no_link_of_a_user_to_another_users_directory(
    box, tmp_path, claimed_entry, kind
):
    link = tmp_path / "link"
    link.symlink_to(box)
    assert kind(str(link)).run(claimed_entry()).verdict is Verdict.DONE
    os.lchown(link, 65534, 65534)
    result = kind(str(link)).run(claimed_entry())
    assert result.verdict is Verdict.MISCONFIGURED
    assert result.reason.endswith(f"{link} is a symbolic link of a user")


def test_a_full_disk_is_a_retry_and_leaves_nothing_behind(box, claimed_entry, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(maildir, "write_all", full)
    result = maildir.Maildir(str(box)).run(claimed_entry())
    assert (result.verdict, files(box)) == (Verdict.RETRY, {})
    assert result.reason == f"maildir {box}: No space left on device"


def test_terminate_ends_a_message_that_is_being_written(box, claimed_entry, monkeypatch):
    monkeypatch.setattr(copy_bytes, "PIECE", 10)
    handler = maildir.Maildir(str(box))
    handler.terminate()
    result = handler.run(claimed_entry(b"x" * 100, form="raw"))
    assert (result.verdict, files(box)) == (Verdict.STOPPED, {})


def test_what_cannot_be_decoded_is_rejected(box, claimed_entry):
    entry = claimed_entry()
    os.truncate(entry.path, 3)
    result = maildir.Maildir(str(box)).run(entry)
    assert (result.verdict, files(box)) == (Verdict.REJECT, {})


# The settings


@pytest.mark.parametrize("value", ["Maildir", "/", "", "/a\0b"])
def test_what_is_no_absolute_path_is_refused(value):
    with pytest.raises(BadConfiguration, match=r"handler\.maildir: expected the absolute path"):
        read_handler({"maildir": value}, "handler")


def test_check_tries_the_maildir_and_changes_nothing(box):
    before = sorted(box.rglob("*"))
    kind = read_handler({"maildir": f"{box}/"}, "handler")
    assert [(check.grade, check.what) for check in kind.try_target()] == [
        (OK, f"{box}: complete, writable, and can be synced")
    ]
    shutil.rmtree(box / "tmp")
    with pytest.raises(Exception, match="tmp/ does not exist; make it"):
        list(kind.try_target())
    made = read_handler({"maildir": str(box), "create": True}, "handler")
    assert [check.grade for check in made.try_target()] == [OK]
    assert sorted(box.rglob("*")) == [path for path in before if path.name != "tmp"]
    with pytest.raises(Exception, match="does not exist"):
        list(read_handler({"maildir": f"{box}/a/b", "create": True}, "handler").try_target())
