"""`move`: an entry's files are in the target once, whole and durable, whatever dies on the way.

On the queue's file system that is one rename; to another one, here /dev/shm, a copy.
"""

from __future__ import annotations

import errno
import os
import pickle
import random
import shutil
import stat
import tempfile
import tomllib
from pathlib import Path

import pytest

from watcher.cli import parameters
from watcher.config import load as configuration
from watcher.errors import BadConfiguration
from watcher.handle import copy_bytes
from watcher.handle.handler_kinds import read_handler
from watcher.handle.kinds import move_files
from watcher.rules.archived_names import archived_name
from watcher.rules.results import HANDLED, AttemptEnd, Verdict
from watcher.spool import disk, libc
from watcher.sweep import Limits, Sweep, SweepOptions

MTIME = 1_700_000_000_123_456_789


@pytest.fixture
def beside(tmp_path):
    """Return a target on the queue's file system."""
    target = tmp_path / "target"
    target.mkdir()
    return target


@pytest.fixture
def elsewhere(tmp_path):
    """Return a target on another file system."""
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no other file system to write to")
    target = Path(tempfile.mkdtemp(prefix="watcher-test.", dir="/dev/shm"))
    yield target
    shutil.rmtree(target)


@pytest.fixture(params=["beside", "elsewhere"])
def target(request):
    """Return a target on the same and on another file system."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def settings(queue, tmp_path):
    """Return the settings of a raw queue, or of another one, whose handler moves to a directory."""

    def load(target, more='format = "raw"'):
        file = tmp_path / "w.toml"
        file.write_text(
            f'[queues.q]\npath = "{queue}"\ngrace_age = "0s"\n{more}\n'
            f'handler = {{ move = "{target}" }}\n'
        )
        return configuration.load(str(file), {})["q"]

    return load


@pytest.fixture
def sweep(settings):
    """Sweep the queue once with the handler; return how each attempt ended, and why."""

    def swept(target, more='format = "raw"'):
        queue = settings(target, more)
        orders = SweepOptions(queue.name, parameters.terms_for(queue), queue.retry)
        spool = parameters.open_spool(queue)
        lines = Sweep(spool, orders, parameters.handler_for(queue), Limits()).lines(lambda _: None)
        return [(line.report.result, line.report.why) for line in lines]

    return swept


def files(directory):
    """Return the files in a directory, hidden ones too, and what is in them."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


DONE = [(AttemptEnd.DONE, "")]


def results(lines):
    return [result for result, _why in lines]


def test_a_file_is_moved_with_its_bytes_mtime_and_permissions(queue, target, sweep):
    report = queue / "report.csv"
    report.write_bytes(b"data" * 5000)
    report.chmod(0o640)
    os.utime(report, ns=(MTIME, MTIME))
    assert results(sweep(target)) == [AttemptEnd.DONE]
    assert files(target) == {"report.csv": b"data" * 5000}
    assert not report.exists()
    status = (target / "report.csv").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, MTIME)


def test_another_commit_of_the_same_name_and_bytes_gets_a_number(queue, target, sweep):
    for _ in range(3):
        (queue / "report.csv").write_bytes(b"same")
        os.utime(queue / "report.csv", ns=(MTIME, MTIME))
        assert results(sweep(target)) == [AttemptEnd.DONE]
    assert sorted(files(target)) == ["report.csv", "report~1.csv", "report~2.csv"]


def test_what_is_in_the_target_is_not_overwritten(queue, target, sweep):
    (target / "report.csv").write_bytes(b"another program's")
    (target / "report~1.csv").mkdir()
    (queue / "report.csv").write_bytes(b"ours")
    sweep(target)
    assert files(target) == {"report.csv": b"another program's", "report~2.csv": b"ours"}


def test_a_pair_is_moved_with_one_number_and_a_pck_as_it_is(queue, target, sweep):
    (target / "1.5+ab.db").write_bytes(b"another")
    pck = pickle.dumps(b"message", 2) + pickle.dumps({"lang": "en"}, 2)
    (queue / "1.5+ab.msg").write_bytes(b"message")
    (queue / "1.5+ab.db").write_bytes(pickle.dumps({}, 2)[:0] + b"{0")
    (queue / "1.7+cd.pck").write_bytes(pck)
    assert results(sweep(target, "legacy = true")) == [AttemptEnd.DONE] * 2
    assert files(target) == {
        "1.5+ab.db": b"another",
        "1.5+ab~1.db": b"{0",
        "1.5+ab~1.msg": b"message",
        "1.7+cd.pck": pck,
    }


