"""`check` tells what it cannot vouch for, and which directories to serve instead."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.command_server import run_command
from tests.renaming import rename_in
from tests.scripted_http_server import serving
from watcher.inspect import check_daemon
from watcher.inspect.daemon_user import Viewer

NOBODY = 65534
AS_ANOTHER = """
import codecs, contextlib, importlib, json, os, pkgutil, pwd, sys, time
import watcher
from watcher.cli import main
for module in pkgutil.walk_packages(watcher.__path__, "watcher."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
codecs.lookup("ascii")
user = int(sys.argv[1])
os.setgroups([]), os.setgid(user), os.setuid(user)
main(sys.argv[2:])
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays a second user")


@pytest.fixture
def check(watcher_command, environment):
    """Run `watcher check`; return its status and its lines by what they are about."""

    def run(*arguments, user=None):
        argv = [*watcher_command, "check", "--json", *map(str, arguments)]
        start = run_command
        if user is not None:  # a user that may not read this Python's modules: imported before
            argv[: len(watcher_command)] = [*watcher_command[:1], "-c", AS_ANOTHER, str(user)]
            start = subprocess.run
        ended = start(argv, env=environment, capture_output=True, timeout=60)
        assert b"Traceback" not in ended.stderr
        found: dict[str, list[dict[str, str]]] = {}
        for line in map(json.loads, ended.stdout.splitlines()):
            found.setdefault(line["about"], []).append(line)
        return ended.returncode, found

    return run


@pytest.fixture
def shared():
    """A queue that every user can reach."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    queue = directory / "queue"
    queue.mkdir()
    yield queue
    shutil.rmtree(directory)


@needs_root
def test_a_lease_is_not_said_to_work_for_uploads_of_another_user(shared, check):
    (shared / "mine.pck").touch()
    os.chown(shared / "mine.pck", NOBODY, NOBODY)
    os.chown(shared, NOBODY, NOBODY)
    for user in (NOBODY, None):  # None: root, which looks with the eyes of the queue's owner
        _, found = check(shared, user=user)
        assert found["lease"][0]["grade"] == "ok"
        assert "no other user may put any here" in found["lease"][0]["what"]
    (shared / "upload.pck").touch()
    for user in (NOBODY, None):
        _, found = check(shared, user=user)
        assert found["lease"][0]["grade"] == "warning"
        assert "CAP_LEASE" in found["lease"][0]["what"]
        assert "1 of root" in found["lease"][0]["what"]
    (shared / "upload.pck").unlink()
    shared.chmod(0o775)
    _, found = check(shared, user=NOBODY)
    assert found["lease"][0]["grade"] == "warning"
    assert "may put files here" in found["lease"][0]["what"]


@needs_root
@pytest.mark.parametrize("capable", [True, False])
def test_the_capability_of_the_daemon_that_runs_counts(
    shared, check, watcher_command, start_daemon, capable
):
    (shared / "upload.pck").touch()
    os.chown(shared / "upload.pck", NOBODY, NOBODY)
    # As in a unit without AmbientCapabilities=CAP_LEASE:
    without = [] if capable else ["setpriv", "--bounding-set=-lease", "--inh-caps=-lease"]
    watcher_command[:0] = without
    daemon = start_daemon(shared, handler=["true"])
    del watcher_command[: len(without)]
    lease = check(shared)[1]["lease"][0]
    assert lease["grade"] == ("ok" if capable else "warning")
    if capable:
        assert f"process {daemon.process.pid} has CAP_LEASE" in lease["what"]
    else:
        assert "AmbientCapabilities=CAP_LEASE" in lease["what"]


@needs_root
def test_entries_that_the_daemons_user_cannot_open_are_bad(shared, check):
    os.chown(shared, NOBODY, NOBODY)
    for name in ("a.pck", "b.pck"):
        (shared / name).touch(mode=0o600)
    for user in (NOBODY, None):
        status, found = check(shared, user=user)
        assert status == os.EX_NOPERM
        (line,) = [each for each in found["entries"] if each["grade"] == "bad"]
        assert line["what"].startswith("2 cannot be opened by nobody")
    dead = shared / ".watcher/dead"
    dead.mkdir(mode=0o755)
    (dead / "c.pck").touch(mode=0o600)
    (dead / "c.json").touch(mode=0o600)
    _, found = check(shared)
    (line,) = [each for each in found["entries"] if each["grade"] == "bad"]
    assert line["what"].startswith("3 cannot be opened by nobody")
    os.chown(shared / ".watcher", 0, 0)
    _, found = check(shared)
    assert any(".watcher/ belongs to root" in each["what"] for each in found["permission"])


def test_a_handler_that_cannot_be_run_is_bad(queue, check, tmp_path):
    not_executable = tmp_path / "script"
    not_executable.write_text("#!/bin/sh\n")
    of_no_program = tmp_path / "of_no_program"
    of_no_program.write_text("#! /no/such/shell -e\n")
    of_no_program.chmod(0o755)
    for command in ("/no/such/command", not_executable, of_no_program):
        status, found = check(queue, "--", command)
        assert status != 0
        assert found["handler"][0]["grade"] == "bad"
        assert str(command) in found["handler"][0]["what"]
    status, found = check(queue, "--", "true")
    assert (status, found["handler"][0]["grade"]) == (0, "ok")
    assert "handler" not in check(queue)[1]
    (tmp_path / "broken_handler.py").write_text("raise KeyError('x')\n")
    config = tmp_path / "w.toml"
    config.write_text(
        f'[queues.a]\npath = "{queue}"\nhandler = {{ exec = ["/no/such"] }}\n'
        f'[queues.b]\npath = "{tmp_path}"\nhandler = {{ python = "no_such_module:f" }}\n'
    )
    argv = [config.parent / "missing", "--config", config]
    assert check(*argv)[0] == os.EX_NOINPUT
    status, found = check("--config", config)
    assert status != 0
    assert [each["grade"] for each in found["handler"]] == ["bad", "bad"]


def test_a_directory_of_a_handler_that_cannot_be_used_is_named_once(queue, check, tmp_path):
    config, target = tmp_path / "w.toml", tmp_path / "target"
    config.write_text(f'[queues.q]\npath = "{queue}"\nhandler = {{ move = "{target}" }}\n')
    status, found = check("--config", config)
    (only,) = found["handler"]
    assert (status, only["grade"]) == (os.EX_NOINPUT, "bad")
    assert f"{target}: does not exist; make it first: mkdir" in only["what"]
    target.touch()
    status, found = check("--config", config)
    why = f"its target cannot be used: {target}: Not a directory"
    assert (status, found["handler"][0]["what"]) == (os.EX_UNAVAILABLE, why)
    target.unlink()
    target.mkdir()
    assert {each["grade"] for each in check("--config", config)[1]["handler"]} == {"ok"}


def test_the_server_of_a_handler_is_asked_without_an_entry(queue, check, tmp_path):
    pytest.importorskip("httpx2")
    config = tmp_path / "w.toml"
    with serving() as server:
        rename_in(queue, "1.csv")
        more = 'format = "raw"'
        config.write_text(
            f'[queues.q]\npath = "{queue}"\nhandler = {{ http = "{server.url}" }}\n{more}\n'
        )
        _, found = check("--config", config)
        assert found["handler"][0]["what"] == "the server answers OPTIONS with 204"
        assert server.requests.get(timeout=10).method == "OPTIONS"
        assert server.requests.empty()
    status, found = check("--config", config)
    assert status == os.EX_UNAVAILABLE
    assert found["handler"][0]["what"].startswith(f"{server.url}: cannot be reached: ")
    assert (queue / "1.csv").exists()


@pytest.mark.parametrize(
    ("program", "where", "files"),
    [
        ("Postfix", "postfix/active", {}),
        ("Postfix", "elsewhere", {"4F1A2B3C4D": b"C_            1234       567 "}),
        ("Exim", "input", {"1r4XyZ-0005ab-2K-H": b"", "1r4XyZ-0005ab-2K-D": b""}),
        ("Sendmail", "mq", {"qf3AB1xYz0012345": b"", "df3AB1xYz0012345": b""}),
    ],
)
def test_another_programs_own_queue_is_bad_and_nothing_is_made_in_it(
    tmp_path, check, start_daemon, program, where, files
):
    for name in ("active", "incoming", "deferred", "maildrop"):
        (tmp_path / "postfix" / name).mkdir(parents=True)
    queue = tmp_path / where
    queue.mkdir(exist_ok=True)
    for name, data in files.items():
        (queue / name).write_bytes(data)
    status, found = check(queue, "--format", "raw", "--suffix", ".x")
    assert status != 0
    (line,) = found["another program's"]
    assert line["what"].startswith(f"this is {program}'s own queue: do not serve it")
    assert not (queue / ".watcher").exists()
    daemon = start_daemon(queue, handler=["true"])
    assert f"this is {program}'s own queue" in daemon.events("mind")[0]["detail"]


def test_a_queue_of_ones_own_is_not_taken_for_another_programs(queue, check):
    for name in ("DEADBEEF", "4F1A2B3C4D.csv", "qfabcdefgh12"):
        (queue / name).write_bytes(b"C is for cookie")
    status, found = check(queue)
    assert status == 0
    assert "another program's" not in found


def test_of_a_mailman_tree_the_directories_to_serve_are_named(
    tmp_path, check, start_daemon, watcher_command, environment
):
    tree = tmp_path / "qfiles"
    for name in ("in", "out", "shunt", "mine"):
        (tree / name).mkdir(parents=True)
    (tree / "out" / f"1.5+{'a' * 40}.pck").touch()
    status, found = check(tree)
    assert status == 0
    (line,) = found["Mailman's tree"]
    assert line["grade"] == "warning"
    assert "in out/, in/, shunt/" in line["what"]
    assert f"e.g. {tree}/out" in line["what"]
    (foreign,) = found["foreign"]
    assert foreign["what"].startswith("1, ")
    assert "mine" in foreign["what"]
    daemon = start_daemon(tree, handler=["true"])
    assert f"there is no entry in {tree}" in daemon.events("mind")[0]["detail"]
    argv = [*watcher_command, "sweep", str(tree), "--", "true"]
    swept = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    assert f"there is no entry in {tree}" in swept.stderr
    daemon = start_daemon(tree / "out", handler=["true"])
    assert not daemon.events("mind")


def test_leftovers_are_told_with_what_they_are_and_a_runner_at_work_is_named(queue, check):
    for name in ("a.bak", "b.psv"):
        (queue / name).touch()
    _, found = check(queue)
    backup, preserved = (each["what"] for each in found["Mailman's leftover"])
    assert "the backup a Mailman runner keeps" in backup
    assert "mv -n NAME.bak NAME.pck" in backup
    assert "mv -n NAME.psv NAME.pck" in preserved
    assert "a.bak" in found["a runner"][0]["what"]
    _, found = check(queue, "--grace-age", "0s")
    assert "a runner" not in found, "a backup of long ago: its runner is gone"


def test_a_daemon_at_work_is_named_and_its_absence_when_entries_wait(
    queue, check, start_daemon, monkeypatch
):
    assert check(queue)[1]["daemon"][0]["what"] == "none is seen at work"
    daemon = start_daemon(queue, handler=["true"])
    what = check(queue)[1]["daemon"][0]["what"]
    assert what == f"at work: process {daemon.process.pid}"
    daemon.end()
    from watcher.rules.names import Layout
    from watcher.spool.spool import Spool

    spool = Spool(os.fsencode(queue), Layout())
    late = check_daemon.check_daemon(spool, 14 * 3600.0, 300.0)
    assert (late.grade, late.what.split(":")[0]) == (
        "warning",
        "none is seen at work, and the oldest entry waits for 14h",
    )
    assert check_daemon.check_daemon(spool, 60.0, 300.0).grade == "ok"


def test_with_strict_a_warning_is_bad(queue, check):
    (queue / ".watcher").mkdir(mode=0o700)
    (queue / ".watcher" / "dead").mkdir(mode=0o700)
    (queue / ".watcher" / "dead" / "a.pck").touch()
    status, found = check(queue)
    assert (status, found["dead"][0]["grade"]) == (0, "warning")
    assert check(queue, "--strict")[0] == os.EX_UNAVAILABLE


def test_the_limits_of_inotify_say_of_which_user_they_are(queue, check):
    _, found = check(queue)
    [instances] = found["max_user_instances"]
    assert f"in use by user {pwd.getpwuid(os.geteuid()).pw_name}" in instances["what"]


def test_rights_are_those_of_the_mode_bits(tmp_path):
    file = tmp_path / "file"
    file.touch()
    status = os.stat(file)
    owner = Viewer(status.st_uid or 1, frozenset(), any_lease=False)
    for mode, uid, gids, may in (
        (0o400, 7, (), True),
        (0o040, 7, (8,), False),  # the owner's bits count for the owner, not the group's
        (0o040, 6, (8,), True),
        (0o004, 6, (8,), False),
        (0o004, 6, (), True),
        (0o000, 0, (), True),
    ):
        seen = os.stat_result((0o100000 | mode, 1, 1, 1, 7, 8, 0, time.time(), 0, 0))
        viewer = Viewer(uid, frozenset(gids), any_lease=False)
        assert viewer.may(seen, os.R_OK) is may, (oct(mode), uid, gids)
    assert owner.name
