"""`watcher audit`: each entry is done, deleted, or still here; each that is missing is named."""

from __future__ import annotations

import json
import os
import pickle
import subprocess

import pytest

from tests.command_server import run_command
from watcher.inspect.audit_rules import Audit
from watcher.inspect.balance import balance
from watcher.rules.names import Layout
from watcher.spool.spool import Spool

WHOLE = pickle.dumps(b"message", 2) + pickle.dumps({}, 2)


@pytest.fixture
def watcher(watcher_command, environment):
    """Run a command on the queue."""

    def run(command, queue, *arguments, check=True):
        ended = run_command(
            [*watcher_command, command, str(queue), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or ended.returncode in (0, 75), ended.stderr
        return ended

    return run


@pytest.fixture
def audit(watcher, queue):
    """Return the exit status of an audit, its sum, and the lines before it."""

    def run(*options):
        ended = watcher("audit", queue, "--json", *options, check=False)
        *lines, total = [json.loads(line) for line in ended.stdout.splitlines()]
        return ended.returncode, total, lines

    return run


def put(queue, name, data=WHOLE):
    (queue / f"{name}.tmp").write_bytes(data)
    (queue / f"{name}.tmp").rename(queue / name)


def sweep(watcher, queue, script, *options):
    return watcher("sweep", queue, "--grace-age", "0s", *options, "--", "sh", "-c", script)


def test_everything_is_accounted_for(watcher, queue, audit):
    for number in range(9):
        put(queue, f"{number}.pck")
    sweep(watcher, queue, 'case "$WATCHER_ENTRY" in 1) exit 75;; [23]) exit 65;; esac')
    watcher("hold", queue, "1")
    watcher("delete", queue, "2", "--yes")
    put(queue, "new.pck")
    status, total, lines = audit()
    assert (status, lines) == (0, [])
    assert (total["seen"], total["done"], total["removed"]) == (9, 6, 1)
    assert total["here"] == {"dead": 1, "held": 1}
    assert (total["waiting"], total["missing"], total["balanced"]) == (1, 0, True)
    text = watcher("audit", queue).stdout
    assert "every entry is accounted for" in text


def test_each_way_out_of_a_handlers_hands_has_its_line(watcher, queue):
    for name in ("done", "later", "never"):
        put(queue, f"{name}.pck")
    sweep(watcher, queue, 'case "$WATCHER_ENTRY" in later) exit 75;; never) exit 65;; esac')
    lines = (queue / ".watcher/journal").read_text().splitlines()
    words = [line.split() for line in lines if line != "%"][1:]  # after the one that begins it
    assert {(line[5], *line[2:4]) for line in words} == {
        ("done.pck", "claimed", "finish"),
        ("later.pck", "claimed", "defer"),
        ("never.pck", "claimed", "reject"),
    }


def test_what_a_stranger_took_out_of_our_directories_is_named(watcher, queue, audit):
    put(queue, "X.pck")
    sweep(watcher, queue, "exit 65")
    (queue / ".watcher/dead/X.pck").unlink()
    status, total, (line,) = audit()
    assert (status, line["missing"], line["move"]) == (65, "X", "reject")
    assert (total["seen"], total["missing"]) == (1, 1)
    ended = watcher("audit", queue, check=False)
    assert "missing: X: last seen" in ended.stdout
    assert "NOT every entry is accounted for" in ended.stdout


def test_what_a_stranger_took_before_it_was_claimed_is_named(
    watcher, queue, audit, start_daemon, recorder, eventually
):
    daemon = start_daemon(queue, handler=recorder.argv(gated=True))
    put(queue, "first.pck")
    put(queue, "second.pck")
    with open(recorder.gate, "wb"):  # a worker has the first; the second is only known by its event
        (queue / "second.pck").unlink()
    daemon.wait_for("finish", entry="first")
    eventually(lambda: audit()[2])  # or it would be told to end before the second's turn
    assert daemon.end() == 0
    status, total, lines = audit()
    assert [line["missing"] for line in lines] == ["second"]
    assert (status, total["seen"], total["done"]) == (65, 2, 1)


def test_two_daemons_that_race_lose_nothing(queue, audit, start_daemon, recorder, eventually):
    daemons = [start_daemon(queue, handler=recorder.argv()) for _ in range(2)]
    for number in range(60):
        put(queue, f"{number:02}.pck")
    eventually(lambda: len(recorder.calls) >= 60)
    for daemon in daemons:
        assert daemon.end() == 0
    status, total, lines = audit()
    assert (status, total["seen"], total["done"], lines) == (0, 60, 60, [])


def test_a_killed_daemon_leaves_its_lines(queue, audit, start_daemon, recorder):
    daemon = start_daemon(queue, handler=recorder.argv())
    for number in range(20):
        put(queue, f"{number}.pck")
    daemon.wait_for("finish", 20)
    daemon.process.kill()
    daemon.process.wait()
    assert audit()[1]["done"] == 20
    start_daemon(queue, handler=recorder.argv())  # it takes over what the other had not flushed
    assert audit()[1]["done"] == 20


def test_what_a_dead_process_left_aside_is_accounted_for_beside_a_replacement(
    watcher, queue, audit
):
    left = queue / ".watcher/inflight/4194304.0badcafe"
    left.mkdir(parents=True, mode=0o700)
    put(left, "X.pck")
    line = f"1763895193.250113 1 claimed finish {(left / 'X.pck').stat().st_ino} X.pck\n"
    (left / ".journal").write_text(f"{8 + len(line):08}{line}")
    put(queue, "X.pck")
    sweep(watcher, queue, "true", "--max-entries", "1")
    status, total, lines = audit()
    assert (status, lines, total["here"]) == (0, [], {"deferred": 1})
    sweep(watcher, queue, "true")
    status, total, lines = audit()
    assert (status, lines, total["seen"], total["done"], total["here"]) == (0, [], 3, 3, {})


def test_an_orphan_that_found_its_other_half_is_one_entry(watcher, queue, audit):
    put(queue, "X.db", b"{0")
    sweep(watcher, queue, "true", "--legacy")
    assert audit("--legacy")[1]["here"] == {"orphan": 1}
    put(queue, "X.msg", b"message")
    sweep(watcher, queue, "true", "--legacy")
    sweep(watcher, queue, "true", "--legacy")
    status, total, _ = audit("--legacy")
    assert (status, total["seen"], total["done"], total["here"]) == (0, 1, 1, {})


def test_a_requeued_entry_is_still_one_entry(watcher, queue, audit):
    put(queue, "X.pck")
    sweep(watcher, queue, "exit 65")
    watcher("requeue", queue, "X")
    assert audit()[1]["here"] == {"in the queue": 1}
    sweep(watcher, queue, "true")
    status, total, _ = audit()
    assert (status, total["seen"], total["done"], total["here"]) == (0, 1, 1, {})


def test_a_namesake_that_was_numbered_is_still_one_entry(watcher, queue, audit):
    for _ in range(2):
        put(queue, "X.pck")
        sweep(watcher, queue, "exit 65")
    assert sorted(path.name for path in (queue / ".watcher/dead").glob("*.pck")) == [
        "X.pck",
        "X~1.pck",
    ]
    watcher("requeue", queue, "ALL")
    status, total, _ = audit()
    assert (status, total["seen"], total["missing"]) == (0, 2, 0)
    sweep(watcher, queue, "true")
    status, total, _ = audit()
    assert (status, total["seen"], total["done"], total["here"]) == (0, 2, 2, {})


def test_a_name_that_looks_numbered_is_still_one_entry(watcher, queue, audit):
    for _ in range(3):
        put(queue, "X~1.pck")
        sweep(watcher, queue, "exit 65")
    status, total, lines = audit()
    assert (status, total["here"], lines) == (0, {"dead": 3}, [])
    watcher("requeue", queue, "ALL")
    sweep(watcher, queue, "true")
    status, total, _ = audit()
    assert (status, total["seen"], total["done"], total["here"]) == (0, 3, 3, {})


def test_a_name_that_was_cut_for_its_stamp_is_still_one_entry(watcher, queue, audit):
    put(queue, "x" * 246 + ".pck")
    sweep(watcher, queue, "exit 75")
    watcher("requeue", queue, "ALL")
    sweep(watcher, queue, "true")
    status, total, _ = audit()
    assert (status, total["seen"], total["done"], total["here"]) == (0, 1, 1, {})


def test_a_namesake_stands_for_no_entry_but_itself(watcher, queue, audit):
    put(queue, "X.pck")
    sweep(watcher, queue, "exit 65")
    put(queue, "X.pck")
    watcher("hold", queue, "X")
    (queue / ".watcher/dead/X.pck").unlink()
    status, total, (line,) = audit()
    assert (status, line["missing"], line["move"]) == (65, "X", "reject")
    assert (total["seen"], total["here"]) == (2, {"held": 1})


def test_a_namesake_that_was_not_seen_yet_stands_for_no_entry(watcher, queue, audit):
    put(queue, "X.pck")
    sweep(watcher, queue, "exit 65")
    put(queue, "X.pck")
    (queue / ".watcher/dead/X.pck").unlink()
    status, total, (line,) = audit()
    assert (status, line["missing"], total["waiting"], total["here"]) == (65, "X", 1, {})


def test_metadata_do_not_stand_for_the_message_that_a_stranger_took(watcher, queue, audit):
    put(queue, "X.db", b"{0")
    put(queue, "X.msg", b"message")
    sweep(watcher, queue, "exit 65", "--legacy")
    (queue / ".watcher/dead/X.msg").unlink()
    status, _, (line,) = audit("--legacy")
    assert (status, line["missing"]) == (65, "X")


def test_in_the_raw_format_a_db_is_an_entry_like_any_other(watcher, queue, audit):
    raw = ("--format", "raw", "--suffix", ".db")
    put(queue, "X.db", b"an entry")
    put(queue, "Y.db", b"an entry")
    sweep(watcher, queue, "exit 65", *raw)
    watcher("requeue", queue, "X.db", *raw)
    put(queue, "new.db", b"an entry")
    status, total, lines = audit(*raw)
    assert (status, total["seen"], total["waiting"], lines) == (0, 2, 1, [])
    assert total["here"] == {"dead": 1, "in the queue": 1}
    (queue / "X.db").unlink()
    status, _, (line,) = audit(*raw)
    assert (status, line["missing"], line["move"]) == (65, "X.db", "requeue")


def test_a_name_that_looks_like_a_stamp_is_still_one_entry(watcher, queue, audit):
    put(queue, "20261123T105313.250Z-a3-c0-d30-w95.5-X.pck")
    sweep(watcher, queue, "exit 75")
    watcher("hold", queue, "ALL")
    status, total, lines = audit()
    assert (status, total["seen"], total["here"], lines) == (0, 1, {"held": 1}, [])
    watcher("release", queue, "ALL")
    watcher("requeue", queue, "ALL")
    sweep(watcher, queue, "true")
    status, total, _ = audit()
    assert (status, total["seen"], total["done"], total["here"]) == (0, 1, 1, {})


def test_only_what_may_be_an_entry_is_said_to_wait(watcher, queue, audit):
    put(queue, "X.pck")
    sweep(watcher, queue, "true")
    put(queue, "Y.pck")
    put(queue, "README", b"not an entry")
    (queue / "directory.pck").mkdir()
    (queue / "link.pck").symlink_to("Y.pck")
    os.mkfifo(queue / "fifo.pck")
    status, total, _ = audit()
    assert (status, total["waiting"]) == (0, 1)


def test_a_file_that_was_put_there_by_hand_is_reported_as_unknown(watcher, queue, audit):
    put(queue, "X.pck")
    sweep(watcher, queue, "true")
    (queue / ".watcher/dead").mkdir(mode=0o700)
    (queue / ".watcher/dead/Y.pck").write_bytes(WHOLE)
    status, _, (line,) = audit()
    assert (status, line) == (0, {"unknown": "Y.pck", "place": "dead"})


def test_a_copied_spool_is_known_by_its_names(watcher, queue, audit, tmp_path):
    for name, status in (("X.pck", 65), ("X.pck", 65), ("y" * 247 + ".pck", 75)):
        put(queue, name)
        sweep(watcher, queue, f"exit {status}")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(queue), str(copy)], check=True)
    ended = watcher("audit", copy, "--json", check=False)
    (total,) = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (ended.returncode, total["seen"], total["here"]) == (0, 3, {"dead": 2, "deferred": 1})