def test_a_marker_is_removed_and_its_file_moved(queue, target, sweep):
    (queue / "report.csv").write_bytes(b"data")
    (queue / "report.csv.done").touch()
    assert results(sweep(target, 'format = "raw"\nmarker = "{name}.done"')) == [AttemptEnd.DONE]
    assert (files(queue), files(target)) == ({}, {"report.csv": b"data"})


@pytest.mark.parametrize("name", [b"\xff\n.csv", b"-rf", b"$(x) 'y", b"n" * 255])
def test_any_name_that_a_writer_may_give_is_moved(queue, target, sweep, name):
    with open(os.path.join(os.fsencode(queue), name), "wb") as file:
        file.write(b"data")
    assert results(sweep(target)) == [AttemptEnd.DONE]
    assert os.listdir(os.fsencode(target)) == [name]


@pytest.mark.parametrize("found", ["nothing", "a file", "not writable"])
def test_a_target_that_cannot_be_used_is_the_operators_mistake(
    queue, tmp_path, claimed_entry, found
):
    target = tmp_path / "nowhere"
    if found == "a file":
        target.touch()
    if found == "not writable":
        target = Path("/proc")
    result = move_files.Move(str(target)).run(claimed_entry(form="raw"))
    assert result.verdict is Verdict.MISCONFIGURED
    assert result.reason.startswith(f"move to {target}: ")


