"""Writers that the raw format has to do with: what is handled is whole, once, and not lost."""

from __future__ import annotations

import hashlib
import os
import signal

import pytest

RAW = ["--format", "raw", "--suffix", ".csv"]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def renamed_in(queue, name="a.csv", data=b"first"):
    (queue / "a.tmp").write_bytes(data)
    (queue / "a.tmp").rename(queue / name)
    return queue / name


def test_a_file_renamed_in_while_its_writer_has_it_open_is_handled_whole_and_once(
    queue, start_daemon, recorder
):
    """logrotate's olddir, and `mv` of a download: long before the grace age, if it is closed."""
    options = [*RAW, "--grace-age", "1h", "--sweep-every", "1h"]
    daemon = start_daemon(queue, *options, handler=recorder.argv())
    with (queue / "app.log").open("wb", buffering=0) as writer:
        writer.write(b"half, ")
        (queue / "app.log").rename(queue / "app.csv")
        daemon.wait_for("left alone", detail="app.csv: a process has it open for writing")
        writer.write(b"and the other half")
    daemon.wait_for("finish")
    assert [call["sha256"] for call in recorder.calls] == [sha256(b"half, and the other half")]
    assert daemon.end() == 0


def test_what_is_appended_while_its_handler_is_at_work_is_handled_too(
    queue, start_daemon, recorder, eventually
):
    options = [*RAW, "--grace-age", "500ms", "--sweep-every", "1h"]
    daemon = start_daemon(queue, *options, handler=recorder.argv(gated=True))
    path = renamed_in(queue)
    eventually(lambda: recorder.calls)
    with path.open("ab", buffering=0) as writer:
        recorder.open_gate()
        daemon.wait_for("release")
        writer.write(b", and more")
    daemon.send(signal.SIGUSR2)
    recorder.open_gate()
    daemon.wait_for("finish")
    assert [call["sha256"] for call in recorder.calls] == [
        sha256(b"first"), sha256(b"first, and more")
    ]  # fmt: skip
    assert not path.exists()
    assert daemon.end() == 0


@pytest.mark.parametrize("again", [False, True])
def test_a_time_stamp_set_while_its_handler_is_at_work_is_no_rewrite_and_new_contents_are(
    queue, start_daemon, recorder, eventually, again
):
    """lftp sets the mtime after the rename; and a writer may set back the time of what it wrote."""
    options = [*RAW, "--grace-age", "500ms", "--sweep-every", "1h"]
    daemon = start_daemon(queue, *options, handler=recorder.argv(gated=True))
    path = renamed_in(queue)
    before = path.stat()
    eventually(lambda: recorder.calls)
    if again:
        path.write_bytes(b"FIRST")  # of the same size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(path, ns=(1, 1))
    recorder.open_gate()
    if again:
        daemon.wait_for("release")
        recorder.open_gate()
    daemon.wait_for("finish")
    expected = [sha256(b"first"), sha256(b"FIRST")]
    assert [call["sha256"] for call in recorder.calls] == expected[: 1 + again]
    assert not path.exists()
    assert daemon.end() == 0


@pytest.mark.parametrize("by", ["message", "path"])
@pytest.mark.parametrize("isolated", [False, True])
def test_a_time_stamp_set_while_a_function_is_at_work_is_no_rewrite_however_it_reads(
    tmp_path, start_daemon, environment, eventually, by, isolated
):
    queue, read, gate = tmp_path / "in", tmp_path / "read", tmp_path / "gate"
    queue.mkdir()
    reads = "entry.message" if by == "message" else "open(entry.path, 'rb').read()"
    (tmp_path / "taking.py").write_text(
        "import os, time\n"
        "def take(entry):\n"
        f"    data = {reads}\n"
        f"    with open({str(read)!r}, 'ab') as file: file.write(data)\n"
        f"    while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    )
    (tmp_path / "watcher.toml").write_text(
        f'[queues.in]\npath = "{queue}"\nformat = "raw"\nsuffix = ".csv"\n'
        f'handler = {{ python = "taking:take", isolate = {str(isolated).lower()} }}\n'
    )
    paths = [str(tmp_path), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    daemon = start_daemon(None, "--config", str(tmp_path / "watcher.toml"))
    path = renamed_in(queue)
    eventually(lambda: read.exists() and read.read_bytes() == b"first")
    os.utime(path, ns=(1, 1))
    gate.touch()
    daemon.wait_for("finish")
    assert (read.read_bytes(), path.exists()) == (b"first", False)
    assert daemon.end() == 0


def test_a_start_takes_what_was_renamed_in_and_waits_for_what_is_written_page_by_page(
    queue, start_daemon, recorder
):
    scan = queue / "scan.csv"
    scan.write_bytes(b"page 1")
    renamed_in(queue)
    os.utime(queue / "a.csv", ns=(1, 1))  # finished since it was written: for certain, not by luck
    options = [*RAW, "--grace-age", "4s", "--sweep-every", "1h"]
    daemon = start_daemon(queue, *options, handler=recorder.argv())
    daemon.wait_for("finish", entry="a.csv")
    with scan.open("ab") as writer:
        writer.write(b", page 2")
    written = scan.stat().st_ctime
    (record,) = daemon.wait_for("finish", entry="scan.csv")
    assert record["time"] >= written + 4.0
    assert recorder.calls[-1]["sha256"] == sha256(b"page 1, page 2")
    assert len(recorder.calls) == 2
    assert daemon.end() == 0


def test_where_every_writer_renames_a_start_takes_what_no_process_writes(
    queue, start_daemon, recorder
):
    (queue / "b.csv").write_bytes(b"young")
    options = [*RAW, "--grace-age", "1h", "--sweep-every", "1h", "--writers", "rename"]
    daemon = start_daemon(queue, *options, handler=recorder.argv())
    daemon.wait_for("finish", entry="b.csv")
    assert daemon.end() == 0