def test_a_large_copy_is_looked_through_once(queue, monkeypatch):
    """No search for one name reads all of them."""
    dead = queue / ".watcher/dead"
    dead.mkdir(parents=True)
    for number in range(200):
        (dead / f"{number}.pck").touch()
    journal = [
        f"1.000000 1 claimed reject {10**12 + number} {number}.pck\n" for number in range(200)
    ]
    (queue / ".watcher/journal").write_text("".join(journal))
    asked = []
    stem = Audit.stem
    monkeypatch.setattr(Audit, "stem", lambda rules, name: asked.append(name) or stem(rules, name))
    found = balance(Spool(os.fsencode(queue), Layout()))
    assert (found.balanced, found.here, found.unknown) == (True, {"dead": 200}, [])
    assert len(asked) < 10 * 200


def test_an_audit_of_a_directory_without_state_is_an_error(watcher, queue):
    assert watcher("audit", queue, check=False).returncode == os.EX_NOINPUT


@pytest.fixture
def text_of(watcher):
    """Return the exit status of an audit of a directory, and what it says."""

    def run(queue, *options):
        ended = watcher("audit", queue, *options, check=False)
        assert "Traceback" not in ended.stderr
        return ended.returncode, ended.stdout + ended.stderr

    return run


def test_a_new_file_that_gets_the_number_of_one_that_was_lost_does_not_stand_for_it(
    watcher, queue, audit
):
    raw = ("--format", "raw", "--suffix", ".csv")
    for _ in range(9):
        put(queue, "report.csv", b"monday")
        sweep(watcher, queue, "grep -q monday && exit 75; exit 0", *raw)
        (lost,) = (queue / ".watcher/deferred").glob("*.csv")
        inode = lost.stat().st_ino
        lost.unlink()
        put(queue, "report.csv", b"tuesday")
        if (queue / "report.csv").stat().st_ino == inode:
            break
        (queue / "report.csv").unlink()
    else:
        pytest.skip("this file system does not use numbers again")
    assert audit(*raw)[0] == 65
    sweep(watcher, queue, "true", *raw)
    status, total, lines = audit(*raw)
    assert (status, lines[-1]["missing"], total["done"]) == (65, "report.csv", 1)


