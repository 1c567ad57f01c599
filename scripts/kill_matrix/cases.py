"""The commands of the matrix: the queue, the arguments, and when each command has finished."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from kill_matrix import handler, scenario, verdict
from kill_matrix.scenario import Fate, Scene
from kill_matrix.targets import TARGETS, Target
from kill_matrix.victim import ALL, MAIN, WORKER

CONFIGURATION = """\
[queues.q]
path = {path}
handler = {handler}
{format}
concurrency = {workers}
grace_age = "0s"
sweep_every = "0.3s"
retry = {{ initial = "0.02s" }}
"""
GET_HEALTHY = 20.0  # seconds: after several refusals the daemon waits longer between two tries
LEGACY, RAW = "legacy = true", 'format = "raw"\nsuffix = ".csv"'
ARCHIVE = RAW + '\narchive = "archive/"'


@dataclass(frozen=True)
class Place:
    """The files of one run, in its own directory."""

    root: str

    def __getattr__(self, name: str) -> str:
        return os.path.join(self.root, name)


@dataclass(frozen=True)
class Case:
    """One command: its queue, its arguments, and which of its threads is traced."""

    name: str
    make: Callable[[str], Scene]
    argv: Callable[[Place], list[str]]
    thread: str = MAIN
    daemon: bool = False
    exec: bool = False  # the handler is a command, in its own process
    operator: bool = False  # held entries are released before the sweeps that recover
    format: str = LEGACY
    workers: int = 1
    leaves: bool = False  # the handler leaves a child running at each attempt
    reloads: int = 0  # how often the daemon reloads with entries in hand
    target: Target = TARGETS["python"]

    @property
    def in_hand(self) -> int:
        """How many entries it may have in hand at once, with those from before a reload."""
        return self.workers * (1 + self.reloads) * self.target.in_hand

    def configure(self, place: Place) -> None:
        """Write the configurations of the run and of its recovery, and the command."""
        command = place.handler
        with open(command, "w", encoding="ascii") as file:
            file.write(handler.SHELL)
        os.chmod(command, 0o700)
        path = '"' + place.queue + '"'
        usual = self.target.settings(place.root)
        of_run = '{ exec = ["' + command + '"] }' if self.exec else usual
        os.makedirs(place.reload, exist_ok=True)
        written = [("run.toml", of_run, self.workers), ("recovery.toml", usual, 1)]
        written += [
            (f"reload/reload{number}.toml", of_run, self.workers - number % 2)
            for number in range(self.reloads)
        ]
        for name, kind, workers in written:
            with open(os.path.join(place.root, name), "w", encoding="utf-8") as file:
                text = CONFIGURATION.format(
                    path=path, handler=kind, format=self.format, workers=workers
                )
                file.write(text)

    def environment(self, place: Place, phase: str) -> dict[str, str]:
        """Return the handlers' environment, in the run or in its recovery."""
        return {
            handler.RECORD: place.record,
            handler.PHASE: phase,
            handler.LEFT: place.left if self.leaves else "",
            handler.OVER: place.over if self.format == RAW else "",
            handler.RELOAD: place.reload if self.reloads else "",
        }


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
    """Return the case of an operator's command on all entries."""
    fate = Fate.DELETED if move == "delete" else Fate.ANY

    def argv(place: Place) -> list[str]:
        return [move, place.queue, "ALL", "--config", _toml(place), *options]

    return Case(move, lambda path: scenario.kept(path, fate), argv, operator=True)


def _requeue_archived(place: Place) -> list[str]:
    return ["requeue", place.queue, "ALL", "--state", "archived", "--config", _toml(place)]


def release(place: Place) -> list[str]:
    """Return the command that releases held entries."""
    return ["release", place.queue, "ALL", "--config", _toml(place)]


def audit(place: Place) -> list[str]:
    """Return the audit command."""
    return ["audit", place.queue, "--config", _toml(place)]


def recovery(place: Place) -> list[str]:
    """Return the sweep that recovers."""
    return ["sweep", place.queue, "--config", _toml(place, "recovery.toml")]


# A handler that refuses nothing takes the entries whose name would have another refuse them.
SCENES = dict.fromkeys(("move", "move-far", "maildir", "nats"), scenario.taken)
SCENES["move-raw"] = scenario.taken_raw
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
        Case("threads", scenario.full, _run, ALL, daemon=True, workers=4),
        Case("threads-exec", scenario.full, _run, ALL, daemon=True, exec=True, workers=4),
        Case("reload", scenario.reloaded, _run, ALL, daemon=True, workers=4, reloads=2),
        Case("left-running", scenario.leaving, _run, WORKER, daemon=True, exec=True, leaves=True),
        Case("raw-sweep", scenario.reused, _sweep, format=RAW),
        Case("raw-threads", scenario.reused, _run, ALL, daemon=True, format=RAW, workers=4),
        Case("raw-archive", scenario.archived, _run, ALL, daemon=True, format=ARCHIVE, workers=2),
        _operator("hold"),
        _operator("release"),
        _operator("requeue"),
        _operator("delete", "--yes"),
        Case("requeue-archived", scenario.in_archive, _requeue_archived, format=ARCHIVE),
        *(
            Case(
                name,
                SCENES.get(name, scenario.full),
                _run,
                target.thread,
                daemon=True,
                format=RAW if name.endswith("-raw") else LEGACY,
                target=target,
            )
            for name, target in TARGETS.items()
            if name != "python" and target.exists()
        ),
    )
}


def settled(scene: Scene) -> bool:
    """Whether a daemon has nothing more to do now: no entry left in the queue is ready for it."""
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
    to_come = any(scene.waits_to_come(entry) for entry in scene.entries.values())
    return not busy and not due and not _aside(files) and not to_come


def _aside(files: dict[str, bytes]) -> list[str]:
    """Return the files that lie aside; not those of the process (.NAME) or directories (NAME/)."""
    there = [name for name in files if name.startswith(".watcher/inflight/")]
    return [name for name in there if name[-1] != "/" and name.rpartition("/")[2][0] != "."]


class Stopper:
    """Watches a daemon's queue, and sends the daemon TERM when it has nothing more to do.

    A daemon that logged `unhealthy` gets time first, until its status is healthy.
    """

    def __init__(self, scene: Scene, log: str) -> None:
        self._scene = scene
        self._log = log
        self._looks = 0
        self._stop_at: float | None = None
        self.told = False

    def __call__(self, child: int) -> None:
        """Check the queue at intervals; files may change during the check."""
        self._looks += 1
        if self.told or self._looks % 5:
            return
        if self._stop_at is None:
            with contextlib.suppress(FileNotFoundError):
                if settled(self._scene):
                    self._stop_at = time.monotonic() + (GET_HEALTHY if self._unhealthy() else 0.0)
        elif time.monotonic() >= self._stop_at or self._is_healthy(child):
            self.told = True
            os.kill(child, signal.SIGTERM)

    def _unhealthy(self) -> bool:
        with open(self._log, "rb") as lines:
            return b'"unhealthy"' in lines.read()

    def _is_healthy(self, child: int) -> bool:
        """Request the status at intervals; return whether the last one was healthy."""
        if self._looks % 50 == 0:
            os.kill(child, signal.SIGUSR1)
        with open(self._log, "rb") as lines:
            told = [line for line in lines if b'"event": "status"' in line]
        return bool(told) and b'"detail": "healthy;' in told[-1]
