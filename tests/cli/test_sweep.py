"""`watcher sweep`: its lines, its limits, its exit codes, its signals."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import signal
import subprocess

import pytest

from tests.command_server import run_command

WHOLE = pickle.dumps(b"message", 2) + pickle.dumps({}, 2)


def put(queue, name, data=WHOLE):
    (queue / "scratch.tmp").write_bytes(data)
    (queue / "scratch.tmp").rename(queue / name)


def waiting(queue):
    return sorted(path.name for path in queue.iterdir() if path.is_file())


@pytest.fixture
def argv(queue, watcher_command):
    """The command line of a sweep that finds everything old enough."""
    return [*watcher_command, "sweep", str(queue), "--grace-age", "0s"]


@pytest.fixture
def sweep(argv, environment):
    """Run a sweep to its end."""

    def run(*arguments, handler=("true",)):
        return run_command(
            [*argv, *arguments, *(["--", *handler] if handler else [])],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def objects(ended):
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_without_entries_there_is_nothing_to_do(sweep):
    ended = sweep()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("0 entries found in ")


def test_one_entry_is_one_entry(queue, sweep):
    put(queue, "1.pck")
    assert "\n1 entry found in " in sweep("--dry-run").stdout.replace("dry run: ", "")


def test_json_is_one_object_an_entry_and_a_summary(queue, sweep):
    put(queue, "1.pck")
    put(queue, "2\n\x1b[31m.pck")
    put(queue, "3.pck", b"damaged")
    (queue / "x.pck.tmp").touch()
    (queue / "stray.txt").touch()
    ended = sweep("--json")
    *lines, last = objects(ended)
    assert ended.returncode == 0
    assert lines[:2] == [
        {"entry": "1", "file": "1.pck", "result": "done", "why": ""},
        {
            "entry": "2\\n\\x1b[31m",
            "file": "2\\n\\x1b[31m.pck",
            "result": "done",
            "why": "",
        },
    ]
    assert lines[2].pop("why")
    assert lines[2] == {"entry": "3", "file": "3.pck", "result": "rejected"}
    assert last.pop("seconds") >= 0
    assert last == {
        "summary": {"done": 2, "rejected": 1},
        "found": 3,
        "left_alone": {"being written": 1, "foreign": 1},
        "waiting": 0,
        "complete": True,
    }


def test_what_a_handler_prints_is_not_among_the_objects(queue, sweep):
    put(queue, "1.pck")
    ended = sweep("--json", handler=["sh", "-c", "echo said; echo wrong >&2"])
    assert [record.get("result") for record in objects(ended)] == ["done", None]
    assert ended.stderr == "said\n"


def test_what_a_python_handler_prints_is_not_among_the_objects(queue, tmp_path, sweep, environment):
    put(queue, "1.pck")
    (tmp_path / "prints.py").write_text("def handle(entry): print('said')\n")
    environment["PYTHONPATH"] = str(tmp_path)
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ python = "prints:handle" }}\n'
    )
    ended = sweep("--json", "--config", str(tmp_path / "w.toml"), handler=())
    assert [record.get("result") for record in objects(ended)] == ["done", None]
    assert ended.stderr == "said\n"


def test_a_dry_run_says_what_would_be_and_changes_nothing(queue, sweep):
    put(queue, "1.pck")
    put(queue, "2.pck", b"damaged")
    before = [(path.name, path.stat().st_ctime_ns) for path in sorted(queue.iterdir())]
    ended = sweep("--dry-run", handler=())
    assert ended.returncode == 0
    assert "1  would go to the handler" in ended.stdout
    assert "2  would move to dead/" in ended.stdout
    assert [(path.name, path.stat().st_ctime_ns) for path in sorted(queue.iterdir())] == before


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 65"], 0),
        (["sh", "-c", "exit 75"], 75),
        (["sh", "-c", "exit 1"], 75),
        (["sh", "-c", "kill -9 $$"], 75),
        (["sh", "-c", "exit 78"], 78),
        (["sh", "-c", "exit 127"], 78),
        (["/no/such/program"], 78),
    ],
)
def test_the_exit_code_says_how_it_went(queue, sweep, handler, code):
    put(queue, "1.pck")
    assert sweep(handler=handler).returncode == code
    assert waiting(queue) == (["1.pck"] if code == 78 else [])
    deferred = sorted(os.listdir(queue / ".watcher/deferred")) if code == 75 else []
    assert [name.rpartition("-")[2] for name in deferred] == (
        ["1.json", "1.pck"] if code == 75 else []
    )


@pytest.mark.parametrize(
    ("arguments", "handler", "code"),
    [
        ((), (), 64),
        (("--max-time", "soon"), ("true",), 64),
        (("--max-entries", "-1"), ("true",), 64),
        (("--max-entries", "x"), ("true",), 64),
        (("--bogus",), ("true",), 64),
        (("--grace-age", "soon"), ("true",), 64),
        (("--suffix", ".csv"), ("true",), 64),
        (("--legacy", "--format", "raw"), ("true",), 64),
        (("--config", "/no/such/file"), ("true",), 78),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_touches_nothing(
    queue, sweep, arguments, handler, code
):
    put(queue, "1.pck")
    ended = sweep(*arguments, handler=handler)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert len(ended.stderr.splitlines()) == 1
    assert waiting(queue) == ["1.pck"]


def test_no_such_directory_is_66(queue, sweep):
    queue.rmdir()
    ended = sweep()
    assert ended.returncode == 66
    assert len(ended.stderr.splitlines()) == 1


def test_max_entries_ends_it_after_so_many_oldest_first(queue, sweep):
    for number in range(5):
        put(queue, f"{number}.pck")
    ended = sweep("--max-entries", "2", "--json")
    assert [record.get("entry") for record in objects(ended)] == ["0", "1", None]
    assert objects(ended)[-1]["complete"] is False
    assert waiting(queue) == ["2.pck", "3.pck", "4.pck"]
    assert objects(sweep("--max-entries", "0", "--json"))[-1]["summary"] == {}
    assert objects(sweep("--max-entries", "3", "--json"))[-1]["complete"] is True
    assert waiting(queue) == []


def test_max_time_begins_no_entry_later(queue, sweep):
    for number in range(3):
        put(queue, f"{number}.pck")
    ended = sweep("--max-time", "0s", "--json")
    assert objects(ended)[-1]["summary"] == {}
    assert objects(ended)[-1]["complete"] is False
    ended = sweep("--max-time", "200ms", "--json", handler=["sleep", "0.4"])
    assert objects(ended)[-1]["summary"] == {"done": 1}
    assert waiting(queue) == ["1.pck", "2.pck"]
    assert "ended early; the rest is as it was" in sweep("--max-time", "0s").stdout
    assert objects(sweep("--max-time", "1h", "--json"))[-1]["complete"] is True


def test_an_operators_mistake_ends_it_after_a_few_entries(queue, sweep):
    names = [f"{number}.pck" for number in range(5)]
    for name in names:
        put(queue, name)
    ended = sweep("--json", handler=["sh", "-c", "exit 126"])
    assert objects(ended)[-1]["summary"] == {"misconfigured": 3}
    assert objects(ended)[-1]["complete"] is False
    assert waiting(queue) == names


@pytest.mark.parametrize("bad", [["0"], ["2"], ["4"], ["0", "1"]])
def test_an_entry_that_alone_makes_the_handler_look_broken_is_its_own_failure(queue, sweep, bad):
    names = [str(number) for number in range(5)]
    for name in names:
        put(queue, f"{name}.pck")
    pattern = "|".join(bad)
    ended = sweep(
        "--json", handler=["sh", "-c", f"case $WATCHER_ENTRY in {pattern}) exit 127; esac"]
    )
    few = {"done": 5 - len(bad)}
    assert ended.returncode in (75, 78)
    if bad == ["4"]:  # the last: nothing after it tells its fault from the handler's
        assert objects(ended)[-1]["summary"] == few | {"misconfigured": 1}
        assert waiting(queue) == ["4.pck"]
        return
    assert objects(ended)[-1]["summary"] == few | {"deferred": len(bad)}
    assert waiting(queue) == []


def test_what_was_deferred_is_swept_when_it_is_due(queue, sweep, tmp_path):
    put(queue, "1.pck")
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = ["true"] }}\n'
        'retry = { initial = "1h" }\n'
    )
    configured = ("--config", str(tmp_path / "w.toml"))
    assert sweep(*configured, handler=["sh", "-c", "exit 75"]).returncode == 75
    ended = sweep(*configured)
    assert (ended.returncode, "1 deferred, not due yet" in ended.stdout) == (0, True)
    (name,) = (path for path in (queue / ".watcher/deferred").glob("*.pck"))
    past = "20200101T000000.000Z" + name.name[20:]
    name.rename(name.with_name(past))
    ended = sweep("--json", *configured)
    assert objects(ended)[0]["entry"] == "1"
    assert objects(ended)[-1]["summary"] == {"done": 1}
    assert list((queue / ".watcher/deferred").glob("*.pck")) == []


@pytest.fixture
def sweep_all(watcher_command, environment, tmp_path):
    """Sweep the queues of a configuration: `a` is there, `gone` is not, `b` has a bad handler."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(2):
            put(tmp_path / name, f"{number}.pck")
    file = tmp_path / "w.toml"
    file.write_text(
        "".join(
            f"[queues.{name}]\npath = '{name}'\ngrace_age = '0s'\n"
            f"handler = {{ exec = ['{command}'] }}\n"
            for name, command in [("gone", "true"), ("a", "true"), ("b", "no-such-command")]
        )
    )

    def run(*arguments):
        return run_command(
            [*watcher_command, "sweep", "--config", str(file), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_with_no_directory_every_queue_of_the_configuration_is_swept(sweep_all, tmp_path):
    ended = sweep_all("--json")
    gone, broken = ended.stderr.splitlines()
    assert "gone: the queue directory does not exist" in gone
    assert "queues.b.handler.exec: expected a command that can be run" in broken
    assert ended.returncode == os.EX_CONFIG, "the highest"
    *lines, last = objects(ended)
    assert [(line["queue"], line["entry"]) for line in lines] == [("a", "0"), ("a", "1")]
    assert (last["queue"], last["summary"]) == ("a", {"done": 2})
    assert (waiting(tmp_path / "a"), waiting(tmp_path / "b")) == ([], ["0.pck", "1.pck"])


def test_the_limits_of_a_sweep_are_those_of_all_its_queues(sweep_all):
    ended = sweep_all("--dry-run", "--max-entries", "3")
    assert ended.returncode == os.EX_NOINPUT
    assert [line for line in ended.stdout.splitlines() if line.endswith(":")] == ["a:", "b:"]
    assert ended.stdout.count("would go to the handler:") == 3
    assert "ended early" in ended.stdout


def test_a_sweep_needs_a_directory_or_a_configuration(watcher_command, environment):
    for arguments, words in [
        ([], "name a queue directory, or a configuration"),
        (["--config", "w.toml", "--legacy"], "--legacy: only with one QUEUE_DIR"),
    ]:
        ended = run_command(
            [*watcher_command, "sweep", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == os.EX_USAGE
        assert words in ended.stderr


def test_a_reason_cannot_do_anything_to_the_terminal(queue, sweep):
    put(queue, "1.pck")
    ended = sweep(handler=["sh", "-c", "printf '\\033[2J\\033]0;x\\007' >&2; exit 75"])
    assert "\x1b" not in ended.stdout
    assert "exit status 75: \\x1b[2J" in ended.stdout


@pytest.mark.parametrize("style", [(), ("--json",)], ids=["text", "json"])
def test_a_reader_that_leaves_ends_it_without_a_word(queue, argv, environment, style):
    for number in range(50):
        put(queue, f"{number:02}.pck")
    process = subprocess.Popen(
        [*argv, *style, "--", "true"],
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (0, b"")
    assert 0 < len(waiting(queue)) < 50


# -- signals ----------------------------------------------------------------------------------


@pytest.fixture
def started(queue, argv, environment, recorder, eventually):
    """Start a sweep over three entries; it is at the first one's handler, which waits."""
    for number in range(3):
        put(queue, f"{number}.pck")
    process = subprocess.Popen(
        [*argv, "--json", "--", *recorder.argv(gated=True)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: recorder.calls)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_entry_in_hand(queue, started, recorder, number):
    started.send_signal(number)
    recorder.open_gate()
    out, err = started.communicate(timeout=60)
    assert (started.returncode, err) == (0, "")
    *lines, last = map(json.loads, out.splitlines())
    assert [line["result"] for line in lines] == ["done"]
    assert last["complete"] is False
    assert waiting(queue) == ["1.pck", "2.pck"]


def test_a_second_signal_ends_it_at_once_and_the_handler_with_it(
    queue, started, recorder, eventually
):
    (handler,) = map(int, children(started.pid))
    started.send_signal(signal.SIGTERM)
    started.send_signal(signal.SIGINT)
    _out, err = started.communicate(timeout=60)
    assert started.returncode == os.EX_TEMPFAIL
    assert "stopped at once" in err
    eventually(lambda: not os.path.exists(f"/proc/{handler}") or zombie(handler))
    assert waiting(queue) == ["0.pck", "1.pck", "2.pck"]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def zombie(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_ctrl_c_does_not_go_on_with_the_next_entry_of_a_python_handler(
    queue, tmp_path, argv, environment, eventually
):
    """An interrupt inside the function is not one more exception that retries."""
    for number in range(3):
        put(queue, f"{number}.pck")
    (tmp_path / "slow.py").write_text(
        "import os, time\n"
        f"def handle(entry):\n    open({str(tmp_path / 'began')!r}, 'a').write(entry.name)\n"
        f"    while not os.path.exists({str(tmp_path / 'go')!r}):\n        time.sleep(0.01)\n"
    )
    environment["PYTHONPATH"] = str(tmp_path)
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ python = "slow:handle" }}\n'
    )
    process = subprocess.Popen(
        [*argv, "--config", str(tmp_path / "w.toml")], env=environment, stdout=subprocess.DEVNULL
    )
    eventually((tmp_path / "began").exists)
    process.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    assert process.wait(60) == 0
    assert (tmp_path / "began").read_text() == "0"
    assert waiting(queue) == ["1.pck", "2.pck"]


def test_of_an_entry_that_another_process_has_locked_the_process_is_named(queue, sweep):
    put(queue, "X.pck")
    with open(queue / "X.pck", "rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_SH)
        found = sweep()
    assert f"left: claimed by another: process {os.getpid()}" in found.stdout


@pytest.mark.parametrize(
    ("there", "missing"), [("1.0+ab.msg", "1.0+ab.db is missing"), ("1.0+ab.db", "its message is")]
)
def test_an_incomplete_pair_says_which_of_its_files_is_missing(queue, sweep, there, missing):
    (queue / there).write_bytes(b"x")
    assert missing in sweep("--legacy").stdout
    (note,) = (queue / ".watcher/orphans").glob("*.json")
    assert missing in json.loads(note.read_text())["why"]