def test_a_copy_works_like_the_original_and_a_loss_in_it_is_named(
    watcher, queue, tmp_path, text_of
):
    for name, status in (("X", 65), ("Y", 65), ("Z", 75), ("lost", 65)):
        put(queue, f"{name}.pck")
        sweep(watcher, queue, f"exit {status}")
    put(queue, "H.pck")
    watcher("hold", queue, "H")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(queue), str(copy)], check=True)
    status, said = text_of(copy)
    assert (status, "5 entries were known by place and name only" in said) == (0, True)
    watcher("requeue", copy, "X", "Z")
    watcher("release", copy, "H")
    status, said = text_of(copy)
    assert (status, "copied or moved to here" in said) == (0, True)
    put(copy, "new.pck")
    sweep(watcher, copy, "true")
    assert text_of(copy)[0] == 0
    (copy / ".watcher/dead/lost.pck").unlink()
    status, said = text_of(copy)
    assert (status, "missing: lost: last seen" in said) == (65, True)
    assert text_of(queue)[0] == 0


def test_a_copy_in_which_a_file_is_missing_does_not_balance(watcher, queue, tmp_path, text_of):
    for name in ("X", "Y"):
        put(queue, f"{name}.pck")
        sweep(watcher, queue, "exit 65")
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", str(queue), str(copy)], check=True)
    (copy / ".watcher/dead/X.pck").unlink()
    status, said = text_of(copy)
    assert (status, "missing: X: last seen" in said) == (65, True)
    watcher("requeue", copy, "Y")
    sweep(watcher, copy, "true")
    assert text_of(copy)[0] == 65


