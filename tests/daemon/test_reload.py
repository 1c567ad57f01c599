"""A reload while entries are in hand: what the old settings keep, and what the new ones know."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.renaming import rename_in, rename_within

SOON = 8.0  # seconds: a raw file of which only a scan tells waits for ten


@pytest.fixture
def configure(tmp_path: Path, queue: Path):
    """Write the configuration of one raw queue; return its file."""

    def write(argv: list[str], name: str = "q", path: Path | None = None, **settings: str) -> Path:
        lines = [f"[queues.{name}]", f'path = "{path or queue}"', 'format = "raw"']
        lines += [f"{key} = {value}" for key, value in settings.items()]
        lines.append(f"handler = {{ exec = {json.dumps(argv)} }}")
        file = tmp_path / "watcher.toml"
        file.write_text("\n".join(lines) + "\n")
        return file

    return write


def reload(daemon, count: int = 1) -> None:
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded", count)


@pytest.mark.parametrize(
    ("name", "match"), [("q", '["a", "b"]'), ("renamed", '["*"]')], ids=["match", "name"]
)
def test_an_exclusive_queue_with_an_entry_in_hand_is_served_on_by_other_settings(
    queue, start_daemon, recorder, configure, eventually, name, match
):
    """The lock that keeps other daemons away is the process's, and not that of its settings."""
    file = configure(recorder.argv(gated=True), exclusive="true")
    daemon = start_daemon(None, "--config", str(file))
    rename_in(queue, "a")
    assert eventually(lambda: recorder.calls)
    configure(["true"], name, exclusive="true", match=match)
    reload(daemon)
    daemon.wait_for("armed", 2)
    rename_in(queue, "b")
    daemon.wait_for("finish", entry="b")
    assert len(recorder.calls) == 1
    recorder.open_gate()
    daemon.wait_for("finish", entry="a")
    assert not daemon.events("unhealthy")
    assert daemon.end() == 0


def test_what_a_wrong_handler_has_in_hand_is_for_the_new_one_at_once(
    queue, start_daemon, recorder, configure, eventually
):
    file = configure(recorder.argv(status=127, gated=True), retry='{ initial = "1h", max = "2h" }')
    daemon = start_daemon(None, "--config", str(file))
    rename_in(queue, "a")
    assert eventually(lambda: recorder.calls)
    configure(["true"], retry='{ initial = "1h", max = "2h" }')
    reload(daemon)
    recorder.open_gate()
    [done] = daemon.wait_for("finish", entry="a")
    assert done["attempt"] == 1
    assert daemon.end() == 0


def test_exclusive_counts_from_the_reload_on(queue, start_daemon, configure):
    file = configure(["true"], sweep_every='"1h"')
    daemon = start_daemon(None, "--config", str(file))
    configure(["true"], sweep_every='"1h"', exclusive="true")
    reload(daemon)
    second = start_daemon(queue, "--format", "raw", handler=["true"], ready=False)
    [told] = second.wait_for("unhealthy")
    assert "works here with exclusive set" in told["detail"]
    configure(["true"], sweep_every='"1h"')
    reload(daemon, 2)
    second.wait_for("ready")
    assert second.end() == daemon.end() == 0


@pytest.mark.slow
def test_a_second_daemon_is_told_of_once_whatever_reloads_come(queue, start_daemon, configure):
    first = start_daemon(queue, "--format", "raw", handler=["true"])
    daemon = start_daemon(None, "--config", str(configure(["true"])))
    daemon.wait_for("second daemon")
    configure(["true"], breaker="0")
    reload(daemon)
    daemon.send(signal.SIGUSR2)
    for count in (1, 2):  # the sweep comes between the two
        daemon.send(signal.SIGUSR1)
        daemon.wait_for("status", count)
    assert len(daemon.events("second daemon")) == 1
    assert first.end() == daemon.end() == 0


