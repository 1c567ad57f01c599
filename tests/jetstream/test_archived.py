"""The handler `nats` with an archive, and a server that loses what it acknowledged."""

from __future__ import annotations

import shutil

import pytest

import watcher
from tests.command_server import run_command
from watcher.config.load import load
from watcher.config.open_queue import open_spool
from watcher.inspect.balance import balance

NAMES = 30


@pytest.fixture
def configuration(tmp_path, queue, server):
    path = tmp_path / "watcher.toml"
    path.write_text(
        f'[queues.incoming]\npath = "{queue}"\narchive = "archive/"\narchive_for = "2d"\n'
        f'handler = {{ nats = "{server.url}", stream = "MAIL" }}\n'
    )
    return path


@pytest.fixture
def run(watcher_command, environment, configuration):
    """Run a command with the configuration; return its lines."""

    def running(*words):
        argv = [*watcher_command, *words, "--config", str(configuration)]
        ended = run_command(argv, env=environment, text=True, timeout=60)
        assert ended.returncode == 0, (ended.stdout, ended.stderr)
        return ended.stdout.splitlines()

    return running


def test_what_a_server_lost_is_handed_over_again_and_what_it_knows_is_stored_once(
    server, queue, configuration, run, start_daemon
):
    run("nats", "init")
    daemon = start_daemon(None, "--config", str(configuration))
    texts = {b"message %d" % number for number in range(NAMES)}
    for text in texts:
        watcher.enqueue(queue, text)
    daemon.wait_for("finish", NAMES)
    assert sorted(server.bodies("MAIL")) == sorted(texts)

    # Nothing was lost: the server knows each key, and stores nothing twice.
    lines = run("requeue", "--state", "archived", "ALL")
    assert len(lines) == NAMES + 1, "and the queue's name above them"
    daemon.wait_for("finish", 2 * NAMES)
    assert len(server.bodies("MAIL")) == NAMES

    server.kill()
    shutil.rmtree(server.config.parent / "store")
    server.start()
    run("nats", "init")
    assert server.bodies("MAIL") == []
    run("requeue", "--state", "archived", "ALL", "--rate", "1000/s")
    daemon.wait_for("finish", 3 * NAMES)
    assert sorted(server.bodies("MAIL")) == sorted(texts)
    daemon.end()
    assert len(list((queue / "archive").iterdir())) == NAMES
    assert balance(open_spool(load(configuration, {})["incoming"])).proved
