"""The status line tells what lies on the disk, whatever an operator or another process did to it.

No sweep comes while these tests run: no number is right because a sweep made it so.
"""

from __future__ import annotations

import os
import pickle
import re
import signal

import pytest

import watcher
from tests.renaming import rename_within
from watcher.inspect import counts as counting
from watcher.inspect.counts import tally
from watcher.rules.kinds import ENTRY_KINDS
from watcher.rules.names import Layout
from watcher.spool.spool import Spool

QUIET = ("--sweep-every", "1h")
NOT_YET = "not complete or not old enough yet"
RAW = ("--format", "raw", "--suffix", ".csv")


def numbers(detail):
    """Return the numbers of a status line, by what they count."""
    words = f"ready|claimed|deferred|held|dead|orphan|{NOT_YET}|handled"
    found = re.findall(rf"(\d+) ({words})", detail)
    return {what: int(number) for number, what in found}


def status(daemon, count=1):
    daemon.send(signal.SIGUSR1)
    return numbers(daemon.wait_for("status", count)[-1]["detail"])


def test_no_deferred_one_is_counted_that_an_operator_moved_away(queue, start_daemon, run):
    """Other names were in memory until they would have been due: for hours."""
    daemon = start_daemon(queue, *QUIET, handler=["sh", "-c", "exit 75"])
    names = [watcher.enqueue(queue, b"%d" % number) for number in range(6)]
    daemon.wait_for("defer", 6)
    run("hold", queue, *names[:2])
    run("delete", queue, names[2], "--yes")
    assert status(daemon) == {
        "ready": 0, "claimed": 0, "deferred": 3, "held": 2, "dead": 0, "orphan": 0,
        NOT_YET: 0, "handled": 0,
    }  # fmt: skip
    run("release", queue, "ALL")
    assert status(daemon, 2)["deferred"] == 5


def test_what_was_requeued_and_done_is_no_longer_deferred(queue, tmp_path, start_daemon, run):
    gate = tmp_path / "open"
    daemon = start_daemon(queue, *QUIET, handler=["sh", "-c", f"[ -e {gate} ] || exit 75"])
    for number in range(20):
        watcher.enqueue(queue, b"%d" % number)
    daemon.wait_for("defer", 20)
    gate.touch()
    run("requeue", queue, "ALL")
    daemon.wait_for("finish", 20)
    assert status(daemon)["deferred"] == 0
    daemon.end()
    found = numbers(daemon.events("stopped")[0]["detail"])
    assert (found["deferred"], found["handled"]) == (0, 20)


def test_all_of_a_backlog_is_ready_and_not_a_batch_of_it(queue, start_daemon, recorder):
    """More than `Ready` may hold: the rest lies in the directory, and is counted there."""
    directory = os.open(queue, os.O_RDONLY)
    for number in range(70_000):
        os.close(os.open(f"{number}.csv", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=directory))
    os.close(directory)
    daemon = start_daemon(queue, *QUIET, *RAW, handler=recorder.argv(gated=True), ready=False)
    daemon.wait_for("armed")
    daemon.wait(lambda: daemon.events("status") or daemon.send(signal.SIGUSR1))
    found = numbers(daemon.events("status")[0]["detail"])
    assert sum(found[each] for each in ("ready", "claimed", NOT_YET)) == 70_000


