"""A real nats-server for tests: started, killed, started again on the same port and store."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watcher.jetstream.connection import Access, Connection

PROGRAM = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which(
    "nats-server"
)
PATIENCE = 30.0


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class NatsServer:
    """One server; `more` is added to its configuration."""

    def __init__(self, directory: Path, more: str = "", *, sync: str = "2m") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port, self.monitor_port = free_port(), free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.monitor = f"http://127.0.0.1:{self.monitor_port}"
        self.config = directory / "server.conf"
        self.config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nhttp: "127.0.0.1:{self.monitor_port}"\n'
            f'jetstream {{ store_dir: "{directory}/store", sync_interval: "{sync}" }}\n{more}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "server.log"

    def start(self) -> None:
        """Start the server, and wait until JetStream answers."""
        assert PROGRAM is not None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "-c", str(self.config)], stdout=log, stderr=log
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until JetStream answers."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.monitor}/healthz", timeout=1) as page,
            ):
                if json.load(page)["status"] == "ok":
                    return
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        """Kill the server, without a word to it."""
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None

    def connection(self) -> Connection:
        """Return a connection of the test's own."""
        return Connection(lambda: Access((self.url,)))

    def call(self, work: Any) -> Any:
        """Run a coroutine with a connection of its own."""
        connection = self.connection()
        try:
            return connection.call(work, 10.0)
        finally:
            connection.close()

    def bodies(self, stream: str) -> list[bytes]:
        """Return what is in a stream."""

        async def read(client: Any) -> list[bytes]:
            info = await client.context.stream_info(stream)
            found = []
            for number in range(info.state.first_seq, info.state.last_seq + 1):
                with contextlib.suppress(Exception):
                    found.append((await client.context.get_msg(stream, seq=number)).data or b"")
            return found

        result: list[bytes] = self.call(read)
        return result


@contextlib.contextmanager
def serving(directory: Path, more: str = "", *, sync: str = "2m") -> Iterator[NatsServer]:
    """Run a server."""
    server = NatsServer(directory, more, sync=sync)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
