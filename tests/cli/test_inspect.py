"""list, cat, explain and check say what is there, and touch nothing."""

from __future__ import annotations

import fcntl
import json
import os
import socket

import pytest

import watcher
import writers
from tests.command_server import run_command

LETTER = writers.message_for(1, 1)


@pytest.fixture
def run(watcher_command, environment):
    """Run one command to its end."""

    def running(*arguments, status=0):
        ended = run_command(
            [*watcher_command, *arguments],
            env=environment,
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert ended.returncode == status, (ended.stdout, ended.stderr)
        if status:
            assert len(ended.stderr.splitlines()) <= 1
        return ended.stdout

    return running


def lines(output):
    return [json.loads(line) for line in output.splitlines()]


def snapshot(queue):
    return sorted((path.name, path.lstat().st_ctime_ns) for path in queue.rglob("*"))


def test_every_state_is_listed_and_nothing_is_touched(queue, run):
    ready = watcher.enqueue(queue, b"m")
    claimed = watcher.enqueue(queue, b"m")
    writers.commit_2_0_8(str(queue), LETTER, writers.no_pause)
    (queue / "half.db").write_bytes(b"{0")
    (queue / "new.pck.tmp").write_bytes(b"")
    (queue / "x.txt").write_bytes(b"")
    for state, name in (("dead", "d.pck"), ("orphans", "o.db"), ("held", "h.pck")):
        place = queue / ".watcher" / state
        place.mkdir(parents=True, mode=0o700)
        (place / name).write_bytes(b"x")
    (queue / ".watcher" / "dead" / "d.json").write_text('{"why": "no such user"}')
    before = snapshot(queue)
    with open(queue / f"{claimed}.pck", "rb") as claim, open(queue / "slow.pck", "wb") as writing:
        fcntl.flock(claim, fcntl.LOCK_EX)
        writing.write(b"x")
        found = {
            line["entry"]: line for line in lines(run("list", str(queue), "--legacy", "--json"))
        }
        text = run("list", str(queue), "--legacy").decode()
    (queue / "slow.pck").unlink()
    assert snapshot(queue) == before
    states = {name: line["state"] for name, line in found.items()}
    pair = (states.keys() - {ready, claimed, "half", "new.pck.tmp", "slow", "d", "o", "h"}).pop()
    assert states == {
        ready: "ready",
        claimed: "claimed",
        pair: "ready",
        "half": "arriving",
        "new.pck.tmp": "arriving",
        "slow": "arriving",
        "d": "dead",
        "o": "orphan",
        "h": "held",
    }
    assert len(found[pair]["files"]) == 2
    assert str(os.getpid()) in found[claimed]["why"]
    assert found["d"]["why"] == "no such user"
    assert len(text.splitlines()) == len(states)
    only = lines(run("list", str(queue), "--state", "dead", "--json"))
    assert [line["entry"] for line in only] == ["d"]


def test_cat_shows_message_metadata_and_file_in_any_state(queue, run):
    name = watcher.enqueue(queue, b"Subject: x\n\nbody\xff\n", {"listname": "announce", "n": 1})
    assert run("cat", str(queue), name) == b"Subject: x\n\nbody\xff\n"
    assert run("cat", str(queue), name + ".pck") == b"Subject: x\n\nbody\xff\n"
    found = json.loads(run("cat", str(queue), name, "--metadata", "--json"))
    assert found == {"listname": "announce", "n": 1}
    assert run("cat", str(queue), name, "--metadata") == b'listname: "announce"\nn: 1\n'
    assert run("cat", str(queue), name, "--raw") == (queue / f"{name}.pck").read_bytes()
    dead = queue / ".watcher" / "dead"
    dead.mkdir(parents=True, mode=0o700)
    (queue / f"{name}.pck").rename(dead / f"{name}.pck")
    assert run("cat", str(queue), name).startswith(b"Subject")
    assert run("cat", str(queue), f"dead/{name}").startswith(b"Subject")


def test_cat_of_a_pair_and_of_names_that_are_ambiguous_unknown_or_damaged(queue, run):
    name = writers.commit_2_0_8(str(queue), LETTER, writers.no_pause)
    assert run("cat", str(queue), name, "--legacy") == LETTER.message
    metadata = json.loads(run("cat", str(queue), name, "--legacy", "--metadata", "--json"))
    assert metadata["listname"] == "testlist"
    twice = watcher.enqueue(queue, b"m")
    dead = queue / ".watcher" / "dead"
    dead.mkdir(parents=True, mode=0o700)
    (dead / f"{twice}.pck").write_bytes(b"")
    run("cat", str(queue), twice, status=os.EX_USAGE)
    run("cat", str(queue), f"dead/{twice}", status=os.EX_DATAERR)
    run("cat", str(queue), "nobody", status=os.EX_NOINPUT)
    run("cat", str(queue), "../etc/passwd", status=os.EX_USAGE)


def test_explain_tells_the_verdict_and_the_evidence_of_any_file(queue, tmp_path, run):
    old = watcher.enqueue(queue, b"m")
    (queue / "half.db").write_bytes(b"{0")
    (queue / "left.bak").write_bytes(b"")
    (queue / "1.0+ab.pck").mkdir()
    (queue / "bad.pck").write_bytes(b"junk")
    os.mkfifo(queue / "f.pck")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(queue / "s.pck"))
    with open(queue / "slow.pck", "wb"):
        names = (f"{old}.pck", "half.db", "left.bak", "1.0+ab.pck", "bad.pck", "f.pck", "s.pck")
        paths = [str(queue / name) for name in (*names, "slow.pck")]
        before = snapshot(queue)
        told = lines(run("explain", *paths, "--legacy", "--grace-age", "0s", "--json"))
        assert snapshot(queue) == before
    verdicts = [line["verdict"].split(":")[0] for line in told]
    assert verdicts == [
        *("ready", "to orphans/", "left alone", "left alone", "ready", "left alone"),
        *("left alone", "left"),
    ]
    assert "Mailman" in told[2]["name"]
    assert str(os.getpid()) in told[7]["writer"]
    young = lines(run("explain", paths[0], "--json"))[0]
    assert "younger than the grace age" in young["verdict"]
    outside = tmp_path / "plain.txt"
    outside.write_text("x")
    assert b"left alone" in run("explain", str(outside))
    run("explain", str(tmp_path / "missing"), status=os.EX_NOINPUT)


