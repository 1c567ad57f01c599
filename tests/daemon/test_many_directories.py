"""`path = "/srv/in/*"`: each directory that matches is a queue, also one that comes later."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal

import pytest

import writers

LETTER = writers.message_for(1, 1)


def commit(queue):
    return writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)


@pytest.fixture
def root(tmp_path):
    directory = tmp_path / "in"
    directory.mkdir()
    return directory


@pytest.fixture
def serve(tmp_path, start_daemon, recorder):
    """Start a daemon for a pattern; it has looked at the directories when the call returns."""

    def started():
        daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"), ready=False)
        daemon.wait_for("directories")
        return daemon

    def starting(path, *more, name="in", argv=None, count=None):
        config(tmp_path, {name: path}, argv or recorder.argv(), *more)
        daemon = started()
        if count is not None:
            daemon.wait_for("ready", count)
        return daemon

    starting.started = started
    return starting


def config(tmp_path, paths, argv, *more):
    words = ", ".join(f'"{word}"' for word in argv)
    tables = [
        "\n".join([f"[queues.{name}]", f"path = '{path}'", f"handler = {{exec=[{words}]}}", *more])
        for name, path in paths.items()
    ]
    (tmp_path / "w.toml").write_text("\n".join(tables))


def test_each_directory_is_a_queue_called_by_its_name(root, serve, recorder):
    names = {}
    for tenant in ("one", "two"):
        (root / tenant).mkdir()
        names[tenant] = commit(root / tenant)
    (root / "a file").write_bytes(b"")
    (root / ".hidden").mkdir()
    daemon = serve(f"{root}/*", count=2)
    for tenant, name in names.items():
        daemon.wait_for("finish", queue=f"in/{tenant}", entry=name)
    assert {call["queue"] for call in recorder.calls} == {"in/one", "in/two"}
    assert {record["queue"] for record in daemon.events("ready")} == {"in/one", "in/two"}
    assert not (root / ".hidden" / ".watcher").exists()
    assert daemon.end() == 0


def test_a_directory_that_comes_later_is_served_at_once_with_what_is_in_it(root, serve, tmp_path):
    daemon = serve(f"{root}/*", 'sweep_every = "1h"')
    (tmp_path / "prepared").mkdir()
    early = commit(tmp_path / "prepared")
    (tmp_path / "prepared").rename(root / "renamed in")
    daemon.wait_for("finish", queue="in/renamed in", entry=early)
    (root / "made").mkdir()
    at_once = commit(root / "made")
    daemon.wait_for("finish", queue="in/made", entry=at_once)
    daemon.wait_for("ready", 2)
    by_event = commit(root / "made")
    daemon.wait_for("finish", queue="in/made", entry=by_event)
    assert daemon.end() == 0


def test_each_level_of_a_pattern_is_watched(root, serve):
    daemon = serve(f"{root}/*/20*/new", 'sweep_every = "1h"')
    place = root / "camera" / "2026-11-27" / "new"
    place.mkdir(parents=True)
    name = commit(place)
    daemon.wait_for("finish", queue="in/camera/2026-11-27/new", entry=name)
    other = root / "camera" / "2026-11-28"
    other.mkdir()
    (other / "new").mkdir()
    name = commit(other / "new")
    daemon.wait_for("finish", queue="in/camera/2026-11-28/new", entry=name)
    assert daemon.end() == 0


def test_a_directory_that_goes_away_is_no_trouble_and_may_come_back(root, serve, tmp_path):
    (root / "one").mkdir()
    (root / "two").mkdir()
    daemon = serve(f"{root}/*", 'sweep_every = "1h"', count=2)
    (root / "one").rename(tmp_path / "elsewhere")
    daemon.wait_for("gone", queue="in/one")
    shutil.rmtree(root / "two")
    daemon.wait_for("gone", queue="in/two")
    name = commit(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(root / "one")
    daemon.wait_for("finish", queue="in/one", entry=name)
    daemon.send(signal.SIGUSR1)
    assert daemon.wait_for("status", queue="in")[0]["detail"].startswith("healthy; 1 directory")
    assert daemon.events("unhealthy") == []
    assert daemon.end() == 0


def test_a_program_that_removes_a_served_directory_is_not_hindered(root, serve):
    """The daemon makes no new `.watcher` between the steps of `rm -r`, for a second."""
    names = [f"{number}" for number in range(5)]
    for name in names:
        (root / name).mkdir()
    daemon = serve(f"{root}/*", 'sweep_every = "1h"', count=len(names))
    removed = 0
    for number, name in enumerate(names):
        shutil.rmtree(root / name / ".watcher")
        for again in range(3):  # its thread wakes, ticks each queue, and has seen the removal
            daemon.send(signal.SIGUSR1)
            daemon.wait_for("status", number * 3 + again + 1, queue="in")
        with contextlib.suppress(OSError):  # on a machine so slow that the second was over
            (root / name).rmdir()
            removed += 1
            daemon.wait_for("gone", queue=f"in/{name}")
    assert removed
    assert daemon.end() == 0


def test_a_state_directory_alone_that_is_taken_away_is_made_anew(root, serve, eventually):
    (root / "one").mkdir()
    daemon = serve(f"{root}/*", 'sweep_every = "1h"', count=1)
    shutil.rmtree(root / "one" / ".watcher", ignore_errors=True)
    eventually((root / "one" / ".watcher" / "inflight").exists)
    assert daemon.wait_for("unhealthy", queue="in/one")
    assert daemon.end() == 0


def test_an_entry_in_hand_is_finished_when_its_directory_is_renamed_away(
    root, serve, tmp_path, recorder, eventually
):
    (root / "one").mkdir()
    daemon = serve(f"{root}/*", argv=recorder.argv(gated=True), count=1)
    first, second = commit(root / "one"), commit(root / "one")
    eventually(lambda: recorder.calls)
    (root / "one").rename(tmp_path / "elsewhere")
    daemon.wait_for("gone", queue="in/one")
    recorder.open_gate()
    daemon.wait_for("finish", queue="in/one", entry=first)
    eventually(lambda: not list((tmp_path / "elsewhere" / ".watcher" / "inflight").iterdir()))
    assert [path.name for path in (tmp_path / "elsewhere").glob("*.pck")] == [f"{second}.pck"]
    assert daemon.end() == 0


def test_a_reload_keeps_what_is_in_hand_and_takes_another_pattern_up(
    root, serve, tmp_path, recorder, eventually
):
    for name in ("a1", "a2", "b1"):
        (root / name).mkdir()
    daemon = serve(f"{root}/a*", argv=recorder.argv(gated=True), count=2)
    first = commit(root / "a1")
    eventually(lambda: recorder.calls)
    config(tmp_path, {"in": f"{root}/[ab]1"}, recorder.argv(), "concurrency = 2")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    daemon.wait_for("gone", queue="in/a2")
    second = commit(root / "b1")
    daemon.wait_for("finish", queue="in/b1", entry=second)
    assert daemon.events("finish", entry=first) == []
    recorder.open_gate()
    daemon.wait_for("finish", queue="in/a1", entry=first)
    assert len(recorder.calls) == 2
    assert daemon.end() == 0


def test_a_link_is_followed_and_no_directory_is_served_twice(root, serve, tmp_path, recorder):
    (root / "real").mkdir()
    (root / "0link").symlink_to("real")
    (tmp_path / "outside").mkdir()
    (root / "dangling").symlink_to("nothing")
    daemon = serve(f"{root}/*", 'sweep_every = "1h"', count=1)
    (root / "link").symlink_to(tmp_path / "outside")  # its event is not that of a directory
    name = commit(tmp_path / "outside")
    daemon.wait_for("finish", queue="in/link", entry=name)
    assert {record["queue"] for record in daemon.events("ready")} == {"in/real", "in/link"}
    assert daemon.end() == 0


def test_a_plain_path_comes_before_a_pattern_and_a_queue_may_be_a_parent(
    root, tmp_path, start_daemon, recorder
):
    for name in ("own", "other"):
        (root / name).mkdir()
    paths = {"many": f"{root}/*", "own": f"{root}/own", "above": str(root)}
    config(tmp_path, paths, recorder.argv(), 'sweep_every = "1h"')
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"), ready=False)
    daemon.wait_for("ready", 3)
    for queue, place in (("own", root / "own"), ("above", root), ("many/other", root / "other")):
        name = commit(place)
        daemon.wait_for("finish", queue=queue, entry=name)
    (root / "late").mkdir()  # its parent is a queue, too
    name = commit(root / "late")
    daemon.wait_for("finish", queue="many/late", entry=name)
    assert daemon.end() == 0


def test_hostile_directory_names_are_queues_with_names_of_one_line(root, serve):
    names = [b"two\nlines", b"\xff\xfe", b"-rf", b"back\\slash", "späte".encode(), b"*"]
    for name in names:
        os.mkdir(os.path.join(os.fsencode(root), name))
    daemon = serve(f"{root}/*", count=len(names))
    for name in names:
        path = os.path.join(os.fsencode(root), name)
        entry = writers.commit_2_1_5(os.fsdecode(path), LETTER, writers.no_pause)
        daemon.wait_for("finish", entry=entry)
    served = {record["queue"] for record in daemon.events("finish")}
    assert served == {
        *("in/two\\nlines", "in/\\xff\\xfe", "in/-rf", "in/back\\\\slash", "in/späte", "in/*")
    }
    assert daemon.end() == 0


def test_a_parent_that_is_missing_is_unhealthy_until_it_is_made(
    root, tmp_path, start_daemon, recorder
):
    paths = {"in": f"{root}/later/*", "plain": str(root)}
    config(tmp_path, paths, recorder.argv(), 'sweep_every = "200ms"')
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    assert "no such directory" in daemon.wait_for("unhealthy", queue="in")[0]["detail"]
    (root / "later" / "one").mkdir(parents=True)
    name = commit(root / "later" / "one")
    daemon.wait_for("finish", queue="in/one", entry=name)
    assert daemon.wait_for("recovered", queue="in")
    assert daemon.end() == 0


@pytest.mark.parametrize("deeper_first", [False, True])
def test_the_archive_of_one_pattern_is_no_queue_of_a_deeper_one(
    root, serve, tmp_path, recorder, deeper_first
):
    (root / "one").mkdir()
    paths = {"in": f"{root}/*", "deep": f"{root}/*/*", "deeper": f"{root}/*/*/*"}
    config(
        tmp_path,
        dict(sorted(paths.items(), reverse=not deeper_first)),
        recorder.argv(),
        'archive = "archive/"',
        "archive_dated = true",
        'sweep_every = "0.2s"',
    )
    daemon = serve.started()
    name = commit(root / "one")
    daemon.wait_for("finish", entry=name)
    daemon.send(signal.SIGUSR2)
    (root / "two").mkdir()
    daemon.wait_for("ready", queue="in/two")
    assert {line["queue"] for line in daemon.events("ready")} == {"in/one", "in/two"}
    assert daemon.end() == 0
    assert [call["entry"] for call in recorder.calls] == [name]


def test_more_directories_are_served_than_the_soft_limit_on_open_files_allows(
    root, serve, watcher_command
):
    for number in range(60):
        (root / f"{number:02}").mkdir()
    # In the daemon's process alone: the one of the tests may have more files open.
    watcher_command[:0] = ["sh", "-c", 'ulimit -S -n 128 && exec "$@"', "sh"]
    daemon = serve(f"{root}/*")
    daemon.wait_for("ready", 60)
    for number in range(0, 60, 7):
        name = commit(root / f"{number:02}")
        daemon.wait_for("finish", queue=f"in/{number:02}", entry=name)
    assert daemon.events("unhealthy") == []
    assert daemon.end() == 0