def test_a_line_that_was_cut_short_costs_itself_only(watcher, queue, text_of):
    put(queue, "X.pck")
    sweep(watcher, queue, "exit 65")
    put(queue, "Y.pck")
    sweep(watcher, queue, "true")
    journal = queue / ".watcher/journal"
    os.truncate(journal, journal.stat().st_size - 3)
    watcher("delete", queue, "X", "--yes")
    status, said = text_of(queue)
    assert (status, "1 lines cannot be read" in said) == (0, True)


def test_where_no_journal_is_kept_nothing_is_proved(watcher, queue, text_of):
    put(queue, "X.pck")
    sweep(watcher, queue, "exit 65", "--no-journal")
    status, said = text_of(queue)
    assert (status, "no journal in .watcher/" in said) == (os.EX_NOINPUT, True)


def test_a_daemon_counts_a_million_renames_in_and_out_and_keeps_its_history(
    watcher, queue, start_daemon, recorder, text_of, eventually
):
    raw = ("--format", "raw")
    daemon = start_daemon(queue, *raw, handler=recorder.argv())
    put(queue, "first", b"x")
    daemon.wait_for("finish", entry="first")
    outside = queue / ".out"
    outside.write_bytes(b"x")
    for number in range(3_000):
        inside = queue / f"in{number % 5}"
        outside.rename(inside)
        if not inside.exists():  # the daemon was quicker, once in a while
            outside.write_bytes(b"x")
        else:
            try:
                inside.rename(outside)
            except FileNotFoundError:
                outside.write_bytes(b"x")
    eventually(lambda: b" first" in (queue / ".watcher/journal").read_bytes())
    assert daemon.end() == 0
    vanished = (queue / ".watcher/journal").read_bytes().count(b" vanish 0 ")
    assert vanished <= 5 * 8 * 2
