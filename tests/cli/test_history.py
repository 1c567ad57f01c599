"""`watcher history`: every step of an entry, and what became of it. `explain` by name."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import time

import pytest

from tests.command_server import run_command
from watcher.rules.names import Layout
from watcher.spool.spool import Spool

WHOLE = pickle.dumps(b"message", 2) + pickle.dumps({}, 2)
HOST = os.uname().nodename


@pytest.fixture
def watcher(watcher_command, environment):
    """Run a command on the queue."""

    def run(command, queue, *arguments):
        argv = [*watcher_command, command, str(queue), *arguments]
        ended = run_command(argv, env=environment, text=True)
        assert "Traceback" not in ended.stderr
        return ended

    return run


@pytest.fixture
def history(watcher):
    """Return the history of an entry, as JSON."""

    def run(queue, name, *options):
        ended = watcher("history", queue, name, "--json", *options)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


def put(queue, name, data=WHOLE):
    (queue.parent / "scratch").write_bytes(data)
    (queue.parent / "scratch").rename(queue / name)


def moves(life):
    return [step["move"] for step in life["steps"]]


HANDLER = """
case $WATCHER_ENTRY-$WATCHER_ATTEMPT in
    again-1) echo "no connection" >&2; exit 75;;
    bad-1) test -e $0.fixed || { echo "no such list" >&2; exit 65; };;
