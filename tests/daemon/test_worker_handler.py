"""A worker command in a real daemon: killed, drained, stopped, reloaded, aborted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading

import pytest

from tests.processes import gone
from tests.renaming import rename_in
from watcher.errors import TryAgain
from watcher.operate.abort import abort
from watcher.rules.names import Layout
from watcher.spool.abort_request import AbortRequest
from watcher.spool.spool import Spool

# Says each entry and its process; an entry that is called `slow` waits at the gate.
WORKER = """#!/bin/sh
while IFS= read -r line; do
    rest=${line#*'"entry":"'}
    entry=${rest%%'"'*}
    echo "$entry $$" >> DIR/calls
    case $entry in slow*) read -r _ < DIR/gate;; esac
    echo done
done
echo "end $$" >> DIR/calls
"""


class Site:
    """A queue, its configuration, and what its workers wrote."""

    def __init__(self, directory, queue):
        self.directory, self.queue = directory, queue
        self.config = directory / "w.toml"
        self.worker = directory / "worker"
        self.worker.write_text(WORKER.replace("DIR", str(directory)))
        self.worker.chmod(0o755)
        self.gate = directory / "gate"
        os.mkfifo(self.gate)

    def write(self, more="", concurrency=1):
        self.config.write_text(
            f'[queues.q]\npath = "{self.queue}"\nformat = "raw"\ngrace_age = "0s"\n'
            f"concurrency = {concurrency}\n"
            f'handler = {{ worker = ["{self.worker}"]{more} }}\n'
        )

    @property
    def calls(self):
        """Pairs of an entry's name, or `end`, and the process."""
        file = self.directory / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(name, int(pid)) for name, pid in map(str.split, lines)]

    def open_gate(self):
        self.gate.write_text("go\n")


@pytest.fixture
def site(tmp_path, queue):
    made = Site(tmp_path, queue)
    made.write()
    yield made
    for _name, pid in made.calls:
        if not gone(pid):
            os.killpg(pid, signal.SIGKILL)


def test_a_killed_daemons_entry_stays_claimed_until_its_worker_ends(
    site, start_daemon, run, eventually
):
    daemon = start_daemon(None, "--config", str(site.config))
    rename_in(site.queue, "slow")
    ((_name, pid),) = eventually(lambda: site.calls)
    daemon.end(signal.SIGKILL)
    assert "claimed by" in run("sweep", "--config", site.config)
    assert (site.queue / "slow").exists()
    assert not gone(pid)
    site.open_gate()
    eventually(lambda: gone(pid))
    threading.Thread(target=site.open_gate).start()
    run("sweep", "--config", site.config)
    assert [name for name, _pid in site.calls if name != "end"] == ["slow", "slow"]
    assert not (site.queue / "slow").exists()


def test_one_process_a_worker_thread_and_a_drain_ends_them_at_the_end_of_file(
    site, start_daemon, eventually
):
    site.write(concurrency=2)
    daemon = start_daemon(None, "--config", str(site.config))
    for number in range(20):
        rename_in(site.queue, f"e{number}")
    daemon.wait_for("finish", 20)
    rename_in(site.queue, "slow")
    eventually(lambda: "slow" in dict(site.calls))
    daemon.send(signal.SIGTERM)
    daemon.wait_for("draining")
    site.open_gate()
    assert daemon.process.wait(30) == 0
    (record,) = daemon.events("finish", entry="slow")
    pids = {pid for name, pid in site.calls if name != "end"}
    assert {pid for name, pid in site.calls if name == "end"} == pids
    assert len(pids) <= 2
    assert all(map(gone, pids))
    assert record["process"] in pids


@pytest.mark.slow
def test_a_reload_has_the_entry_in_hand_finished_by_the_old_process(site, start_daemon, eventually):
    daemon = start_daemon(None, "--config", str(site.config))
    rename_in(site.queue, "slow")
    ((_name, old),) = eventually(lambda: site.calls)
    site.write(', timeout = "1m"')
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    rename_in(site.queue, "next")
    daemon.wait_for("finish", entry="next")
    site.open_gate()
    daemon.wait_for("finish", entry="slow")
    eventually(lambda: gone(old))
    calls = site.calls
    assert [name for name, _pid in calls] == ["slow", "next", "end"]
    assert calls[2][1] == old != calls[1][1]


def test_an_abort_ends_the_process_that_has_the_entry_and_no_other(site, start_daemon, eventually):
    site.write(concurrency=3)
    daemon = start_daemon(None, "--config", str(site.config))
    for name in ("slow1", "slow2"):
        rename_in(site.queue, name)
    pids = eventually(lambda: dict(site.calls) if len(site.calls) == 2 else None)
    rename_in(site.queue, "quick")
    daemon.wait_for("finish", entry="quick")
    spool = Spool(os.fsencode(site.queue), Layout(b"", raw=True))
    done = abort(spool, b"slow2", AbortRequest())
    assert done.process == pids["slow2"]
    (record,) = daemon.wait_for("defer")
    assert record["entry"] == "slow2"
    assert not gone(pids["slow1"])
    with pytest.raises(TryAgain):
        abort(spool, b"slow2", AbortRequest())
    site.open_gate()
    daemon.wait_for("finish", entry="slow1")


def test_a_crash_is_counted_and_its_words_are_in_the_note(site, start_daemon):
    site.worker.write_text("#!/bin/sh\nread -r line\necho no memory >&2\nkill -SEGV $$\n")
    daemon = start_daemon(None, "--config", str(site.config))
    rename_in(site.queue, "a")
    daemon.wait_for("defer", entry="a")
    (note,) = (site.queue / ".watcher" / "deferred").glob("*.json")
    facts = json.loads(note.read_text())
    assert (facts["attempts"], facts["crashes"], facts["exit_status"]) == (1, 1, -11)
    assert facts["stderr"] == "no memory\n"
    assert "killed by signal 11 (SIGSEGV): no memory" in facts["why"]


@pytest.mark.slow
def test_a_worker_that_cannot_start_costs_no_entry_an_attempt(site, start_daemon):
    works = site.directory / "works"
    script = site.worker.read_text()
    site.worker.write_text(script.replace("while", f"test -e {works} || exit 1\nwhile", 1))
    with site.config.open("a") as file:
        file.write('retry = { initial = "500ms" }\n')
    daemon = start_daemon(None, "--config", str(site.config))
    for name in "abcde":
        rename_in(site.queue, name)
    (record, *_) = daemon.wait_for("unhealthy")
    assert "before it had read the request: exited with status 1" in record["detail"]
    works.touch()
    daemon.wait_for("finish", 5)
    assert daemon.events("defer") == daemon.events("reject") == []
    assert {record["attempt"] for record in daemon.events("finish")} == {1}


@pytest.mark.slow
def test_a_sweep_and_an_attempt_by_hand_leave_no_process(site, watcher_command, environment):
    for command in (["sweep"], ["attempt", str(site.queue), "b"]):
        for name in "ab":
            rename_in(site.queue, name)
        argv = [*watcher_command, *command, "--config", str(site.config)]
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended
    assert [name for name, _pid in site.calls] == ["a", "b", "end", "b", "end"]
    assert all(gone(pid) for _name, pid in site.calls)