def test_a_retried_entry_in_hand_is_claimed_and_not_deferred(
    queue, start_daemon, recorder, run, tmp_path
):
    once = tmp_path / "once"
    handler = ["sh", "-c", f'[ -e {once} ] || {{ touch {once}; exit 75; }}; exec "$@"', "sh"]
    config = tmp_path / "w.toml"
    argv = [*handler, *recorder.argv(gated=True)]
    config.write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = {argv!r} }}\n'
        'sweep_every = "1h"\nretry = { initial = "100ms" }\n'
    )
    daemon = start_daemon(None, "--config", str(config))
    watcher.enqueue(queue, b"m")
    daemon.wait_for("defer")
    daemon.wait(lambda: recorder.calls)
    found = status(daemon)
    assert (found["claimed"], found["deferred"], found["ready"]) == (1, 0, 0)
    listed = run("list", queue, "--state", "claimed")
    assert listed.startswith("claimed ")
    assert f"by process {daemon.process.pid}" in listed
    assert run("list", queue, "--state", "deferred") == ""
    assert run("list", queue).startswith("claimed ")
    (lies,) = (queue / ".watcher/deferred").glob("*.pck")
    assert f"claimed: by process {daemon.process.pid}" in run("explain", lies)
    recorder.open_gate()
    daemon.wait_for("finish")
    assert run("list", queue) == ""


def test_an_entry_that_waits_for_a_file_beside_it_is_not_ready(queue):
    layout = Layout(b"", raw=True, marker=b"{name}.done", companions=(b"{name}.aria2",))
    for name in ("whole", "whole.done", "bare", "loading", "loading.done", "loading.aria2"):
        (queue / name).touch()
    found = tally(Spool(os.fsencode(queue), layout))
    assert (found.ready, found.waiting) == (1, 2)


def test_what_is_put_away_is_counted_by_the_same_names_as_list_lists(queue, run):
    for state in ("deferred", "held", "dead", "orphans"):
        directory = queue / ".watcher" / state
        directory.mkdir(parents=True)
        for name in ("a.pck", "a.json", "b.msg", "b.db", "c.db", ".c.tmp", "d.pck", "d.db"):
            (directory / name).write_bytes(pickle.dumps(b""))
        (directory / "x.pck").mkdir()
    for name in ("n.pck", "m.msg", "m.db", "lone.db", ".h.pck", "t.pck.tmp", "x.txt", "k.bak"):
        (queue / name).write_bytes(b"")
    (queue / "directory.pck").mkdir()
    (queue / "other.pck").symlink_to("n.pck")
    found = tally(Spool(os.fsencode(queue), Layout(legacy=True)), [b"n.pck"])
    assert found == (2, 1, 4, 4, 4, 4, 0, True)
    assert len(run("list", queue, "--legacy", "--state", "dead").splitlines()) == found.dead
    assert tally(Spool(os.fsencode(queue), Layout())).ready == 1


def test_a_count_that_takes_too_long_says_so(queue, monkeypatch):
    rename_within(queue, "a.pck")
    monkeypatch.setattr(counting, "LONGEST", -1.0)
    found = tally(Spool(os.fsencode(queue), Layout()))
    assert str(found).startswith("at least 0 ready, ")


LAYOUTS = (
    Layout(),
    Layout(legacy=True),
    Layout(b".tmp.x", raw=True),
    Layout(b"", raw=True),
    Layout(b".json", raw=True),
)
ENDINGS = (b"", b".pck", b".msg", b".db", b".tmp", b".bak", b".json", b".pck.tmp", b".tmp.x")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_name_is_an_entrys_for_the_count_as_for_the_scan(layout):
    names = [stem + end for stem in (b"a", b".a", b"", b"a.tmp", b"\xff") for end in ENDINGS]
    is_one = counting.entry_test(layout)
    for name in filter(None, names):
        assert is_one(os.fsdecode(name)) == (layout.kind(name) in ENTRY_KINDS), name


def test_a_directory_that_is_gone_is_not_counted_from_memory(queue, start_daemon):
    daemon = start_daemon(queue, *QUIET, handler=["sh", "-c", "exit 75"])
    watcher.enqueue(queue, b"m")
    daemon.wait_for("defer")
    queue.rename(queue.with_name("elsewhere"))
    daemon.send(signal.SIGUSR1)
    detail = daemon.wait_for("status")[0]["detail"]
    assert "cannot be counted" in detail
    assert "does not exist" in detail