esac
"""


@pytest.fixture
def daemon(queue, tmp_path, start_daemon, watcher):
    """A daemon that has handled `good` twice, `again` at its second attempt, `bad` requeued."""
    (tmp_path / "handler").write_text(HANDLER)
    (tmp_path / "w.toml").write_text(
        f"""
        [queues.q]
        path = "{queue}"
        handler = {{ exec = ["sh", "{tmp_path}/handler"] }}
        retry = {{ initial = "100ms" }}
        """
    )
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    for name in ("good", "again", "bad"):
        put(queue, f"{name}.pck")
    daemon.wait_for("finish", 2)
    daemon.wait_for("reject")
    put(queue, "good.pck")
    daemon.wait_for("finish", 3)
    (tmp_path / "handler.fixed").touch()
    assert watcher("requeue", queue, "bad").returncode == 0
    daemon.wait_for("finish", 4)
    assert daemon.end() == 0
    return daemon


def used_again(queue, daemon, history):
    first, second = history(queue, "good")["lives"]
    for life in (first, second):
        (step,) = life["steps"]
        assert (step["move"], step["attempt"], step["host"]) == ("finish", 1, HOST)
        assert step["process"] == daemon.process.pid
        # Each moment and each span is rounded to a millisecond.
        assert 0 <= step["took"] <= step["time"] - life["committed"] + 0.002 < 60
        assert re.match(r"handled on .* at the 1st attempt, .* after its commit$", life["result"])
    assert first["committed"] < second["committed"]


def retried(queue, daemon, history, watcher):
    (again,) = history(queue, "again.pck")["lives"]
    failed, done = again["steps"]
    assert (failed["move"], failed["attempt"], failed["exit_status"]) == ("defer", 1, 75)
    assert failed["why"] == "exit status 75: no connection"
    assert 0 < failed["next_in"] <= 0.11
    assert (done["move"], done["attempt"], done["waited"] > 0) == ("finish", 2, True)
    assert " at the 2nd attempt, " in again["result"]
    text = watcher("history", queue, "again").stdout.splitlines()
    assert text[0] == "again"
    assert "  committed" in text[1]
    assert "attempt 1: failed (took " in text[2]
    assert text[2].endswith(f"; process {daemon.process.pid} on {HOST}")
    assert text[4].startswith("handled on ")
    explained = watcher("explain", queue, "again").stdout
    assert explained.startswith(f"{queue}/again\n  verdict      handled on ")


def requeued(queue, history):
    (bad,) = history(queue, "bad")["lives"]
    assert moves(bad) == ["reject", "requeue", "finish"]
    assert bad["steps"][0]["why"].endswith("no such list")
    assert bad["steps"][1]["why"].startswith("by ")
    assert bad["steps"][1]["text"].startswith("requeued, out of dead/ by ")
    assert " at the 2nd attempt, the 1st since it was requeued, " in bad["result"]


def test_what_a_daemon_and_an_operator_did_is_told(queue, daemon, history, watcher):
    used_again(queue, daemon, history)
    retried(queue, daemon, history, watcher)
    requeued(queue, history)


def sweep(watcher, queue, script, *options):
    ended = watcher("sweep", queue, "--grace-age", "0s", *options, "--", "sh", "-c", script)
    assert ended.returncode in {0, 75}, ended.stderr


def test_where_an_entry_is_now_is_said_from_the_disk(queue, watcher, history):
    names = ("later", "never", "kept", "gone", "moved", "removed")
    for name in names:
        put(queue, f"{name}.pck")
    sweep(watcher, queue, "case $WATCHER_ENTRY in new) exit 78;; later) exit 75;; esac; exit 65")
    assert watcher("requeue", queue, "kept").returncode == 0
    assert watcher("hold", queue, "kept").returncode == 0
    assert watcher("delete", queue, "removed", "--yes").returncode == 0
    dead = queue / ".watcher/dead"
    (dead / "gone.pck").unlink()
    (dead / "moved.pck").rename(queue / "moved.pck")  # by hand
    results = {}
    for name in names:
        (life,) = history(queue, name)["lives"]
        results[name] = life["state"], life["result"]
    assert results["later"][0] == "deferred"
    assert results["never"][0] == "dead"
    assert results["kept"][0] == "held"
    assert results["moved"][0] == "ready"
    assert results["gone"][1].startswith("gone: no line since ")
    assert re.match(r"deleted on .* by .* after its commit$", results["removed"][1])
    sweep(watcher, queue, "true")
    (life,) = history(queue, "moved")["lives"]  # the same file, so the same life
    assert moves(life) == ["reject", "finish"]


@pytest.mark.parametrize("name", ["later", "later.pck", "deferred/later", "STAMPED", "late"])
def test_any_name_that_a_command_shows_is_understood(queue, watcher, history, name):
    put(queue, "later.pck")
    put(queue, "other.pck")
    sweep(watcher, queue, "exit 75")
    stamped = next(file for file in (queue / ".watcher/deferred").glob("*later.pck")).name
    found = history(queue, stamped if name == "STAMPED" else name)
    assert found["entry"] == "later"
    assert [life["state"] for life in found["lives"]] == ["deferred"]
    explained = watcher("explain", queue, stamped if name == "STAMPED" else name).stdout
    assert f"/.watcher/deferred/{stamped}\n  verdict      put away in deferred/" in explained


def test_a_name_that_is_not_known_is_66_and_says_what_the_journal_covers(queue, watcher):
    put(queue, "oneself.pck")
    put(queue, "onesided.pck")
    sweep(watcher, queue, "true")
    ended = watcher("history", queue, "two")
    assert (ended.returncode, ended.stdout) == (os.EX_NOINPUT, "")
    assert "two: no such entry" in ended.stderr
    assert "the journal begins on 20" in ended.stderr
    ended = watcher("history", queue, "ones")
    assert ended.returncode == os.EX_USAGE
    assert "several entries begin so: say more of oneself, onesided" in ended.stderr
    assert watcher("explain", queue, "two").returncode == os.EX_NOINPUT


def test_without_a_journal_only_the_disk_is_told(queue, watcher, history):
    put(queue, "later.pck")
    sweep(watcher, queue, "exit 75", "--no-journal")
    found = history(queue, "later", "--no-journal")
    (life,) = found["lives"]
    assert (life["steps"], life["committed"], life["attempts"]) == ([], None, None)
    assert life["result"].startswith("deferred now, due in ")
    assert life["result"].endswith("; the journal has no line about it")
    assert found["remarks"] == ["no journal is kept"]


def test_in_a_copy_of_the_queue_the_life_goes_on(queue, watcher, history, tmp_path):
    put(queue, "bad.pck")
    sweep(watcher, queue, "exit 65")
    copy = tmp_path / "copy"
    shutil.copytree(queue, copy)
    (life,) = history(copy, "bad")["lives"]
    assert (moves(life), life["state"]) == (["reject"], "dead")
    assert watcher("requeue", copy, "bad").returncode == 0
    sweep(watcher, copy, "true")
    (life,) = history(copy, "bad")["lives"]
    assert (moves(life), life["ended"]) == (["reject", "requeue", "finish"], "finish")
    assert watcher("audit", copy).returncode == 0


def test_a_taken_entry_is_told(queue, history):
    spool = Spool(os.fsencode(queue), Layout())
    spool.journal.vanish(b"second.pck", time.time_ns())
    spool.journal.flush()
    found = history(queue, "second")
    assert (found["lives"], len(found["taken"])) == ([], 1)
