"""The commands of the matrix: on which queue, with which arguments, and when each is over."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from kill_matrix import handler, scenario, verdict
from kill_matrix.scenario import Fate, Scene
from kill_matrix.victim import MAIN, WORKER

CONFIGURATION = """\
[queues.q]
path = {path}
handler = {handler}
legacy = true
grace_age = "0s"
sweep_every = "0.3s"
retry = {{ initial = "0.02s" }}
"""
GET_WELL = 20.0  # seconds: what is refused some times in a row is looked at ever less often
PYTHON = '{ python = "kill_matrix.handler:handle" }'


@dataclass(frozen=True)
class Place:
    """The files of one run, in a directory of its own."""

    root: str

    def __getattr__(self, name: str) -> str:
        return os.path.join(self.root, name)


@dataclass(frozen=True)
class Case:
    """One command: how its queue is made, its arguments, which of its threads is traced."""

    name: str
    make: Callable[[str], Scene]
    argv: Callable[[Place], list[str]]
    thread: str = MAIN
    daemon: bool = False
    exec: bool = False  # the handler is a command, which is a process of its own
    operator: bool = False  # what it held is released before the sweeps that recover

    def configure(self, place: Place) -> None:
        """Write the configurations, of the run and of its recovery, and the command."""
        command = place.handler
        with open(command, "w", encoding="ascii") as file:
            file.write(handler.SHELL)
        os.chmod(command, 0o700)
        path = '"' + place.queue + '"'
        of_run = '{ exec = ["' + command + '"] }' if self.exec else PYTHON
        for name, kind in (("run.toml", of_run), ("recovery.toml", PYTHON)):
            with open(os.path.join(place.root, name), "w", encoding="utf-8") as file:
                file.write(CONFIGURATION.format(path=path, handler=kind))


def _toml(place: Place, name: str = "run.toml") -> str:
    return os.path.join(place.root, name)


def _enqueue(place: Place) -> list[str]:
    files = []
    for number in (1, 2):
        path = os.path.join(place.root, f"message{number}")
        with open(path, "wb") as file:
            file.write(b"Subject: message %d\n\nThe text of message %d.\n" % (number, number))
        files.append(path)
    return ["enqueue", place.queue, *files, "--meta", "token=t"]


def _empty(path: str) -> Scene:
    os.mkdir(path)
    return Scene(path)


def _sweep(place: Place) -> list[str]:
    return ["sweep", place.queue, "--config", _toml(place)]


def _run(place: Place) -> list[str]:
    return ["run", "--config", _toml(place), "--log-format", "json", "--log-level", "debug"]


def _operator(move: str, *options: str) -> Case:
    """Return the case of a command that moves everything."""
    fate = Fate.DELETED if move == "delete" else Fate.ANY

    def argv(place: Place) -> list[str]:
        return [move, place.queue, "ALL", "--config", _toml(place), *options]

    return Case(move, lambda path: scenario.kept(path, fate), argv, operator=True)


def release(place: Place) -> list[str]:
    """Return the command that lets go what an operator held."""
    return ["release", place.queue, "ALL", "--config", _toml(place)]


def audit(place: Place) -> list[str]:
    """Return the command that balances the books."""
    return ["audit", place.queue, "--config", _toml(place)]


def recovery(place: Place) -> list[str]:
    """Return the sweep that recovers."""
    return ["sweep", place.queue, "--config", _toml(place, "recovery.toml")]


CASES = {
    case.name: case
    for case in (
        Case("enqueue", _empty, _enqueue),
        Case("sweep", scenario.full, _sweep),
        Case("sweep-exec", scenario.full, _sweep, exec=True),
        Case("run", scenario.full, _run, daemon=True),
        Case("run-worker", scenario.full, _run, WORKER, daemon=True),
        Case("run-exec", scenario.full, _run, daemon=True, exec=True),
        Case("run-exec-worker", scenario.full, _run, WORKER, daemon=True, exec=True),
        _operator("hold"),
        _operator("release"),
        _operator("requeue"),
        _operator("delete", "--yes"),
    )
}


def settled(scene: Scene) -> bool:
    """Whether a daemon has nothing more to do: all that is left in the queue is not for it yet."""
    files = verdict.tree(scene.path)
    stay = set(scene.bystanders)
    for entry in scene.entries.values():
        if entry.open:
            stay |= entry.files.keys()
    busy = [name for name in files if "/" not in name and name not in stay]
    due = [
        name
        for name in files
        if name.startswith(".watcher/deferred/") and not name.endswith((".json", ".tmp"))
    ]
    return not busy and not due and not any(name.endswith(".pck") for name in _aside(files))


def _aside(files: dict[str, bytes]) -> list[str]:
    return [name for name in files if name.startswith(".watcher/inflight/")]


class Stopper:
    """Watches a daemon's queue, and tells the daemon to stop once all is done.

    One that said it was unhealthy gets time first, until its status says that all is over.
    """

    def __init__(self, scene: Scene, log: str) -> None:
        self._scene = scene
        self._log = log
        self._looks = 0
        self._stop_at: float | None = None
        self.told = False

    def __call__(self, child: int) -> None:
        """Look now and then; the tree may change underneath, which is no finding."""
        self._looks += 1
        if self.told or self._looks % 5:
            return
        if self._stop_at is None:
            with contextlib.suppress(FileNotFoundError):
                if settled(self._scene):
                    self._stop_at = time.monotonic() + (GET_WELL if self._unhealthy() else 0.0)
        elif time.monotonic() >= self._stop_at or self._well(child):
            self.told = True
            os.kill(child, signal.SIGTERM)

    def _unhealthy(self) -> bool:
        with open(self._log, "rb") as lines:
            return b'"unhealthy"' in lines.read()

    def _well(self, child: int) -> bool:
        """Ask for its status; say whether the last one it gave was good."""
        os.kill(child, signal.SIGUSR1)
        with open(self._log, "rb") as lines:
            told = [line for line in lines if b'"event": "status"' in line]
        return bool(told) and b'"detail": "healthy;' in told[-1]
