"""What an operator types at a machine with `watcher work`: status, list, pause, abort, check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nats")

from tests.command_server import run_command

HANDLER = """
import os, pathlib, sys, time
while pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
"""


@pytest.fixture
def place(tmp_path, server, init):
    """A configuration with one queue that hands over, one that does not, and one worker."""
    init(server)
    (tmp_path / "handler.py").write_text(HANDLER)
    argv = [sys.executable, str(tmp_path / "handler.py"), str(tmp_path / "hold")]
    (tmp_path / "in").mkdir()
    (tmp_path / "watcher.toml").write_text(
        f"""
[queues.in]
path = "{tmp_path}/in"
format = "raw"
handler = {{ nats = "{server.url}", stream = "MAIL" }}

[work.mail]
server = "{server.url}"
stream = "MAIL"
directory = "{tmp_path}/copies"
handler = {{ exec = {json.dumps(argv)} }}
"""
    )
    return tmp_path


@pytest.fixture
def operator(place, watcher_command, environment):
    """Run a command with the configuration."""

    def run(*arguments, code=0, file="watcher.toml"):
        command, *rest = map(str, arguments)
        argv = [*watcher_command, command, "--config", str(place / file), *rest]
        ended = run_command(argv, env=environment, text=True, input="")
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended

    return run


@pytest.fixture
def work(place, start_daemon):
    """Start `watcher work` with the configuration."""
    return lambda: start_daemon(
        None, "--config", str(place / "watcher.toml"), command="work", ready=True
    )


def publish(server, name="one.csv"):
    async def send(client):
        await client.context.publish("MAIL.in", b"body", headers={"Watcher-Entry": name})

    server.call(send)


def lines(ended):
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_the_commands_find_a_worker_by_its_configuration(operator, work, place, server, eventually):
    assert [one["queue"] for one in lines(operator("status", "--json"))] == ["in"]
    (place / "hold").touch()
    daemon = work()
    publish(server)
    for wanted in ("work.mail", place / "copies"):
        eventually(lambda wanted=wanted: "claimed" in operator("list", wanted).stdout)
        (line,) = operator("list", wanted).stdout.splitlines()
        assert "one.csv" in line
    status = {one["queue"]: one for one in lines(operator("status", "--json"))}
    assert status.keys() == {"in", "work.mail"}
    assert status["work.mail"]["states"]["claimed"]["count"] == 1
    assert status["work.mail"]["states"]["arriving"]["count"] == 0
    assert "claimed" in operator("explain", place / "copies" / "one.csv").stdout
    operator("abort", "work.mail", "one.csv")
    (line,) = daemon.wait_for("defer")
    assert "aborted by the operator" in line["detail"]
    (place / "hold").unlink()


@pytest.mark.slow
def test_a_pause_keeps_messages_at_the_server_also_when_the_worker_begins_again(
    operator, work, server
):
    daemon = work()
    operator("pause", "work.mail")
    daemon.wait_for("paused")
    assert daemon.end() == 0
    daemon = work()
    daemon.wait_for("paused")
    publish(server)
    assert "paused" in operator("status", "work.mail").stdout
    operator("resume", "work.mail")
    daemon.wait_for("finish")


REFUSED = (
    ("hold", "work.mail", "one.csv"),
    ("requeue", "DIR", "ALL"),
    ("delete", "DIR", "ALL", "--yes"),
    ("release", "work.mail", "ALL"),
    ("abort", "--hold", "work.mail", "one.csv"),
    ("attempt", "work.mail", "one.csv"),
    ("sweep", "DIR", "--", "true"),
    ("sweep", "--dry-run", "work.mail"),
    ("enqueue", "DIR", "-"),
    ("run", "DIR", "--", "true"),
    ("audit", "DIR"),
)


def test_a_command_that_moves_entries_refuses_those_of_a_worker(operator, work, place, server):
    (place / "hold").touch()
    daemon = work()
    publish(server)
    daemon.wait((place / "copies" / "one.csv").exists)
    for arguments in REFUSED:
        typed = [str(place / "copies") if word == "DIR" else word for word in arguments]
        ended = operator(*typed, code=os.EX_USAGE)
        assert "its entries are messages of a stream" in ended.stderr, arguments
        assert ended.stderr.count("\n") == 1
    # Of all queues, those of workers are left out.
    assert "work.mail" not in operator("requeue", "ALL").stdout
    assert operator("sweep", "--dry-run").returncode == 0
    (place / "hold").unlink()
    daemon.wait_for("finish")


def test_check_looks_at_workers_too(operator, place, server):
    found = lines(operator("check", "--json"))
    (directory,) = [one for one in found if one["where"] == str(place / "copies")][-1:]
    assert (directory["grade"], directory["about"]) == ("ok", "directory")
    assert not (place / "copies").exists()
    text = (place / "watcher.toml").read_text()
    (place / "wrong.toml").write_text(text.replace(sys.executable, "/no/such/program"))
    ended = operator("check", "--json", file="wrong.toml", code=os.EX_UNAVAILABLE)
    assert [one["about"] for one in lines(ended) if one["grade"] == "bad"] == ["handler"]
    only = text[text.index("[work") :]
    (place / "only.toml").write_text(only)
    assert {one["where"] for one in lines(operator("check", "--json", file="only.toml"))} == {
        "this machine",
        str(place / "copies"),
    }
    server.stop()
    ended = operator("check", "--json", file="only.toml", code=os.EX_UNAVAILABLE)
    assert "Connection refused" in ended.stdout
    ended = operator("status", file="only.toml", code=os.EX_NOINPUT)
    assert str(place / "copies") in ended.stderr
    assert "watcher work" in operator("run", file="only.toml", code=os.EX_CONFIG).stderr


def test_a_wrong_table_of_a_worker_hides_no_queue(operator, place):
    file = place / "watcher.toml"
    file.write_text(file.read_text().replace("directory =", "directoy ="))
    ended = operator("status", "--json")
    assert [one["queue"] for one in lines(ended)] == ["in"]
    assert "work.mail.directoy: unknown key" in ended.stderr


WITHOUT = """
import importlib.util, json, sys
find, sys.modules["nats"] = importlib.util.find_spec, None
importlib.util.find_spec = lambda name, *more: None if name == "nats" else find(name, *more)
from watcher.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        print(end.code, file=sys.stderr)
"""


def test_without_the_extra_it_says_what_to_install(tmp_path, environment):
    where = ["--server", "nats://127.0.0.1:1", "--stream", "X"]
    commands = [
        ["nats", "check", *where],  # first: an error is the end of standard output
        ["nats", "init", *where],
        ["work", "list", *where],
        ["work", "requeue", *where, "ALL"],
        ["work", *where, "--directory", str(tmp_path / "copies"), "--", "true"],
    ]
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(commands)],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    said = ended.stdout + ended.stderr
    assert said.count("needs the package nats: pip install 'spool-watcher[nats]'") == len(commands)
    assert ended.stderr.split().count(str(os.EX_CONFIG)) == len(commands)
    assert "Traceback" not in said
