"""What tests of a running daemon share: a command that an operator runs beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_server import run_command


@pytest.fixture
def run(watcher_command: list[str], environment: dict[str, str]) -> Callable[..., str]:
    """Run one command to its end, which must be a success; return what it printed."""

    def running(command: str, queue: Path, *arguments: object) -> str:
        argv = [*watcher_command, command, str(queue), *arguments]
        ended = run_command(argv, env=environment, capture_output=True, timeout=60)
        assert ended.returncode == 0, ended
        return ended.stdout.decode()

    return running