def test_a_full_disk_is_a_retry_and_leaves_nothing_behind(elsewhere, claimed_entry, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(copy_bytes, "write_all", full)
    result = move_files.Move(str(elsewhere)).run(claimed_entry(form="raw"))
    assert (result.verdict, result.copied) == (Verdict.RETRY, False)
    assert result.reason == f"move to {elsewhere}: No space left on device"
    assert files(elsewhere) == {}


def test_terminate_ends_a_copy_and_the_entry_stays(elsewhere, claimed_entry, monkeypatch):
    monkeypatch.setattr(copy_bytes, "PIECE", 10)
    handler = move_files.Move(str(elsewhere))
    pieces = []

    def piece(_target, data):
        pieces.append(bytes(data))
        handler.terminate()

    monkeypatch.setattr(copy_bytes, "write_all", piece)
    result = handler.run(claimed_entry(b"x" * 1000, form="raw"))
    assert (result.verdict, len(pieces)) == (Verdict.STOPPED, 1)
    assert files(elsewhere) == {}


@pytest.mark.parametrize("size", [0, 1, 10, 11, 1005])
def test_a_file_of_any_size_is_copied_in_pieces(elsewhere, claimed_entry, monkeypatch, size):
    monkeypatch.setattr(copy_bytes, "PIECE", 10)
    data = random.Random(2).randbytes(size)
    assert move_files.Move(str(elsewhere)).run(claimed_entry(data, form="raw")).copied
    assert list(files(elsewhere).values()) == [data]


def test_a_file_that_became_shorter_is_not_copied(elsewhere, claimed_entry):
    entry = claimed_entry(b"long", form="raw")
    _ = entry.key
    os.truncate(entry.path, 2)
    result = move_files.Move(str(elsewhere)).run(entry)
    assert (result.verdict, files(elsewhere)) == (Verdict.RETRY, {})


# A crash at each step of a copy


class Died(BaseException):
    """The process is killed at a step of the copy."""


STEPS = ["create_anew", "copy_bytes", "setxattr", "utime", "fsync", "move", "sync"]


def dies(monkeypatch, step, after):
    """Let this process die before or after a step: nothing of its own is cleaned up then."""
    home = {
        "create_anew": move_files.state_files,
        "copy_bytes": move_files,
        "move": disk.Disk,
        "sync": disk.Disk,
    }.get(step, os)
    real = getattr(home, step)

    def call(*arguments, **named):
        if after:
            real(*arguments, **named)
        raise Died

    monkeypatch.setattr(home, step, call)
    monkeypatch.setattr(os, "unlink", lambda *_names, **_rest: None)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("form", ["raw", "pair"])
def test_after_a_death_at_any_step_the_next_attempt_leaves_one_copy(
    elsewhere, claimed_entry, monkeypatch, form, step, after
):
    entry = claimed_entry(b"whole", form=form)
    handler = move_files.Move(str(elsewhere))
    with monkeypatch.context() as patch:
        dies(patch, step, after)
        with pytest.raises(Died):
            handler.run(entry)
    assert handler.run(entry).copied
    assert sorted(files(elsewhere)) == sorted(os.fsdecode(part.name) for part in entry.parts)
    assert (elsewhere / os.fsdecode(entry.parts[0].name)).read_bytes() == b"whole"


def test_a_copy_is_durable_before_it_has_its_name_and_its_name_before_the_end(
    elsewhere, claimed_entry, monkeypatch
):
    steps = []

    def record(home, step):
        real = getattr(home, step)

        def call(*arguments, **named):
            steps.append(step)
            return real(*arguments, **named)

        monkeypatch.setattr(home, step, call)

    entry = claimed_entry(form="raw")
    record(move_files, "copy_bytes")
    record(os, "utime")
    record(os, "fsync")
    record(disk.Disk, "move")
    assert move_files.Move(str(elsewhere)).run(entry).copied
    assert steps == ["copy_bytes", "utime", "fsync", "move", "fsync"]


def test_a_pair_of_which_one_file_was_moved_is_completed(target, claimed_entry, monkeypatch):
    """By two renames to the queue's own file system it was torn: no attempt had both files."""
    (target / "1.0+ab.msg").write_bytes(b"another")
    entry = claimed_entry(b"whole", form="pair")
    real = move_files._Copy._commit

    def once(self, part, number):
        if part is entry.parts[1]:
            raise Died
        real(self, part, number)

    with monkeypatch.context() as patch:
        patch.setattr(move_files._Copy, "_commit", once)
        patch.setattr(os, "unlink", lambda *_names, **_rest: None)
        with pytest.raises(Died):
            move_files.Move(str(target)).run(entry)
    assert move_files.Move(str(target)).run(entry).copied
    assert sorted(files(target)) == ["1.0+ab.msg", "1.0+ab~1.db", "1.0+ab~1.msg"]


def test_an_attempt_after_a_delivery_finds_it_whatever_number_it_has(elsewhere, claimed_entry):
    for number in range(5):
        (elsewhere / os.fsdecode(archived_name(b"1.0+ab.csv", number))).write_bytes(b"another")
    entry, handler = claimed_entry(form="raw"), move_files.Move(str(elsewhere))
    assert handler.run(entry).copied
    assert handler.run(entry).copied
    assert max(files(elsewhere)) == "1.0+ab~5.csv"
    assert len(files(elsewhere)) == 6


def test_without_attributes_nothing_is_taken_for_a_copy(elsewhere, claimed_entry, monkeypatch):
    def none(*_arguments, **_rest):
        raise OSError(errno.ENOTSUP, "")

    monkeypatch.setattr(os, "setxattr", none)
    monkeypatch.setattr(os, "getxattr", none)
    (elsewhere / "1.0+ab.csv").write_bytes(b"message")
    assert move_files.Move(str(elsewhere)).run(claimed_entry(form="raw")).copied
    assert files(elsewhere) == {"1.0+ab.csv": b"message", "1.0+ab~1.csv": b"message"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EPERM])
def test_where_no_rename_can_refuse_to_overwrite_it_is_committed_all_the_same(
    elsewhere, claimed_entry, monkeypatch, code
):
    monkeypatch.setattr(libc, "renameat2", lambda *_arguments: errno.EINVAL)
    if code == errno.EPERM:  # no hard links either

        def refuse(*_names, **_rest):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", refuse)
    assert move_files.Move(str(elsewhere)).run(claimed_entry(b"data", form="raw")).copied
    assert files(elsewhere) == {"1.0+ab.csv": b"data"}


# The settlement unlinks only what was copied


