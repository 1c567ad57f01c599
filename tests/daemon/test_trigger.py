"""A trigger: a foreign consumer takes the entries, the daemon says when it runs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

import watcher
from tests.command_server import run_command
from tests.renaming import rename_in

CONSUMER = Path(__file__).parents[1] / "consumer.sh"
QUIET = 'sweep_every = "1h"\n'
SLOW = 'retry = { initial = "1h", max = "1h" }\n'  # no run by itself
FAST = 'retry = { initial = "200ms", max = "1h" }\n'


class Consumer:
    """The command of a trigger, and what it took."""

    def __init__(self, directory):
        self.directory = directory / "consumer"
        self.taken = self.directory / "taken"
        self.taken.mkdir(parents=True)
        self.gate = self.directory / "gate"
        os.mkfifo(self.gate)
        self.argv = ["sh", str(CONSUMER), str(self.directory)]
        self.gated = [*self.argv, str(self.gate)]

    @property
    def runs(self):
        file = self.directory / "runs"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def names(self):
        return {file.name for file in self.taken.iterdir()}

    def exit_with(self, status):
        (self.directory / "status").write_text(str(status))

    def open_gate(self):
        """Let one run go on; waits for it to be there."""
        with open(self.gate, "wb"):
            pass


@pytest.fixture
def consumer(tmp_path):
    """A consumer; a run that waits at the gate at the end is let go, and no later one waits."""
    consuming = Consumer(tmp_path)
    yield consuming
    with contextlib.suppress(OSError):  # ENXIO: no process waits
        os.close(os.open(consuming.gate, os.O_WRONLY | os.O_NONBLOCK))
    consuming.gate.unlink()


@pytest.fixture
def start(queue, tmp_path, start_daemon):
    """Start a daemon whose queue has a trigger; `config` may be written anew before a reload."""
    file = tmp_path / "w.toml"

    def configure(argv, more=QUIET + SLOW, timeout="", kind="trigger"):
        command = ", ".join(map(repr, map(str, argv)))
        handler = f"{{ {kind} = [{command}]{timeout} }}"
        file.write_text(f"[queues.q]\npath = '{queue}'\nhandler = {handler}\n{more}")

    def started(*arguments, **options):
        configure(*arguments, **options)
        return start_daemon(None, "--config", str(file))

    started.configure = configure
    started.config = str(file)
    return started


def entries(count):
    return [f"{1000 + number}.5+{number:040x}.pck" for number in range(count)]


def audited(queue, watcher_command, environment):
    argv = [*watcher_command, "audit", str(queue), "--json"]
    return run_command(argv, env=environment, capture_output=True, timeout=60).stdout


def test_an_entry_has_the_command_run_and_stays_the_commands(
    queue, consumer, start, watcher_command, environment
):
    daemon = start(consumer.argv)
    (name,) = entries(1)
    rename_in(queue, name)
    [ran] = daemon.wait_for("triggered")
    assert re.fullmatch(r"the command took 1 of 1 entry in \d+ ms", ran["detail"])
    assert consumer.runs == [f"1 q {name.removesuffix('.pck')}"]
    assert consumer.names == {name}
    assert daemon.end() == 0
    assert not any(daemon.events(word) for word in ("claim", "finish", "vanished", "unhealthy"))
    assert b'"balanced": true, "seen": 0,' in audited(queue, watcher_command, environment)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_burst_of_renames_needs_few_runs_and_none_is_missed(
    queue, tmp_path, consumer, start, count
):
    daemon = start(consumer.argv)
    names, before = entries(count), tmp_path / "before"
    before.mkdir()
    for name in names:
        (before / name).touch()
    for name in names:
        os.rename(before / name, queue / name)
    daemon.wait(lambda: len(consumer.names) == count)
    assert consumer.names == set(names)
    assert daemon.end() == 0
    assert len(consumer.runs) <= 100
    assert not daemon.events("unhealthy")


def test_an_entry_that_the_commands_look_missed_has_it_run_again(queue, consumer, start):
    daemon = start(consumer.gated)
    first, second = entries(2)
    rename_in(queue, "stuck.pck")  # the next run for this one is an hour later
    consumer.open_gate()
    daemon.wait_for("triggered", 1)
    rename_in(queue, first)
    daemon.wait(lambda: len(consumer.runs) == 2)  # its look is done
    rename_in(queue, second)
    consumer.open_gate()
    daemon.wait_for("triggered", 2)
    assert consumer.names == {first}
    consumer.open_gate()
    daemon.wait_for("triggered", 3)
    assert consumer.names == {first, second}
    assert [line.split()[0] for line in consumer.runs] == ["1", "2", "2"]
    assert daemon.end() == 0


def test_one_run_at_a_time_and_a_sweep_by_hand_says_so(
    queue, consumer, start, watcher_command, environment
):
    daemon = start(consumer.gated, QUIET + SLOW + 'grace_age = "0s"\n')
    first, second = entries(2)
    rename_in(queue, first)
    daemon.wait(lambda: consumer.runs)
    rename_in(queue, second)
    argv = [*watcher_command, "sweep", "--config", start.config]
    swept = run_command(argv, env=environment, capture_output=True, timeout=20)
    assert (swept.returncode, swept.stdout) == (75, b"q:\nanother process runs the command\n")
    assert len(consumer.runs) == 1
    for runs in (1, 2):
        consumer.open_gate()
        daemon.wait_for("triggered", runs)
    assert daemon.end() == 0


@pytest.mark.slow
def test_a_command_that_outlives_its_killed_daemon_keeps_the_next_from_running(
    queue, consumer, start, eventually
):
    before = start(consumer.gated)
    first, second = entries(2)
    rename_in(queue, first)
    before.wait(lambda: consumer.runs)
    before.end(signal.SIGKILL)
    after = start(consumer.gated)
    rename_in(queue, second)
    after.send(signal.SIGUSR1)
    after.wait_for("status")
    assert len(consumer.runs) == 1
    consumer.open_gate()
    eventually(lambda: len(consumer.runs) == 2)
    consumer.open_gate()
    after.wait(lambda: consumer.names == {first, second})
    assert after.end() == 0


@pytest.mark.slow
def test_what_the_command_leaves_runs_it_again_ever_later_and_is_reported_by_age(
    queue, consumer, start
):
    daemon = start(consumer.argv, QUIET + FAST + 'warn_after = "500ms"\n')
    rename_in(queue, "stuck.pck")
    ran = daemon.wait_for("triggered", 3)
    gaps = [after["time"] - before["time"] for before, after in itertools.pairwise(ran)]
    assert 0.2 <= gaps[0] < gaps[1]
    assert {record["detail"][:31] for record in ran} == {"the command took 0 of 1 entry i"}
    [unhealthy] = daemon.wait_for("unhealthy")
    assert re.match(
        r"the command leaves 1 entry behind; the oldest is stuck\.pck, here for ",
        unhealthy["detail"],
    )
    runs = len(consumer.runs)
    (name,) = entries(1)
    rename_in(queue, name)  # a new one does not wait for that
    daemon.wait(lambda: consumer.names == {name})
    assert len(consumer.runs) <= runs + 2
    (queue / "stuck.pck").unlink()
    daemon.wait_for("recovered")
    assert daemon.end() == 0


@pytest.mark.slow
def test_a_sweep_runs_nothing_for_what_is_left_and_counts_none_as_missed(
    queue, consumer, start, run
):
    daemon = start(consumer.argv, SLOW + 'sweep_every = "50ms"\ngrace_age = "0s"\n')
    rename_in(queue, "stuck.pck")
    daemon.wait_for("triggered")

    def swept_since(moment):
        (said,) = json.loads(run("status", queue, "--json"))["daemons"]
        return said["last_sweep"] and said["last_sweep"]["at"] > moment + 0.2 and said

    ran = time.time()
    first = daemon.wait(lambda: swept_since(ran))
    # A sweep may have looked between the rename and the read of its event.
    assert first["missed"] <= 1
    later = daemon.wait(lambda: swept_since(first["last_sweep"]["at"]))
    assert later["missed"] == first["missed"]
    assert len(consumer.runs) == 1
    assert daemon.end() == 0


def test_a_command_that_fails_waits_says_why_and_runs_on_request(queue, consumer, start):
    consumer.exit_with(3)
    daemon = start(consumer.argv)
    rename_in(queue, "stuck.pck")
    [unhealthy] = daemon.wait_for("unhealthy")
    assert re.match(r"exit status 3; the next run is at \d\d:\d\d:\d\d ", unhealthy["detail"])
    (name,) = entries(1)
    rename_in(queue, name)
    daemon.send(signal.SIGUSR1)  # its event was taken
    daemon.wait_for("status")
    assert len(consumer.runs) == 1
    consumer.exit_with(0)
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("recovered")
    assert consumer.names == {name}
    assert len(consumer.runs) == 2
    assert daemon.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize("status", [127, 75])
def test_every_status_but_0_is_a_failure_of_the_command_and_of_no_entry(
    queue, consumer, start, status
):
    consumer.exit_with(status)
    daemon = start(consumer.argv, QUIET + FAST)
    rename_in(queue, "stuck.pck")
    ran = daemon.wait_for("triggered", 2)
    assert f", and failed: exit status {status}" in ran[1]["detail"]
    assert (queue / "stuck.pck").exists()
    assert daemon.end() == 0


@pytest.mark.slow
def test_a_command_that_hangs_is_ended_with_its_group(queue, consumer, start):
    daemon = start(consumer.gated, QUIET + SLOW, ', timeout = "200ms"')
    rename_in(queue, "stuck.pck")
    [ran] = daemon.wait_for("triggered")
    assert ran["detail"].endswith("failed: timeout: still running after 200ms")
    assert daemon.end() == 0


@pytest.mark.slow
def test_a_reload_with_another_command_runs_it_at_once(queue, consumer, start):
    daemon = start(["false"])
    (name,) = entries(1)
    rename_in(queue, name)
    daemon.wait_for("unhealthy")
    start.configure(consumer.argv)
    daemon.send(signal.SIGHUP)
    daemon.wait(lambda: consumer.names == {name})
    assert daemon.end() == 0


@pytest.mark.slow
def test_what_another_handler_deferred_is_named_and_requeued_for_the_command(
    queue, consumer, start, run
):
    before = start(["false"], QUIET + FAST, kind="exec")
    name = f"{watcher.enqueue(queue, b'x')}.pck"
    before.wait_for("defer")
    assert before.end() == 0
    daemon = start(consumer.argv)
    [unhealthy] = daemon.wait_for("unhealthy")
    assert "deferred by another handler: `watcher requeue` puts it back" in unhealthy["detail"]
    assert consumer.runs == []
    run("requeue", queue, name.removesuffix(".pck"))
    daemon.wait(lambda: consumer.names == {name})
    daemon.wait_for("recovered")
    assert daemon.end() == 0


@pytest.mark.slow
def test_a_drain_waits_for_the_run_and_a_second_signal_ends_it(queue, consumer, start):
    daemon = start(consumer.gated)
    rename_in(queue, "stuck.pck")
    daemon.wait(lambda: consumer.runs)
    daemon.send(signal.SIGTERM)
    daemon.wait_for("draining")
    assert daemon.process.poll() is None
    assert daemon.end() == 75
    assert not daemon.events("triggered")
    assert (queue / "stuck.pck").exists()


@pytest.mark.slow
def test_no_run_while_the_queue_is_paused(queue, consumer, start, run):
    daemon = start(consumer.argv)
    run("pause", queue)
    daemon.wait_for("paused")
    (name,) = entries(1)
    rename_in(queue, name)
    daemon.send(signal.SIGUSR1)
    daemon.wait_for("status")
    assert consumer.runs == []
    run("resume", queue)
    daemon.wait(lambda: consumer.names == {name})
    assert daemon.end() == 0


@pytest.mark.slow
def test_entries_there_at_the_start_and_after_lost_events_are_found(queue, consumer, start):
    names = entries(40)
    for name in names:
        rename_in(queue, name)
    daemon = start(consumer.argv)
    daemon.wait(lambda: consumer.names == set(names))
    assert daemon.end() == 0
    assert len(consumer.runs) <= 2


@pytest.mark.slow
def test_a_raw_file_is_ready_by_the_usual_evidence(queue, consumer, start):
    daemon = start(consumer.argv, QUIET + SLOW + 'format = "raw"\nsettle = "200ms"\n')
    with open(queue / "upload.csv", "wb") as upload:
        upload.write(b"one")
        upload.flush()
        rename_in(queue, "other.csv")  # it has the command run, and waits for `settle` too
        daemon.send(signal.SIGUSR1)
        daemon.wait_for("status")
    daemon.wait(lambda: consumer.runs)
    assert daemon.wait_for("triggered")
    assert daemon.end() == 0


@pytest.mark.slow
def test_a_pair_is_ready_when_both_halves_are_there(queue, consumer, start):
    daemon = start(consumer.argv, QUIET + SLOW + "legacy = true\n")
    rename_in(queue, "1.5+ab.msg")
    daemon.send(signal.SIGUSR1)
    daemon.wait_for("status")
    assert consumer.runs == []
    rename_in(queue, "1.5+ab.db")
    daemon.wait(lambda: consumer.names == {"1.5+ab.msg", "1.5+ab.db"})
    assert daemon.end() == 0


@pytest.mark.slow
def test_many_writers_beside_the_command_lose_nothing(queue, consumer, start):
    daemon = start(consumer.argv)
    names = [watcher.enqueue(queue, b"first")]

    def write():
        names.extend(watcher.enqueue(queue, b"%d" % number) for number in range(20))

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    daemon.wait(lambda: len(consumer.names) == 61)
    assert daemon.end() == 0
    assert not daemon.events("vanished")


def test_an_attempt_at_one_entry_is_refused(queue, consumer, start, watcher_command, environment):
    start.configure(consumer.argv, 'grace_age = "0s"\n')
    rename_in(queue, "1.5+ab.pck")  # no other handler could read it
    explain = [*watcher_command, "explain", str(queue / "1.5+ab.pck"), "--config", start.config]
    explained = run_command(explain, env=environment, capture_output=True, timeout=60).stdout
    assert b"verdict      ready: the command of the trigger takes it, or leaves it\n" in explained
    argv = [*watcher_command, "attempt", str(queue), "1.5+ab", "--config", start.config]
    ended = run_command(argv, env=environment, capture_output=True, timeout=60)
    assert ended.returncode == 64
    assert b"whose command takes the entries itself" in ended.stderr
    assert consumer.runs == []


def test_a_sweep_runs_the_command_if_an_entry_is_ready(
    queue, consumer, start, watcher_command, environment
):
    start.configure(consumer.argv, 'grace_age = "0s"\n')

    def sweep(*options):
        argv = [*watcher_command, "sweep", "--config", start.config, *options]
        ended = run_command(argv, env=environment, capture_output=True, timeout=60)
        return ended.returncode, ended.stdout.decode()

    assert sweep() == (0, "q:\nno entry is ready: the command was not run\n")
    for name in ("1.5+ab.pck", "2.5+ab.pck", "stuck.pck"):
        rename_in(queue, name)
    assert sweep("--dry-run") == (0, "q:\n1.5+ab.pck is ready: the command would run\n")
    code, printed = sweep()
    assert (code, consumer.names) == (0, {"1.5+ab.pck", "2.5+ab.pck"})
    first, second = printed.splitlines()[1:]  # once more, because the first run took some
    assert first.startswith("the command took 2 of 3 entries in ")
    assert second.startswith("the command took 0 of 1 entry in ")
    consumer.exit_with(1)
    assert sweep()[0] == 75
    consumer.exit_with(127)
    assert sweep("--json")[0] == 78
