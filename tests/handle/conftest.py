"""What the tests of handlers share: a claimed entry, and a worker."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.claimed_entry import claimed_entry
from watcher.handle.worker_command import WorkerCommand

__all__ = ["claimed_entry"]

# A worker that runs each message as a program.
SHELL = r"""
count=0
while IFS= read -r line; do
    count=$((count + 1))
    file=${line#'{"version":1,"file":"'}
    file=${file%%'"'*}
    . "$file"
done
"""


@pytest.fixture
def worker():
    """Make a worker handler; its processes are killed at the end."""
    made = []

    def make(script=SHELL, timeout=20.0, **more):
        argv = script if isinstance(script, (tuple, list)) else ("sh", "-c", script)
        made.append(WorkerCommand(argv, timeout, **more))
        return made[-1]

    yield make
    for handler in made:
        for pid in list(handler._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        handler._drop(0.0)