def test_a_target_that_moves_to_another_file_system_meanwhile_loses_nothing(
    queue, elsewhere, sweep, monkeypatch
):
    monkeypatch.setattr("watcher.sweep.PATIENCE", 0.0)
    (queue / "report.csv").write_bytes(b"data")
    with monkeypatch.context() as patch:
        patch.setattr(move_files.mounts, "are_one", lambda *_fds: True)  # the handler was wrong
        assert results(sweep(elsewhere)) == [AttemptEnd.STUCK]
    left = [path.read_bytes() for path in queue.rglob("report.csv")]
    assert (left, files(elsewhere)) == ([b"data"], {})


def test_a_state_directory_is_refused(queue, tmp_path, sweep):
    other = tmp_path / "other" / ".watcher" / "held"
    other.mkdir(parents=True)
    (queue / "report.csv").write_bytes(b"data")
    with pytest.raises(Exception, match=f"handler.move = {other}: that is a state directory"):
        sweep(other)


def test_the_queue_by_another_name_is_refused(queue, tmp_path, sweep):
    (tmp_path / "link").symlink_to(queue)
    with pytest.raises(Exception, match="that is the queue directory itself"):
        sweep(tmp_path / "link")


@pytest.mark.parametrize("inside", ["", "/", "/done", "/.watcher/held"])
def test_a_target_in_the_queue_is_refused_when_the_configuration_is_read(queue, settings, inside):
    with pytest.raises(BadConfiguration, match=r"handler\.move: expected a directory outside"):
        settings(f"{queue}{inside}")


def test_an_archive_beside_a_move_is_refused(queue, settings, beside):
    with pytest.raises(BadConfiguration, match="archive: goes with no handler that moves"):
        settings(beside, 'archive = "done"')


@pytest.mark.parametrize("value", ['"done"', '"/"', '"//"', '"/tmp/.."', '""', '"/a\\u0000b"'])
def test_what_is_no_absolute_path_is_refused(value):
    table = tomllib.loads(f"handler = {{ move = {value} }}")["handler"]
    with pytest.raises(BadConfiguration, match=r"handler\.move: expected the absolute path"):
        read_handler(table, "handler")


def test_check_tries_the_target_and_changes_nothing(target, tmp_path):
    kind = read_handler({"move": str(target)}, "handler")
    assert [check.what for check in kind.try_target()] == [f"{target}: writable, and can be synced"]
    assert files(target) == {}
    # What is missing is said by the look at the queue, as of an archive.
    assert not list(read_handler({"move": str(tmp_path / "nowhere")}, "handler").try_target())
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        list(read_handler({"move": str(tmp_path / "file")}, "handler").try_target())


# A reload gives the queue another handler, while an attempt of the one before is under way


def test_what_the_handler_before_a_reload_promised_is_kept(queue, beside, settings, monkeypatch):
    (queue / "report.csv").write_bytes(b"data")
    before = settings(beside)
    spool = parameters.open_spool(before)
    orders = SweepOptions(before.name, parameters.terms_for(before), before.retry)
    handler = parameters.handler_for(before)
    run = handler.run

    def reloaded_meanwhile(entry):
        result = run(entry)
        spool.use_archive(None)  # the new handler is no `move`
        return result

    monkeypatch.setattr(handler, "run", reloaded_meanwhile)
    lines = Sweep(spool, orders, handler, Limits()).lines(lambda _: None)
    assert [line.report.result for line in lines] == [AttemptEnd.DONE]
    assert (files(queue), files(beside)) == ({}, {"report.csv": b"data"})


def test_what_another_handler_did_is_not_moved_by_the_one_after_a_reload(
    queue, beside, settings, monkeypatch
):
    (queue / "report.csv").write_bytes(b"data")
    after = settings(beside)
    orders = SweepOptions(after.name, parameters.terms_for(after), after.retry)
    handler = parameters.handler_for(after)
    monkeypatch.setattr(handler, "run", lambda _entry: HANDLED)  # that of the handler before
    lines = Sweep(parameters.open_spool(after), orders, handler, Limits()).lines(lambda _: None)
    assert [line.report.result for line in lines] == [AttemptEnd.DONE]
    assert (files(queue), files(beside)) == ({}, {})