def test_check_tries_the_directory_and_leaves_nothing_behind(queue, run):
    (queue / "left.psv").write_bytes(b"")
    (queue / "x.txt").write_bytes(b"")
    found = {line["about"]: line for line in lines(run("check", str(queue), "--json"))}
    for about in ("rename", "lock", "lease", "inotify"):
        assert found[about]["grade"] == "ok", found[about]
    assert "left.psv" in found["Mailman's leftover"]["what"]
    assert found["max_user_watches"]["what"].split()[0].isdigit()
    assert [path.name for path in (queue / ".watcher" / "inflight").iterdir()] == []


def test_check_tells_of_notes_whose_writers_died_and_touches_none(queue, run):
    place = queue / ".watcher/dead"
    place.mkdir(parents=True, mode=0o700)
    names = {".4194304.7f0a.tmp", f".{os.getpid()}.7f0a.tmp", ".other.tmp", "X.pck", "X.json"}
    for name in names:  # no process can have the first one's number
        (place / name).touch()

    def told(*options):
        checks = lines(run("check", str(queue), "--json", *options))
        return [check["what"] for check in checks if check["about"] == "unfinished notes"]

    (what,) = told("--grace-age", "0s")
    assert what.startswith("1 in .watcher/dead/: .4194304.7f0a.tmp. ")
    assert told() == [], "its process may be another machine's, or in a container"
    assert {path.name for path in place.iterdir()} == names


def test_check_says_what_is_bad_by_its_exit_status(queue, run):
    (queue / ".watcher").write_text("in the way")
    found = {line["about"]: line for line in lines(run("check", str(queue), "--json", status=69))}
    assert found["our directory"]["grade"] == "bad"


@pytest.mark.parametrize("command", ["run", "sweep", "enqueue", "list", "cat", "explain", "check"])
def test_every_command_has_help(command, run):
    assert run(command, "--help").startswith(b"Usage: watcher " + command.encode())
