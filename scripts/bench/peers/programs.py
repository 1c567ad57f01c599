"""Which peers there are, how each is run, and whether it is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NamedTuple

from bench.consumers import ROOT, SCRIPTS
from bench.rooms import Room
from bench.stand import Stand

BENCH = os.path.join(ROOT, ".venv-bench", "bin", "python")
MAILMAN = os.path.join(ROOT, ".venv-mailman", "bin", "python")


class Program(NamedTuple):
    """One peer."""

    name: str
    python: str  # "": not a Python program
    module: str
    files: bool  # any program may put files into its directory; else it has its own way to commit
    drains: bool  # it handles what was there before it
    note: str = ""

    def consume(self, stand: Stand, place: Room, count: int) -> list[str]:
        """Return the command that handles what is in a room."""
        if self.python:
            return [*self._module(), "consume", place.queue, str(count)]
        handler = [str(stand.reference), "handle", f"{place.queue}/{{}}", f"{place.path}/log"]
        return ["inoticoming", "--foreground", place.queue, "--suffix", ".pck", *handler, ";"]

    def produce(self, place: Room, count: int, rate: float) -> list[str]:
        """Return the command that commits messages."""
        return [*self._module(), "produce", place.queue, str(count), str(rate)]

    def missing(self, stand: Stand) -> str:
        """Say why it cannot be measured here; "" if it can."""
        if not self.python:
            if shutil.which(self.module) is None:
                return f"not installed (apt-get install {self.module})"
            return "" if stand.reference else "its handler needs a C compiler"
        if not os.access(self.python, os.X_OK):
            return "its environment is not made (make bench makes it)"
        command = [*self._module(), "check", "", ""]
        check = subprocess.run(command, env=found(), capture_output=True, check=False)
        if check.returncode == 0:
            return ""
        return check.stderr.decode().strip().rpartition("\n")[2] or "does not start"

    def _module(self) -> list[str]:
        return [self.python, "-m", f"bench.peers.{self.module}"]


def found() -> dict[str, str]:
    """Return an environment in which the peers' programs are found."""
    return {**os.environ, "PYTHONPATH": SCRIPTS}


PROGRAMS = (
    Program("Mailman 3", MAILMAN, "mailman_runner", files=True, drains=True),
    Program("dirq", BENCH, "dirq_simple", files=False, drains=True),
    Program("kombu filesystem", BENCH, "kombu_filesystem", files=False, drains=True),
    Program("huey FileHuey", BENCH, "huey_file", files=False, drains=True),
    Program("persist-queue", BENCH, "persist_queue", files=False, drains=True),
    Program("watchdog", BENCH, "watchdog_callback", files=True, drains=False),
    Program("watchfiles", BENCH, "watchfiles_callback", files=True, drains=False),
    Program("inoticoming", "", "inoticoming", files=True, drains=False),
)
