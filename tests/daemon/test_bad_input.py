"""Bad names, odd files and hostile contents: none kills the daemon, stalls the rest, or is lost."""

from __future__ import annotations

import json
import os
import pickle
import random
import socket
import subprocess

import pytest

import writers
from tests.hostile_names import HOSTILE

LETTER = writers.message_for(1, 1)
SWEEPS = ("--sweep-every", "200ms", "--grace-age", "0s")


def rename_in(queue, name, data):
    scratch = os.path.join(os.fsencode(queue), b"scratch.tmp")
    with open(scratch, "wb") as file:
        file.write(data)
    os.rename(scratch, os.path.join(os.fsencode(queue), name))


def whole(message=b"m"):
    return pickle.dumps(message, 2) + pickle.dumps({}, 2)


NAMES = [
    *HOSTILE,
    b"; touch watcher-pwned; .pck",
    b"$(touch watcher-pwned).pck",
    b"sp ace\ttab.pck",
    "gr\u00fc\u00df \U0001f4ec.pck".encode(),
]


@pytest.mark.parametrize("how", ["event", "scan"])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_an_entry_of_any_name_is_handled(queue, start_daemon, recorder, name, how):
    if how == "scan":
        rename_in(queue, name, whole())
    daemon = start_daemon(queue, handler=recorder.argv())
    if how == "event":
        rename_in(queue, name, whole())
    daemon.wait_for("finish")
    assert daemon.end() == 0
    (call,) = recorder.calls
    assert os.fsencode(call["entry"]) == name[:-4]
    assert daemon.stray == []
    assert [path for path in queue.iterdir() if path.is_file()] == []


def test_odd_files_with_an_entrys_name_are_left_alone_and_stall_nothing(
    queue, tmp_path, start_daemon, recorder
):
    outside = tmp_path / "outside.txt"
    outside.write_bytes(whole(b"not yours"))
    (queue / "1.0+ab.pck").mkdir()
    os.mkfifo(queue / "1.1+ab.pck")
    (queue / "1.2+ab.pck").symlink_to(outside)
    (queue / "1.3+ab.pck").symlink_to(tmp_path / "nowhere")
    os.link(outside, queue / "1.4+ab.pck")
    (queue / "x.txt").write_text("stray")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(queue / "1.5+ab.pck"))
    if os.geteuid() == 0:
        os.mknod(queue / "1.6+ab.pck", 0o020600, os.makedev(1, 3))
    before = sorted(path.name for path in queue.iterdir())
    daemon = start_daemon(queue, *SWEEPS, handler=recorder.argv())
    os.rename(queue / "1.1+ab.pck", queue / "1.1b+ab.pck")  # as an event, too
    name = writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)
    daemon.wait_for("finish", entry=name)
    daemon.wait_for("left alone", len(before))
    assert daemon.end() == 0
    assert len(recorder.calls) == 1
    after = sorted(path.name for path in queue.iterdir() if path.name != ".watcher")
    assert after == sorted({*before, "1.1b+ab.pck"} - {"1.1+ab.pck"})
    assert outside.read_bytes() == whole(b"not yours")


HOSTILE = {
    "empty": b"",
    "truncated": whole()[:-3],
    "garbage": random.Random(1).randbytes(300),
    "trailing garbage": whole() + b"more",
    "runs a command": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x13touch watcher-pwned\x85R.",
    "protocol 0 command": b"cposix\nsystem\n(S'touch watcher-pwned'\ntR." + pickle.dumps({}, 2),
    "dotted name": b"\x80\x04\x8c\x08builtins\x8c\x0feval.__self__.os\x93.",
    "a terabyte": b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b"x.",
    "memo bomb": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "one pickle without its .db": pickle.dumps(b"half", 2),
    "nested": b"(" * 100_000 + b"l" * 100_000 + b".",
}


@pytest.mark.parametrize("legacy", [(), ("--legacy",)], ids=["plain", "legacy"])
def test_hostile_contents_are_set_aside_with_a_reason_and_nothing_runs(
    queue, tmp_path, start_daemon, recorder, legacy
):
    daemon = start_daemon(queue, *SWEEPS, *legacy, handler=recorder.argv())
    for number, data in enumerate(HOSTILE.values()):
        rename_in(queue, b"%d+ab.pck" % number, data)
    name = writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)
    daemon.wait_for("finish", entry=name)
    daemon.wait(lambda: len(daemon.events("reject") + daemon.events("abandon")) == len(HOSTILE))
    assert daemon.end() == 0
    assert len(recorder.calls) == 1
    kept = {}
    for state in ("dead", "orphans"):
        for path in (queue / ".watcher" / state).glob("*.pck"):
            kept[int(path.name.split("+")[0])] = path.read_bytes()
            note = json.loads(path.with_suffix(".json").read_text())
            assert note["why"]
    assert kept == dict(enumerate(HOSTILE.values()))
    for place in (queue, tmp_path, os.getcwd()):
        assert not os.path.exists(os.path.join(place, "watcher-pwned"))


def test_a_damaged_pair_is_set_aside_whole(queue, start_daemon, recorder):
    daemon = start_daemon(queue, *SWEEPS, "--legacy", handler=recorder.argv())
    (queue / "a.db").write_bytes(b"[" + b"\xff" * 4)
    (queue / "a.msg").write_bytes(b"Subject: x\n\n")
    (record,) = daemon.wait_for("reject", entry="a")
    assert record["detail"]
    assert daemon.end() == 0
    dead = queue / ".watcher" / "dead"
    assert sorted(path.name for path in dead.iterdir()) == ["a.db", "a.json", "a.msg"]
    assert (dead / "a.msg").read_bytes() == b"Subject: x\n\n"


def test_a_second_entry_of_a_dead_ones_name_overwrites_nothing(queue, start_daemon, recorder):
    daemon = start_daemon(queue, handler=recorder.argv(status=65))
    for number in range(3):
        rename_in(queue, b"same.pck", whole(b"%d" % number))
        daemon.wait_for("reject", number + 1)
    assert daemon.end() == 0
    dead = queue / ".watcher" / "dead"
    kept = sorted(path.read_bytes() for path in dead.glob("*.pck"))
    assert kept == [whole(b"0"), whole(b"1"), whole(b"2")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[queues.a]\npath = "{q}"\nhandler = {{ exec = ["true"] }}\ncolour = "red"\n', "colour"),
        (
            '[queues.a]\npath = "{q}"\nhandler = {{ exec = ["true"] }}\nconcurrency = "2"\n',
            "concurrency",
        ),
        ('[queues.a]\npath = "{q}"\n', "handler"),
        (
            '[queues.a]\npath = "{q}"\nhandler = {{ python = "no_such_module:f" }}\n',
            "no_such_module",
        ),
        (
            '[queues.a]\npath = "{q}"\nhandler = {{ exec = ["/no/such/command"] }}\n',
            "/no/such/command",
        ),
        ("[queues.a\n", "w.toml"),
    ],
)
def test_a_wrong_configuration_is_exit_78_and_one_line(
    tmp_path, queue, watcher_command, environment, text, expected
):
    file = tmp_path / "w.toml"
    file.write_text(text.format(q=queue))
    ended = subprocess.run(
        [*watcher_command, "run", "--config", str(file)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == os.EX_CONFIG
    (line,) = ended.stderr.splitlines()
    assert expected in line
    assert "w.toml" in line
