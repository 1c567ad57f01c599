"""The work directory of chaos: three queues, the event logs, and configurations that change.

`drawn` has Mailman's format, and `enqueue` draws its names. `reused` is raw, and its few names are
used again and again. `other` is like `reused`, in a directory of another user; it needs root.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import sysconfig
from typing import NamedTuple

from chaos.handler import DRAIN, GENTLE, SEED
from chaos.test_message import token_of
from watcher.torture.event_log import HANDLED, LOGS, WRITERS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OTHER_USER = 54321  # a user number without an account
ROOTS, OTHERS = "root", "other"  # the users; their configurations are named after them
_STATES = ("deferred", "held", "dead", "orphans", "inflight")
_PYTHON = [sys.executable, "-P"]
_SYSTEMS_PYTHON = [f"/usr/bin/python3.{sys.version_info[1]}", "-P"]
_CHILD = (  # as for an isolated handler, Python must be able to start itself
    "import os, subprocess, sys; os.listdir(sys.argv[1]);"
    "subprocess.run([sys.executable, '-P', '-c', 'import chaos.writer'], check=True)"
)
_AS_OTHER = [
    *("setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups"),
    *("--pdeathsig", "KILL"),
]


class Plan(NamedTuple):
    """The options of a run."""

    seed: int
    daemons: int = 2
    workers: int = 16
    gentle: bool = False  # nothing is killed, and no handler crashes


class Workdir:
    """One work directory."""

    def __init__(self, directory: str, plan: Plan, chance: random.Random) -> None:
        self.directory = directory
        self.logs = os.path.join(directory, "logs")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WATCHER_")},
            "PYTHONPATH": os.pathsep.join(
                (ROOT, os.path.join(ROOT, "scripts"), sysconfig.get_path("purelib"))
            ),
            "PYTHONDONTWRITEBYTECODE": "1",
            LOGS: self.logs,
            SEED: str(plan.seed),
            **({GENTLE: "1"} if plan.gentle else {}),
        }
        self._plan, self._chance = plan, chance
        os.chmod(directory, 0o755)  # noqa: S103 - the other user needs access
        self._others_python = _others_python(self.environment, directory)
        self.two_users = bool(self._others_python)
        self.queues = ["drawn", "reused", *["other"] * self.two_users]
        self._prepare()

    def _prepare(self) -> None:
        os.mkdir(self.logs, 0o755)
        for kind in (WRITERS, HANDLED):
            path = os.path.join(self.logs, kind)
            with open(path, "xb"):
                os.chmod(path, 0o666)  # noqa: S103 - both users write these
        for queue in self.queues:
            os.mkdir(self.path(queue), 0o755)
            if queue == "other":
                os.chown(self.path(queue), OTHER_USER, OTHER_USER)
        self.configure()

    def path(self, queue: str) -> str:
        """Return a queue's directory."""
        return os.path.join(self.directory, queue)

    def configure(self) -> None:
        """Write both configurations again, with other settings."""
        for user, queues in ((ROOTS, self.queues), (OTHERS, ["other"])):
            path = os.path.join(self.directory, f"{user}.toml")
            with open(path + ".new", "w", encoding="utf-8") as file:
                file.writelines(self._table(queue) for queue in queues)
            os.chmod(path + ".new", 0o644)
            os.replace(path + ".new", path)

    def _table(self, queue: str) -> str:
        chance, workers = self._chance, self._plan.workers
        return (
            f'[queues.{queue}]\npath = "{self.path(queue)}"\n'
            + ('format = "raw"\nsuffix = ".dat"\n' if queue != "drawn" else "")
            + f"concurrency = {chance.choice([workers, max(1, workers // 2)])}\n"
            f'grace_age = "{chance.choice([1500, 2500])}ms"\n'
            f'sweep_every = "{chance.choice([1, 3])}s"\n'
            f'retry = {{ initial = "{chance.choice([100, 400])}ms", max = "2s",'
            f" max_crashes = {chance.choice([3, 1000])} }}\n"
            'handler = { python = "chaos.handler:handle" }\n'
        )

    def watcher(self, user: str, *arguments: str) -> list[str]:
        """Return the argv of a watcher command."""
        config = os.path.join(self.directory, f"{user}.toml")
        python = self._others_python if user == OTHERS else _PYTHON
        return [*python, "-P", "-m", "watcher", *arguments, "--config", config]

    def writer(self, queue: str) -> list[str]:
        """Return the argv of a writer for a queue."""
        kind = "drawn" if queue == "drawn" else "reused"
        python = self._others_python if queue == "other" else _PYTHON
        seed = str(self._plan.seed)
        return [*python, "-m", "chaos.writer", self.path(queue), kind, seed]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of watcher to its end, as root."""
        environment = {**self.environment, DRAIN: "1"}
        argv = self.watcher(ROOTS, *arguments)
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    def left(self) -> dict[str, str]:
        """Return where each entry lies that is still there, by its token."""
        found = {}
        for queue in self.queues:
            for state in ("", *(os.path.join(".watcher", state) for state in _STATES)):
                directory = os.path.join(self.path(queue), state)
                for path in _files(directory):
                    with open(path, "rb") as file:
                        contents = file.read()
                    start = max(0, contents.find(b"chaos "))
                    token, _whole = token_of(contents[start:])
                    found[token] = path
        return found

    def waiting(self) -> int:
        """Return how many files of entries are in the queues, deferred/ and inflight/."""
        return sum(
            len(list(_files(os.path.join(self.path(queue), place))))
            for queue in self.queues
            for place in ("", ".watcher/deferred", ".watcher/inflight")
        )


def _files(directory: str) -> list[str]:
    """Return the files of entries in a directory; for inflight/ also those one level down."""
    try:
        with os.scandir(directory) as entries:
            found = list(entries)
    except OSError:
        return []
    paths = [
        each.path
        for each in found
        if each.is_file(follow_symlinks=False) and each.name.endswith((".pck", ".dat"))
    ]
    if os.path.basename(directory) == "inflight":
        paths += [
            path
            for each in found
            if each.is_dir(follow_symlinks=False)
            for path in _files(each.path)
        ]
    return paths


def _others_python(environment: dict[str, str], directory: str) -> list[str]:
    """Return the argv with which the other user runs Python; [] if there is none, or without root.

    If only root has access to this interpreter, it is the system's, with these packages.
    """
    if os.geteuid() != 0:
        return []
    for python in (_PYTHON, _SYSTEMS_PYTHON):
        argv = [*_AS_OTHER, *python]
        try:
            tried = subprocess.run(
                [*argv, "-c", _CHILD, directory],
                env=environment,
                cwd="/",
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return argv
    return []
