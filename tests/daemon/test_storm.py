"""More at once than the kernel's queue of events holds, and more than one process on a queue."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys

import pytest

import writers

STORM = [
    20_000,
    pytest.param(50_000, marks=[pytest.mark.slow, pytest.mark.long]),
]  # the kernel queues 16,384 events
MANY = [3_000, pytest.param(10_000, marks=pytest.mark.slow)]


def rename_in(queue, outside, count, prefix="e"):
    """Rename `count` raw files into the queue."""
    outside.mkdir(exist_ok=True)
    for number in range(count):
        path = outside / f"{number}"
        path.write_bytes(b"%d" % number)
        path.rename(queue / f"{prefix}{number:06d}.in")


@pytest.fixture
def recording_function(tmp_path, environment):
    """A python handler that appends each entry's name to a file, and that file."""
    module = tmp_path / "modules" / "record_names.py"
    module.parent.mkdir()
    record = tmp_path / "names"
    module.write_text(
        "import os\n"
        f"record = os.open({os.fspath(record)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "def handle(entry):\n"
        "    os.write(record, os.fsencode(entry.name) + b'\\n')\n"
    )
    paths = [os.fspath(module.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return record


def configured(tmp_path, queue, **more):
    """Write a configuration of one raw queue with the recording function as its handler."""
    lines = [
        "[queues.storm]",
        f'path = "{queue}"',
        'handler = { python = "record_names:handle" }',
        'format = "raw"',
        'suffix = ".in"',
        'writers = "rename"',
        *(f"{key} = {value}" for key, value in more.items()),
    ]
    file = tmp_path / "watcher.toml"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


@pytest.mark.timeout(170)
@pytest.mark.parametrize("count", STORM)
def test_a_storm_into_a_stopped_daemon_is_handled_once_each(
    queue, tmp_path, start_daemon, recording_function, count
):
    config = configured(tmp_path, queue, sweep_every='"1h"')  # no sweep comes to the rescue
    daemon = start_daemon(None, "--config", config)
    daemon.send(signal.SIGSTOP)
    rename_in(queue, tmp_path / "outside", count)
    daemon.send(signal.SIGCONT)
    daemon.wait_for("behind")
    daemon.wait(lambda: daemon.counts["finish"] >= count, timeout=150)
    assert daemon.end() == 0
    names = recording_function.read_bytes().split()
    assert len(names) == len(set(names)) == count
    assert [path for path in queue.iterdir() if path.is_file()] == []


@pytest.mark.parametrize("count", MANY)
def test_three_daemons_and_a_sweep_handle_each_entry_once(
    queue, tmp_path, start_daemon, recording_function, watcher_command, environment, count
):
    rename_in(queue, tmp_path / "outside", count // 2, "before")
    config = configured(tmp_path, queue, concurrency=2, grace_age='"0s"')
    daemons = [start_daemon(None, "--config", config, ready=False) for _ in range(3)]
    sweep = subprocess.Popen(
        [*watcher_command, "sweep", str(queue), "--config", config, "--grace-age", "0s"],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    rename_in(queue, tmp_path / "outside", count // 2, "while")
    assert sweep.wait(60) == 0

    def all_done():
        return not any(path.is_file() for path in queue.iterdir())

    for daemon in daemons:
        daemon.wait_for("ready")
        daemon.wait(all_done)
        assert daemon.end() == 0
    counts = collections.Counter(recording_function.read_bytes().split())
    assert len(counts) == count
    assert set(counts.values()) == {1}


def test_one_worker_handles_in_the_order_of_commit_across_a_stop(
    queue, tmp_path, start_daemon, recording_function
):
    daemon = start_daemon(None, "--config", configured(tmp_path, queue))
    rename_in(queue, tmp_path / "outside", 300, "a")
    daemon.send(signal.SIGSTOP)
    rename_in(queue, tmp_path / "outside", 300, "b")
    daemon.send(signal.SIGCONT)
    daemon.wait_for("finish", 600)
    assert daemon.end() == 0
    expected = [b"a%06d.in" % number for number in range(300)]
    expected += [b"b%06d.in" % number for number in range(300)]
    assert recording_function.read_bytes().split() == expected


def test_the_race_of_2002_loses_nothing_and_sets_nothing_aside_early(
    queue, start_daemon, recorder, watcher_command, environment
):
    """A 2.0 writer pauses longer than several sweeps; a daemon and manual sweeps run beside it."""
    daemon = start_daemon(
        queue, "--legacy", "--sweep-every", "200ms", "--grace-age", "30s", handler=recorder.argv()
    )
    sweeps = []

    def sweep(name):
        argv = ["sweep", str(queue), "--legacy", "--grace-age", "30s", "--", *recorder.argv()]
        for _ in range(4):
            ended = subprocess.run(
                [*watcher_command, *argv], env=environment, capture_output=True, text=True
            )
            sweeps.append(
                (ended.returncode, name in ended.stdout, "not old enough yet" in ended.stdout)
            )

    for protocol in ("2.0.8", "2.0.13", "2.1.4"):
        name = writers.PROTOCOLS[protocol](str(queue), writers.message_for(7, 7), sweep)
        daemon.wait_for("finish", entry=name)
    assert sweeps == [(0, True, True)] * 12
    assert daemon.end() == 0
    assert len(recorder.calls) == 3
    assert daemon.events("abandon") == daemon.events("reject") == []
    assert [path for path in queue.iterdir() if path.is_file()] == []


def test_a_slow_writer_past_every_grace_age_is_left_alone(
    queue, start_daemon, recorder, watcher_command, environment
):
    """The `.db` stays open for writing: no age makes it an orphan; then it is handled."""
    daemon = start_daemon(
        queue, "--legacy", "--sweep-every", "100ms", "--grace-age", "0s", handler=recorder.argv()
    )

    post = writers.message_for(1, 1)

    def both(name):
        sweep(name)
        queue.joinpath(f"{name}.msg").write_bytes(post.message)  # whole, and its .db is still open
        sweep(name)

    def sweep(name):
        for _ in range(3):
            ended = subprocess.run(
                [
                    *watcher_command,
                    "sweep",
                    str(queue),
                    "--legacy",
                    "--grace-age",
                    "0s",
                    "--",
                    sys.executable,
                    "-c",
                    "raise SystemExit(1)",
                ],
                env=environment,
                capture_output=True,
                text=True,
            )
            assert ended.returncode == 0, ended.stderr
            assert "open" in ended.stdout

    name = writers.commit_2_0_8(str(queue), post, both, db_closed_last=True)
    daemon.wait_for("finish", entry=name)
    assert daemon.events("abandon") == []
    assert len(daemon.events("left alone")) == 1  # said once: not at every sweep, nor of each half
    assert len(recorder.calls) == 1


def test_a_late_half_is_reunited_with_the_one_in_orphans(queue, start_daemon, recorder):
    daemon = start_daemon(
        queue, "--legacy", "--sweep-every", "100ms", "--grace-age", "0s", handler=recorder.argv()
    )
    name = writers.commit_2_0_13(
        str(queue), writers.message_for(1, 1), lambda name: daemon.wait_for("abandon", entry=name)
    )
    daemon.wait_for("reunite", entry=name)
    daemon.wait_for("finish", entry=name)
    assert len(recorder.calls) == 1
    assert not any((queue / ".watcher" / "orphans").iterdir())
