"""What a handler prints: in the log with its entry, whole in the note, and no word of a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from watcher.commit_one import enqueue

PRINTS = """
import os, sys
attempt = os.environ["WATCHER_ATTEMPT"]
sys.stdout.write(f"out {attempt}\\n")
for number in range(1000):
    print(f"line {number}", "x" * 40, file=sys.stderr)
os.write(2, b"\\x1b[31m\\xff")
sys.exit(75 if attempt == "1" else 0)
"""


def config(tmp_path, queue, handler):
    path = tmp_path / "w.toml"
    path.write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = {json.dumps(handler)} }}\n'
        'retry = { initial = "500ms" }\ngrace_age = "1s"\n'
    )
    return ["--config", str(path)]


def test_what_a_handler_prints_is_logged_with_its_entry_and_whole_in_the_note(
    queue, tmp_path, start_daemon
):
    handler = [sys.executable, "-I", "-S", "-c", PRINTS]
    daemon = start_daemon(None, *config(tmp_path, queue, handler), "--log-level", "debug")
    name = enqueue(str(queue), b"x")
    (failed,) = daemon.wait_for("defer", entry=name)
    (note,) = daemon.wait(lambda: list((queue / ".watcher/deferred").glob("*.json")))
    kept = json.loads(note.read_text())["stderr"].splitlines()
    assert kept[0] == "line 0 " + "x" * 40
    assert kept[-1] == "\x1b[31m\\xff"
    assert len(kept) == 1001
    (handled,) = daemon.wait_for("finish", entry=name)
    assert daemon.end() == 0
    output = daemon.events("output", entry=name, queue="q")
    for attempt, level in ((1, "info"), (2, "debug")):
        own = [each for each in output if each["attempt"] == attempt]
        levels = {(each["stream"], each["level"]) for each in own}
        assert levels == {("stdout", "info"), ("stderr", level)}
        assert [each["detail"] for each in own if each["stream"] == "stdout"] == [f"out {attempt}"]
        errors = [each["detail"] for each in own if each["stream"] == "stderr"]
        assert errors[0] == "(901 earlier lines are left out)"
        assert errors[-1] == r"\x1b[31m\xff"
        assert len(errors) == 101
    assert (handled["attempt"], handled["settle"] >= 0) == (2, True)
    parts = [handled[part] for part in ("earlier", "wait", "seconds", "settle")]
    assert abs(sum(parts) - handled["delay"]) < 1e-4
    assert handled["earlier"] >= 0.5
    assert failed["earlier"] == 0
    assert handled["process"] != failed["process"]
    assert daemon.stray == []


def test_no_part_of_a_message_is_in_the_log(queue, tmp_path, watcher_command, environment):
    """Subject, body, sender and metadata: with each level, of entries that end in every way."""
    secret = "sesame"
    message = f"From: {secret}@x\nSubject: {secret}\n\n{secret}\n".encode()
    mark = tmp_path / "tried"
    retry = f"test -e {mark} && exit 0; : > {mark}; exit 75"
    argv = [*watcher_command, "run", *config(tmp_path, queue, ["sh", "-c", retry])]
    enqueue(str(queue), message, {"listname": secret, secret: "x"})
    (queue / "1017783548.1+ab.pck").write_bytes(secret.encode())
    daemon = subprocess.Popen(
        [*argv, "--log-level", "debug"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines, ended = [], 0
    with daemon:
        for line in daemon.stderr:
            lines.append(line)
            if " handled in " in line or "moved to dead/" in line:
                ended += 1
                if ended == 2:  # both entries
                    daemon.terminate()
        assert daemon.wait() == 0
    log = "".join(lines)
    assert secret not in log
    assert "failed, next try" in log
    assert "moved to dead/" in log
    assert os.listdir(queue / ".watcher/dead")


FUNCTION = """
import os, subprocess, sys

def handle(entry):
    print("printed")
    print("an error", file=sys.stderr)
    os.write(1, b"without an end")
    os.write(1, b"\\nx\\xff\\n")
    subprocess.run(["sh", "-c", "echo from a child; echo and its errors >&2"])
"""


@pytest.mark.parametrize("isolate", ["false", "true"])
def test_nothing_but_json_is_on_either_stream_of_a_json_log(
    queue, tmp_path, watcher_command, environment, isolate
):
    (tmp_path / "printing.py").write_text(FUNCTION)
    path = tmp_path / "w.toml"
    path.write_text(
        f'[queues.q]\npath = "{queue}"\n'
        f'handler = {{ python = "printing:handle", isolate = {isolate} }}\n'
    )
    name = enqueue(str(queue), b"x")
    daemon = subprocess.Popen(
        [*watcher_command, "run", "--config", str(path), "--log-format", "json"],
        env=environment | {"PYTHONPATH": f"{tmp_path}:{environment.get('PYTHONPATH', '')}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    records = []
    with daemon:
        for line in daemon.stderr:
            records.append(json.loads(line))
            if records[-1]["event"] == "finish":
                assert records[-1]["entry"] == name
                daemon.terminate()
        assert daemon.stdout.read() == b""
    assert daemon.returncode == 0
    printed = {record["detail"] for record in records if record["event"] == "output"}
    assert {"printed", "without an end", "x\\xff", "from a child"} <= printed
    assert isolate == "true" or {"an error", "and its errors"} <= printed


def test_a_mistake_at_the_start_is_an_event_of_a_json_log(tmp_path, watcher_command, environment):
    ended = subprocess.run(
        [*watcher_command, "run", str(tmp_path / "none"), "--log-format", "json", "--", "true"],
        env=environment,
        capture_output=True,
    )
    assert (ended.returncode, ended.stdout) == (os.EX_NOINPUT, b"")
    record = json.loads(ended.stderr)
    assert (record["event"], record["level"]) == ("failed", "error")
    assert record["detail"].endswith("does not exist; make it first: mkdir -p")
