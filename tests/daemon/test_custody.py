"""Another program takes away what a queue keeps while the daemon works: told at once, by name."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

from tests.command_server import run_command
from tests.renaming import rename_within

RAW = ("--format", "raw")
KEEP = 'case "$WATCHER_ENTRY" in dead) exit 65;; kept*) exit 75;; esac'
SOON = 10.0  # seconds; a sweep comes after 60


@pytest.fixture
def audit(watcher_command, environment):
    """Return the exit status of an audit, the names that are missing, and its sum."""

    def run(queue):
        argv = [*watcher_command, "audit", str(queue), *RAW, "--json"]
        ended = run_command(argv, env=environment, capture_output=True, text=True, check=False)
        *lines, total = [json.loads(line) for line in ended.stdout.splitlines()] or [{}]
        return ended.returncode, {line.get("missing") for line in lines}, total

    return run


@pytest.fixture
def keeps(queue, start_daemon):
    """A daemon that keeps five deferred entries and one dead; it is told what it knows."""
    daemon = start_daemon(queue, *RAW, handler=["sh", "-c", KEEP])
    for number in range(5):
        rename_within(queue, f"kept{number}", b"fail")
    rename_within(queue, "dead", b"dead")
    daemon.wait_for("defer", 5)
    daemon.wait_for("reject")
    return daemon


KEPT = {"dead", *(f"kept{number}" for number in range(5))}


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_state_directory_that_is_taken_away_is_told_at_once_and_does_not_balance(
    queue, keeps, audit, how
):
    aside = queue / ".x"
    (queue / ".watcher").rename(aside)
    if how == "removed":
        shutil.rmtree(aside)
    (told,) = keeps.wait(lambda: keeps.events("unhealthy"), SOON)
    assert "1 dead, 5 deferred" in told["detail"]
    if how == "moved":
        assert str(aside) in told["detail"]
    rename_within(queue, "new")
    keeps.wait_for("finish", entry="new")
    status, missing, total = audit(queue)
    assert (status, missing) == (65, KEPT)
    assert "6 entries were known before" in total["anew"][0]["why"]
    assert not keeps.events("recovered")
    assert keeps.end() == 0
    assert audit(queue)[:2] == (65, KEPT)


def test_it_is_told_at_once_when_it_is_removed_in_place(queue, keeps, audit):
    """As `rm -r` and `rsync --delete` do: no event tells of a directory that a process has open."""
    shutil.rmtree(queue / ".watcher", ignore_errors=True)
    keeps.wait(lambda: keeps.events("unhealthy"), SOON)
    rename_within(queue, "new")
    keeps.wait_for("finish", entry="new")
    assert keeps.end() == 0
    assert audit(queue)[:2] == (65, KEPT)


def test_put_back_all_goes_on(queue, keeps, audit):
    ours, aside = queue / ".watcher", queue / ".x"
    ours.rename(aside)
    keeps.wait_for("unhealthy")
    rename_within(queue, "new")
    keeps.wait_for("finish", entry="new")
    shutil.rmtree(ours, ignore_errors=True)
    while not _is_back(aside, ours):
        shutil.rmtree(ours, ignore_errors=True)
    keeps.wait(lambda: keeps.events("recovered"), SOON)
    rename_within(queue, "newer")
    keeps.wait_for("finish", entry="newer")
    assert keeps.end() == 0
    status, missing, total = audit(queue)
    assert (status, missing) == (0, set())
    assert total["here"] == {"dead": 1, "deferred": 5}


def _is_back(aside, ours):
    """Move the directory back, unless the daemon has just made another."""
    try:
        os.rename(aside, ours)
    except OSError:
        return False
    return True


def test_what_is_moved_into_the_new_one_is_there_again(queue, keeps, audit):
    ours, aside = queue / ".watcher", queue / ".x"
    ours.rename(aside)
    keeps.wait_for("unhealthy")
    for place in ("deferred", "dead"):
        (ours / place).mkdir(exist_ok=True, mode=0o700)
        for file in (aside / place).iterdir():
            file.rename(ours / place / file.name)
    keeps.send(signal.SIGUSR2)
    keeps.wait(lambda: keeps.events("recovered"), SOON)
    assert keeps.end() == 0
    assert audit(queue)[:2] == (0, set())


def test_a_directory_in_it_that_is_taken_away_is_told_at_once(queue, keeps, audit):
    (queue / ".watcher/deferred").rename(queue / ".x")
    (told,) = keeps.wait(lambda: keeps.events("unhealthy"), SOON)
    assert "5 deferred" in told["detail"]
    keeps.wait((queue / ".watcher/deferred").exists)  # the daemon makes it again
    (queue / ".watcher/deferred").rmdir()
    (queue / ".x").rename(queue / ".watcher/deferred")
    keeps.send(signal.SIGUSR2)
    keeps.wait(lambda: keeps.events("recovered"), SOON)
    assert keeps.end() == 0
    assert audit(queue)[0] == 0


def test_an_entry_in_hand_is_done_with_though_its_directory_is_taken_away(
    queue, start_daemon, recorder, audit
):
    daemon = start_daemon(queue, *RAW, handler=recorder.argv(gated=True))
    rename_within(queue, "X")
    with open(recorder.gate, "wb"):  # it is in hand
        (queue / ".watcher").rename(queue / ".x")
        daemon.wait_for("unhealthy")
    daemon.wait_for("finish", entry="X")
    rename_within(queue, "Y")
    recorder.open_gate()
    daemon.wait_for("finish", entry="Y")
    assert daemon.end() == 0
    assert sorted(os.listdir(queue / ".watcher/inflight")) == []
    status, missing, total = audit(queue)
    assert (status, missing, total["done"]) == (0, set(), 2)


def test_a_queue_directory_that_is_made_anew_says_what_was_known_before(queue, keeps, audit):
    keeps.send(signal.SIGSTOP)  # a look in the midst would know of what is left by then
    shutil.rmtree(queue)
    queue.mkdir()
    keeps.send(signal.SIGCONT)
    keeps.send(signal.SIGUSR2)
    keeps.wait(lambda: any("5 deferred" in e["detail"] for e in keeps.events("unhealthy")), SOON)
    rename_within(queue, "new")
    keeps.wait_for("finish", entry="new")
    assert keeps.end() == 0
    status, missing, total = audit(queue)
    assert (status, missing) == (65, KEPT)
    assert "the queue directory was removed or replaced" in total["anew"][0]["why"]


def test_an_entry_that_another_program_took_is_told_by_name(queue, start_daemon, recorder):
    daemon = start_daemon(queue, *RAW, handler=recorder.argv(gated=True))
    rename_within(queue, "first")
    rename_within(queue, "second")
    with open(recorder.gate, "wb"):  # the first is in hand, the second heard of
        (queue / "second").unlink()
    daemon.wait_for("finish", entry="first")
    rename_within(queue, "third")
    recorder.open_gate()
    daemon.wait_for("finish", entry="third")  # the second had its turn before
    (told,) = daemon.wait_for("vanished")  # at once: no sweep is due for a minute
    assert "1 entry was announced" in told["detail"]
    assert ": second:" in told["detail"]
    (unhealthy,) = daemon.wait_for("unhealthy")
    assert (
        "another program takes entries of this queue: 1 entry, last second" in unhealthy["detail"]
    )
    daemon.send(signal.SIGUSR1)
    (line,) = daemon.wait_for("status")
    assert "1 taken by another program" in line["detail"]
    assert "last second at 2" in line["detail"]
