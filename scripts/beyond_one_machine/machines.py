"""A publisher and workers as their own processes, each killed and started again.

The publisher is `watcher run` with the handler `nats`; a worker is `watcher work` with a directory
of its own, as on a machine of its own. All options but those named here have their defaults.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

from beyond_one_machine import handler
from beyond_one_machine.nats_servers import Servers, die_with_the_parent

STREAM = "MAIL"
WATCHER = os.path.join(os.path.dirname(sys.executable), "watcher")
SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PUBLISHER = """\
[queues.q]
path = "{queue}"
format = "raw"
writers = "rename"
handler = {{ nats = "{servers}", stream = "{stream}", timeout = "{timeout:g}s" }}
"""
_WORKER = """\
[work.{name}]
server = "{servers}"
stream = "{stream}"
directory = "{directory}"
concurrency = {concurrency}
handler = {{ python = "beyond_one_machine.handler:handle" }}
"""
STOPPING = 60.0  # seconds


class Place(NamedTuple):
    """The directories of one run."""

    root: str

    @property
    def queue(self) -> str:
        """The queue of the publisher."""
        return os.path.join(self.root, "queue")

    @property
    def calls(self) -> str:
        """The file in which the handlers record their calls."""
        return os.path.join(self.root, "calls")

    @property
    def effects(self) -> str:
        """The directory with a file for each key."""
        return os.path.join(self.root, "effects")

    def make(self) -> None:
        """Make the directories."""
        for path in (self.queue, self.effects):
            os.mkdir(path, 0o700)
        with open(self.calls, "ab"):
            pass

    def left(self) -> list[str]:
        """Return the files of entries that are still to be handed over."""
        found = set(os.listdir(self.queue)) - {".watcher"}
        return sorted({*found, *self._in_state("deferred")})

    def put_away(self) -> list[str]:
        """Return the entries of the queue that nothing handles any more."""
        return [name for state in ("dead", "held", "orphans") for name in self._in_state(state)]

    def _in_state(self, state: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(os.path.join(self.queue, ".watcher", state))
            entries = (name for name in names if name[0] != "." and not name.endswith(".json"))
            return sorted(entries)  # without notes, and what a killed process had begun of one
        return []


class Machine:
    """One process of watcher, which is started again after it was killed."""

    def __init__(self, place: Place, name: str, command: str, config: str) -> None:
        self.name = name
        self.log = os.path.join(place.root, f"{name}.log")
        self.kills = 0
        self._before = 0  # bytes of the log that earlier processes wrote
        self._config = os.path.join(place.root, f"{name}.toml")
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = _environment(place, name)
        with open(self._config, "w", encoding="utf-8") as file:
            file.write(config)

    def start(self) -> None:
        """Start it."""
        argv = [WATCHER, self._command, "--config", self._config, "--log-format", "json"]
        with open(self.log, "ab") as log:
            self._before = log.tell()
            self._process = subprocess.Popen(
                argv,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_the_parent,  # noqa: PLW1509 - one call into the kernel
            )

    def kill(self) -> None:
        """Kill it and start it again."""
        self.end(signal.SIGKILL)
        self.kills += 1
        self.start()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; return the exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        try:
            return self._process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def in_service(self) -> bool:
        """Whether it handles entries since its last start."""
        with open(self.log, "rb") as log:
            log.seek(self._before)
            return b'"event": "ready"' in log.read()

    def ended(self) -> int | None:
        """Return its exit status if it ended by itself."""
        return None if self._process is None else self._process.poll()


def _environment(place: Place, name: str) -> Mapping[str, str]:
    usual = {key: value for key, value in os.environ.items() if not key.startswith("WATCHER_")}
    return usual | {
        "PYTHONPATH": os.pathsep.join((SCRIPTS, os.path.dirname(SCRIPTS))),
        handler.CALLS: place.calls,
        handler.EFFECTS: place.effects,
        handler.WORKER: name,
    }


def publisher(place: Place, servers: Servers, timeout: float) -> Machine:
    """Return the process that hands entries over."""
    text = _PUBLISHER.format(
        queue=place.queue, servers=servers.urls, stream=STREAM, timeout=timeout
    )
    return Machine(place, "publisher", "run", text)


def worker(place: Place, servers: Servers, number: int, concurrency: int) -> Machine:
    """Return a process that handles messages."""
    name = f"worker{number}"
    text = _WORKER.format(
        name=name,
        servers=servers.urls,
        stream=STREAM,
        directory=os.path.join(place.root, name),
        concurrency=concurrency,
    )
    return Machine(place, name, "work", text)


def init(place: Place, servers: Servers) -> None:
    """Make the streams with `watcher nats init`."""
    config = os.path.join(place.root, "publisher.toml")
    replicas = str(len(servers.members))
    argv = [WATCHER, "nats", "init", "--config", config, "--replicas", replicas]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
