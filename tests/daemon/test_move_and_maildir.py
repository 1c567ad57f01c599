"""A real daemon whose handler moves entries, or delivers them to a Maildir."""

from __future__ import annotations

import mailbox
import os
import subprocess

import pytest

import writers
from tests.command_server import run_command
from tests.renaming import rename_in
from watcher.config.expand import expand
from watcher.config.queue_settings import Queue
from watcher.handle.handler_kinds import read_handler


@pytest.fixture
def serve(queue, tmp_path, start_daemon):
    """Start a daemon whose queue has a handler."""
    config = tmp_path / "watcher.toml"

    def start(handler, more='format = "raw"', ready=True):
        more += '\nsweep_every = "100ms"\nretry = { initial = "200ms" }\n'
        config.write_text(f'[queues.q]\npath = "{queue}"\nhandler = {handler}\n{more}')
        return start_daemon(None, "--config", str(config), ready=ready)

    return start


@pytest.fixture
def small(tmp_path):
    """Return a directory on a file system of its own, of 64 KB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_target_defers_what_does_not_fit_and_gets_it_later(queue, small, serve):
    (small / "other").write_bytes(b"x" * 40_000)
    daemon = serve(f'{{ move = "{small}" }}')
    rename_in(queue, "large.csv", b"L" * 50_000)
    (said,) = daemon.wait_for("defer")[:1]
    assert "No space left on device" in said["detail"]
    rename_in(queue, "small.csv", b"fits")
    daemon.wait_for("finish", entry="small.csv")
    assert sorted(os.listdir(small)) == ["other", "small.csv"], "nothing is left of the large one"
    (small / "other").unlink()
    daemon.wait_for("finish", entry="large.csv")
    assert (small / "large.csv").read_bytes() == b"L" * 50_000
    assert daemon.end() == os.EX_OK


def test_a_target_that_comes_later_gets_everything(queue, tmp_path, serve):
    target = tmp_path / "target"
    daemon = serve(f'{{ move = "{target}" }}', ready=False)
    (said,) = daemon.wait_for("unhealthy")
    assert f"handler.move = {target}: does not exist; make it first: mkdir" in said["detail"]
    rename_in(queue, "a.csv", later=True)
    target.mkdir()
    daemon.wait_for("finish", entry="a.csv")
    target.rename(tmp_path / "gone")
    rename_in(queue, "b.csv")
    daemon.wait_for("unhealthy", 2)
    target.mkdir()
    daemon.wait_for("finish", entry="b.csv")
    assert os.listdir(target) == ["b.csv"]
    assert daemon.end() == os.EX_OK


@pytest.mark.parametrize(
    "far",
    [False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["one file system", "another one"],
)
def test_the_target_may_be_a_queue_that_handles_each_entry_once(
    queue, tmp_path, start_daemon, recorder, request, far
):
    target = request.getfixturevalue("small") if far else tmp_path / "next"
    target.mkdir(exist_ok=True)
    config = tmp_path / "watcher.toml"
    config.write_text(
        f'[queues.first]\npath = "{queue}"\nformat = "raw"\nhandler = {{ move = "{target}" }}\n'
        f'[queues.second]\npath = "{target}"\nformat = "raw"\n'
        f"handler = {{ exec = {recorder.argv()} }}\n"
    )
    daemon = start_daemon(None, "--config", str(config))
    rename_in(queue, "other.csv", b"the same bytes")
    for number in (1, 2):
        rename_in(queue, "report.csv", b"the same bytes")
        daemon.wait_for("finish", number, queue="first", entry="report.csv")
    daemon.wait_for("finish", 3, queue="second")
    assert sorted(call["entry"] for call in recorder.calls)[:2] == ["other.csv", "report.csv"]
    assert len(recorder.calls) == 3
    assert os.listdir(target) == [".watcher"]
    assert daemon.end() == os.EX_OK


def test_the_target_of_a_patterns_queues_is_none_of_them(tmp_path):
    for name in ("one", "two", "target"):
        (tmp_path / name).mkdir()
    handler = read_handler({"move": f"{tmp_path}/target"}, "handler")
    settings = Queue(name="q", path=f"{tmp_path}/*", many=True, format="raw", handler=handler)
    queues, troubles = expand([settings])
    assert (sorted(queues), troubles) == (["q/one", "q/two"], [])
    later = Queue(name="next", path=f"{tmp_path}/t*", many=True, format="raw")
    queues, troubles = expand([settings, later])
    assert (sorted(queues), troubles) == (["next/target", "q/one", "q/two"], [])


def test_each_message_is_in_the_maildir_and_accounted_for(
    queue, tmp_path, serve, watcher_command, environment
):
    letters = [writers.message_for(1, number) for number in range(3)]
    daemon = serve(f'{{ maildir = "{tmp_path}/Maildir", create = true }}', "")
    for letter in letters:
        writers.commit_2_1_5(str(queue), letter, writers.no_pause)
    daemon.wait_for("finish", 3)
    found = mailbox.Maildir(str(tmp_path / "Maildir"), create=False)
    assert len(found) == len(letters)
    assert daemon.end() == os.EX_OK
    audit = run_command([*watcher_command, "audit", str(queue)], env=environment)
    assert audit.returncode == os.EX_OK
