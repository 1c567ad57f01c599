"""With `settle`, a file that is written in place is handled whole, once, and soon."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time

import pytest

SETTLE = 2.0
PAUSE = 0.3  # seconds between two openings: far less than `settle`, on a busy machine too
OPTIONS = ("--format", "raw", "--grace-age", "10m", "--sweep-every", "10m", "--settle", "2s")

pytestmark = [pytest.mark.promise1, pytest.mark.promise4]


def scanner(path):
    """Add a page, close the file, and open it again for the next one."""
    for page in range(4):
        with open(path, "ab") as file:
            file.write(b"page %d\n" % page)
        time.sleep(PAUSE)


def smb_copy(path):
    """Close the file twice: once when it is whole, and once more after a pause."""
    with open(path, "wb") as file:
        file.write(b"all of it\n" * 1000)
    time.sleep(PAUSE)
    with open(path, "ab"):
        pass


def slow_copy(path):
    """Keep the file open for longer than `settle`, and write to it now and then."""
    with open(path, "wb", buffering=0) as file:
        for _ in range(4):
            file.write(b"some\n")
            time.sleep(SETTLE / 3)


def ftp_store(path):
    """Set the file's time after the store, as MFMT does."""
    with open(path, "wb") as file:
        file.write(b"stored\n")
    time.sleep(SETTLE / 2)
    os.utime(path, (1, 1))


def quick_copy(path):
    path.write_bytes(b"in one go\n")


WRITERS = [scanner, smb_copy, slow_copy, ftp_store, quick_copy]


def test_each_writer_in_place_is_waited_for_and_handled_once(queue, start_daemon, recorder):
    daemon = start_daemon(queue, *OPTIONS, handler=recorder.argv())
    ended, wanted = {}, {}

    def write(writer):
        path = queue / writer.__name__
        writer(path)
        ended[path.name] = time.time()
        wanted[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in WRITERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = daemon.wait_for("finish", len(WRITERS))
    assert {call["entry"]: call["sha256"] for call in recorder.calls} == wanted
    assert len(recorder.calls) == len(WRITERS)
    for record in done:
        own = PAUSE if record["entry"] == "scanner" else 0.0  # its last pause is after its close
        assert record["time"] - ended[record["entry"]] > SETTLE - own - 0.1, record
    assert not daemon.events("waits")


def test_a_start_and_a_reload_judge_what_lies_there_by_settle(
    queue, start_daemon, recorder, tmp_path
):
    def configure(settle):
        (tmp_path / "watcher.toml").write_text(
            f'[queues.q]\npath = "{queue}"\nformat = "raw"\ngrace_age = "10m"\n'
            f'sweep_every = "10m"\nsettle = "{settle}"\n'
            f"handler = {{ exec = {recorder.argv()!r} }}\n"
        )

    configure("9m")
    with open(queue / "old.csv", "wb", buffering=0) as file:
        file.write(b"one ")
        time.sleep(0.05)  # two ticks of the clock: it was not written in one go
        file.write(b"two")
    daemon = start_daemon(None, "--config", str(tmp_path / "watcher.toml"))
    (queue / "new.csv").write_bytes(b"data")
    (queue / ".tmp").write_bytes(b"renamed")
    (queue / ".tmp").rename(queue / "renamed.csv")
    daemon.wait_for("finish", entry="renamed.csv")
    configure("1s")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("finish", 3)
    assert {call["entry"] for call in recorder.calls} == {"old.csv", "new.csv", "renamed.csv"}


def test_a_file_that_is_gone_when_its_time_comes_is_no_loss(queue, start_daemon, recorder):
    daemon = start_daemon(queue, *OPTIONS[:-1], "500ms", handler=recorder.argv())
    (queue / "scratch").write_bytes(b"data")
    (queue / "scratch").unlink()
    (queue / "whole").write_bytes(b"data")
    daemon.wait_for("finish")
    assert daemon.end() == 0
    journal = b"".join(path.read_bytes() for path in (queue / ".watcher").glob("journal*"))
    assert b" finish " in journal
    assert b" vanish " not in journal


def test_a_sweep_by_hand_and_explain_go_by_settle(queue, run):
    (queue / "a.csv").write_bytes(b"data")
    said = run("explain", str(queue / "a.csv"), "--format", "raw", "--settle", "9m")
    assert "settle" in said
    assert "closed or changed a moment ago" in said
    sweep = ("sweep", str(queue), "--format", "raw", "--settle")
    assert "not old enough" in run(*sweep, "9m", "--", "true")
    assert (queue / "a.csv").exists()
    run(*sweep, "1ms", "--", "true")
    assert not (queue / "a.csv").exists()


def test_a_file_that_was_written_to_in_hand_waits_again_as_one_written_in_place(
    queue, start_daemon, recorder
):
    daemon = start_daemon(queue, *OPTIONS[:-1], "9m", handler=recorder.argv(gated=True))
    (queue / ".a.csv").write_bytes(b"one\n")
    (queue / ".a.csv").rename(queue / "a.csv")
    daemon.wait(lambda: recorder.calls)
    with open(queue / "a.csv", "ab") as file:
        file.write(b"two\n")
    recorder.open_gate()
    daemon.wait_for("release")
    (queue / ".b.csv").write_bytes(b"later\n")
    (queue / ".b.csv").rename(queue / "b.csv")
    daemon.wait(lambda: len(recorder.calls) > 1)
    recorder.open_gate()
    daemon.wait_for("finish", entry="b.csv")
    assert [call["entry"] for call in recorder.calls] == ["a.csv", "b.csv"]
    assert (queue / "a.csv").read_bytes() == b"one\ntwo\n"
