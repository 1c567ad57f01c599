"""Many entries in one call, by a real daemon: what it gathers, when it ends, what it splits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "handlers.md"
(FUNCTION,) = re.findall(
    r"^```python\n(.*?)^```$",
    PAGE.read_text().split("## Many entries in one call")[1].split("\n## ")[0],
    re.DOTALL | re.MULTILINE,
)
EXAMPLES = re.findall(
    r"^```sh\n(.*?)^```$",
    PAGE.read_text().split("## Many entries in one call")[1].split("\n## ")[0],
    re.DOTALL | re.MULTILINE,
)
# Writes the names of each call into a file of its own, and waits where a gate is closed.
PROGRAM = """#!/bin/sh
cd {base}
[ -e broken ] && exit 127
cat "$@" > seen.$$ && mv seen.$$ call.$$
while [ -e gate ]; do sleep 0.02; done
! grep -qx bad "$@"
"""


class Batches:
    """A queue of raw files, a command that records its calls, a configuration that can change."""

    def __init__(self, queue, base, start_daemon):
        self.queue, self.base = queue, base
        self._file = base / "w.toml"
        self._start = start_daemon
        program = base / "program"
        program.write_text(PROGRAM.format(base=base))
        program.chmod(0o755)

    def configure(self, batch=100, wait="0s", more="", program="program"):
        self._file.write_text(
            f'[queues.q]\npath = "{self.queue}"\nformat = "raw"\nwriters = "rename"\n'
            f'sweep_every = "1h"\nretry.initial = "1h"\n{more}\n'
            f'handler = {{ exec = ["{self.base}/{program}"], batch = {batch},'
            f' batch_wait = "{wait}" }}\n'
        )

    def start(self, **settings):
        self.configure(**settings)
        return self._start(None, "--config", str(self._file))

    def put(self, *names, text="good"):
        for name in names:
            (self.queue / ".new").write_text(f"{text}\n" if text == "bad" else f"{name}\n")
            (self.queue / ".new").rename(self.queue / name)

    def calls(self):
        return sorted(file.read_text().split() for file in self.base.glob("call.*"))


@pytest.fixture
def batches(queue, tmp_path, start_daemon):
    return Batches(queue, tmp_path, start_daemon)


def names(first, last):
    return [f"{number:03}" for number in range(first, last)]


def test_of_a_hundred_entries_one_is_bad_and_the_others_are_handled_once(batches):
    batches.put(*names(0, 40))
    batches.put("040", text="bad")
    batches.put(*names(41, 100))
    daemon = batches.start()
    daemon.wait_for("finish", 99)
    daemon.wait_for("defer", entry="040")
    assert daemon.end() == 0
    calls = batches.calls()
    assert len(calls) <= 15
    assert [call for call in calls if call == ["bad"]] == [["bad"]]
    good = [name for call in calls if "bad" not in call for name in call]
    assert sorted(good) == [name for name in names(0, 100) if name != "040"]
    assert len(daemon.events("defer")) == 1
    assert len(daemon.events("finish")) == 99


def test_a_worker_waits_for_more_entries_and_begins_when_it_has_enough(batches):
    daemon = batches.start(batch=3, wait="1h")
    batches.put("a", "b")
    batches.put("c")
    daemon.wait_for("finish", 3)
    assert batches.calls() == [["a", "b", "c"]]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["term", "pause", "reload"])
def test_a_wait_for_more_entries_delays_nothing(batches, run, way, eventually):
    daemon = batches.start(batch=3, wait="1h")
    batches.put("a", "b")
    daemon.send(signal.SIGUSR1)
    daemon.wait_for("status")
    if way == "term":
        assert daemon.end() == 0
        assert sorted(os.listdir(batches.queue))[-2:] == ["a", "b"]
        assert batches.calls() == []
    elif way == "pause":
        run("pause", batches.queue)
        daemon.wait_for("paused")
        batches.put("c")
        run("resume", batches.queue)
        daemon.wait_for("finish", 3)
        assert batches.calls() == [["a", "b", "c"]]
    else:
        batches.configure(batch=2, wait="0s")
        daemon.send(signal.SIGHUP)
        daemon.wait_for("finish", 2)
        assert sorted(name for call in batches.calls() for name in call) == ["a", "b"]


@pytest.mark.slow
def test_a_drain_ends_with_the_call_and_leaves_what_it_did_not_settle(batches, eventually):
    (batches.base / "gate").touch()
    batches.put("a", "c")
    batches.put("b", text="bad")
    daemon = batches.start()
    eventually(batches.calls)
    daemon.send(signal.SIGTERM)
    daemon.wait_for("draining")
    (batches.base / "gate").unlink()
    assert daemon.process.wait(30) == 0
    assert len(batches.calls()) == 1
    assert {"a", "b", "c"} <= set(os.listdir(batches.queue))
    assert daemon.events("defer") == []


def test_an_aborted_entry_ends_the_call_and_the_others_are_called_again(batches, run, eventually):
    (batches.base / "gate").touch()
    batches.put("a", "b", "c")
    daemon = batches.start()
    eventually(batches.calls)
    assert "aborted" in run("abort", batches.queue, "b")
    daemon.wait_for("defer", entry="b")
    (batches.base / "gate").unlink()
    daemon.wait_for("finish", 2)
    assert batches.calls() == [["a", "b", "c"], ["a", "c"]]


@pytest.mark.slow
def test_an_attempt_that_lasts_is_told_of_once_for_the_whole_batch(batches, eventually):
    (batches.base / "gate").touch()
    batches.put(*names(0, 5))
    daemon = batches.start(more='warn_after = "200ms"')
    eventually(batches.calls)
    (first, *_) = daemon.wait_for("hanging")
    assert "and 4 more" in first["detail"]
    (batches.base / "gate").unlink()
    daemon.wait_for("finish", 5)


def test_the_examples_of_the_page_do_what_they_say(batches):
    pack, reject = EXAMPLES
    for name, text in (("pack", pack), ("reject", reject)):
        program = batches.base / name
        program.write_text(text.replace("archive-$$", f"{batches.base}/archive"))
        program.chmod(0o755)
    batches.put("a", "b")
    daemon = batches.start(program="pack")
    daemon.wait_for("finish", 2)
    assert daemon.end() == 0
    listed = subprocess.run(
        ["tar", "-xzOf", batches.base / "archive.tar.gz"], capture_output=True, text=True
    )
    assert listed.stdout.split() == ["a", "b"]
    batches.put("full")
    (batches.queue / ".new").touch()
    (batches.queue / ".new").rename(batches.queue / "nothing")
    daemon = batches.start(program="reject")
    daemon.wait_for("finish", entry="full")
    (rejected,) = daemon.wait_for("reject", entry="nothing")
    assert "empty" in rejected["detail"]


@pytest.mark.slow
def test_the_function_of_the_page_does_what_it_says(batches, environment, start_daemon):
    (batches.base / "example.py").write_text(FUNCTION)
    environment["PYTHONPATH"] = str(batches.base)
    file = batches.base / "w.toml"
    file.write_text(
        f'[queues.q]\npath = "{batches.queue}"\nformat = "raw"\nwriters = "rename"\n'
        'handler = { python = "example:handle", batch = 10 }\n'
    )
    batches.put("full")
    (batches.queue / ".new").touch()
    (batches.queue / ".new").rename(batches.queue / "nothing")
    daemon = start_daemon(None, "--config", str(file))
    daemon.wait_for("finish", entry="full")
    (rejected,) = daemon.wait_for("reject", entry="nothing")
    assert rejected["detail"] == "empty"


@pytest.mark.slow
def test_a_command_that_cannot_work_holds_the_queue_and_costs_no_entry_an_attempt(batches):
    (batches.base / "broken").touch()
    batches.put(*names(0, 20))
    daemon = batches.start(more="concurrency = 2")
    daemon.wait_for("unhealthy")
    released = daemon.wait_for("release", 20)
    assert [record["entry"] for record in released] == names(0, 20)
    (batches.base / "broken").unlink()
    daemon.send(signal.SIGUSR2)
    daemon.wait_for("finish", 20)
    daemon.wait_for("recovered")
    assert daemon.events("defer") == []
    assert sorted(name for call in batches.calls() for name in call) == names(0, 20)
    assert len(batches.calls()) < 20


def test_a_target_that_is_down_costs_seven_calls_and_then_one_entry_is_tried(batches):
    batches.put(*names(0, 40), text="bad")
    batches.put(*names(40, 60))
    daemon = batches.start(batch=40)
    daemon.wait_for("defer", 40)
    daemon.wait_for("unhealthy")
    assert len(batches.calls()) == 7
    assert daemon.events("finish") == []
    daemon.send(signal.SIGUSR2)  # one entry is tried: it is good, so the others go on
    daemon.wait_for("finish", 20)
    assert batches.calls().count(["040"]) == 1


@pytest.mark.slow
def test_a_daemon_that_is_killed_repeats_a_batch_entry_by_entry(batches, eventually, start_daemon):
    (batches.base / "gate").touch()
    batches.put("a", "b", "c")
    daemon = batches.start()
    eventually(batches.calls)
    daemon.end(signal.SIGKILL)
    (batches.base / "gate").unlink()  # the command ends, and with it its claims
    again = batches.start()
    again.wait_for("finish", 3)
    assert batches.calls() == [["a"], ["a", "b", "c"], ["b"], ["c"]]
