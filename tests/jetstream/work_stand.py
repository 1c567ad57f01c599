"""A `watcher work` for tests: messages are put, its handler records calls, and what is over."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from watcher.jetstream.messages import headers_of
from watcher.jetstream.stream_setup import CONSUMER, consumer_configuration

HANDLER = """
import json, os, sys, time
body = sys.stdin.buffer.read()
names = ("QUEUE", "ENTRY", "KEY", "ATTEMPT", "METADATA")
said = {name: os.environ.get(f"WATCHER_{name}") for name in names}
said["body"] = body.decode("latin-1")
said["file"] = os.path.basename(os.environ["WATCHER_PATH"])
with open(sys.argv[1], "a") as record:
    record.write(json.dumps(said) + "\\n")
exec(body if body.startswith(b"#") else b"")
"""


@pytest.fixture
def put():
    """Publish messages as the handler `nats` does: what the handler is to do, by the name."""

    def publish(server, *bodies, stream="MAIL", name=None, first=1, metadata="", **headers):
        async def send(client):
            for number, body in enumerate(bodies, first):
                about = headers_of(
                    key=f"key{number}",
                    queue="in",
                    name=name or f"{number}.csv",
                    attempt=1,
                    metadata=metadata,
                    stream=stream,
                )
                data = body.encode() if isinstance(body, str) else body
                await client.context.publish(f"{stream}.in", data, headers=about | headers)

        server.call(send)

    return publish


@pytest.fixture
def record(tmp_path):
    """Return what the handler was called with, oldest first."""

    def read():
        path = tmp_path / "record"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read


@pytest.fixture
def work(tmp_path, start_daemon):
    """Start `watcher work` with a handler that records its calls and does what a message says."""
    (tmp_path / "handler.py").write_text(HANDLER)

    def start(server, name="one", *, more="", retry='initial = "50ms", jitter = 0', ready=True):
        argv = [sys.executable, str(tmp_path / "handler.py"), str(tmp_path / "record")]
        config = tmp_path / f"{name}.toml"
        config.write_text(
            f'[work.{name}]\nserver = "{server.url}"\nstream = "MAIL"\n'
            f'directory = "{tmp_path}/{name}"\nhandler = {{ exec = {json.dumps(argv)} }}\n'
            f"retry = {{ {retry} }}\n{more}\n"
        )
        return start_daemon(None, "--config", str(config), command="work", ready=ready)

    return start


@pytest.fixture
def letters(server, watcher_command, environment):
    """Run `watcher work list|requeue|delete`."""

    def run(command, *arguments):
        return subprocess.run(
            [
                *(*watcher_command, "work", command, "--server", server.url),
                *("--stream", "MAIL", *arguments),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def consumer(server):
    async def look(client):
        return await client.context.consumer_info("MAIL", CONSUMER)

    return server.call(look)


def is_over(server, number):
    """Whether every message up to a number is ended for good."""
    found = consumer(server)
    return found.ack_floor.stream_seq >= number and not found.num_ack_pending


def quick_acknowledgement(server, seconds=1.0):
    """Have the server deliver again soon what a dead worker had."""

    async def change(client):
        config = consumer_configuration()
        config.ack_wait = seconds
        await client.context.add_consumer("MAIL", config)

    server.call(change)