@pytest.mark.parametrize("waits", [True, False], ids=["before", "after"])
def test_a_rename_is_seen_across_a_reload_that_changes_what_is_an_entry(
    queue, start_daemon, recorder, configure, eventually, waits
):
    """A scan could not tell that the file was renamed in, and would let it wait."""
    file = configure(recorder.argv(gated=True))
    daemon = start_daemon(None, "--config", str(file))
    rename_in(queue, "first")
    assert eventually(lambda: recorder.calls)
    names = [f"entry{number}" for number in range(20)]
    if waits:
        for name in names:
            rename_within(queue, name)
        rename_within(queue, "other")
    configure(["true"], match='["first", "entry*"]')
    daemon.send(signal.SIGHUP)
    if not waits:
        for name in names:
            rename_within(queue, name)
    began = time.monotonic()
    daemon.wait_for("finish", len(names))
    assert time.monotonic() - began < SOON
    assert sorted(record["entry"] for record in daemon.events("finish")) == sorted(names)
    recorder.open_gate()
    daemon.wait_for("finish", entry="first")
    assert (queue / "other").exists() == waits, "no entry by the new settings"
    assert daemon.end() == 0


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "other rules"])
def test_the_status_stays_true_while_the_old_settings_finish_an_entry(
    queue, tmp_path, start_daemon, recorder, configure, eventually, run, dropped
):
    """If it grew old, `watcher status` would take the daemon for stuck."""
    file = configure(recorder.argv(gated=True), sweep_every='"50ms"')
    daemon = start_daemon(None, "--config", str(file))
    rename_in(queue, "a")
    assert eventually(lambda: recorder.calls)
    [status] = eventually(lambda: list((queue / ".watcher").glob("inflight/*/.status")))
    if dropped:
        (tmp_path / "other").mkdir()
        configure(["true"], "other", tmp_path / "other")
    else:
        configure(["true"], match='["a", "b"]', sweep_every='"50ms"')
    reload(daemon)
    later = time.time() + 1.0
    assert eventually(lambda: json.loads(status.read_bytes())["written"] > later)
    told = json.loads(run("status", queue, "--json"))
    [said] = told["daemons"]  # one, and not that of each settings
    assert said["leaving"] == dropped
    assert [each["entry"] for each in told["in_hand"]] == ["a"]
    recorder.open_gate()
    daemon.wait_for("finish", entry="a")
    assert eventually(lambda: not status.exists())
    assert daemon.end() == 0


@pytest.mark.slow
def test_entries_that_another_program_takes_are_told_of_after_a_reload_too(
    queue, start_daemon, recorder, configure, eventually
):
    file = configure(recorder.argv(gated=True), concurrency="1")
    daemon = start_daemon(None, "--config", str(file))
    rename_in(queue, "a")
    assert eventually(lambda: recorder.calls)
    rename_in(queue, "taken")
    (queue / "taken").unlink()
    recorder.open_gate()
    daemon.wait_for("vanished")
    configure(["true"], breaker="0")
    reload(daemon)
    daemon.send(signal.SIGUSR1)
    [status] = daemon.wait_for("status")
    assert "1 entry, last taken" in status["detail"]
    assert "1 taken by another program" in status["detail"]
    assert len(daemon.events("unhealthy")) == 1
    assert daemon.end() == 0


def test_what_lay_in_a_directory_that_is_gone_is_missed_after_a_reload_too(
    queue, start_daemon, configure
):
    file = configure(["sh", "-c", "exit 65"])
    daemon = start_daemon(None, "--config", str(file))
    rename_in(queue, "a")
    daemon.wait_for("reject")
    queue.rename(queue.parent / "aside")
    daemon.wait_for("unhealthy")
    configure(["true"])
    reload(daemon)
    queue.mkdir()
    found = daemon.wait(lambda: [e for e in daemon.events("unhealthy") if "1 dead" in e["detail"]])
    assert "removed or replaced" in found[0]["detail"]
    assert daemon.end() == 0
