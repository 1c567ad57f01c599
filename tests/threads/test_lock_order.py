"""The table of locks in docs/architecture.md: every lock, no cycle, and the daemon keeps to it."""

from __future__ import annotations

import ast
import os
import re
import signal
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from watcher.commit_one import enqueue

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
MAKES = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}
LOCK = re.compile(r"`([\w/]+\.py)` ((?:`\w+`(?:, )?)+)")


def names_in(cell: str) -> list[str]:
    """Return the locks that a cell of the table names, as FILE:ATTRIBUTE."""
    return [
        f"{file}:{attribute}"
        for file, attributes in LOCK.findall(cell)
        for attribute in re.findall(r"`(\w+)`", attributes)
    ]


def table() -> dict[str, set[str]]:
    """Return each lock of the page with those that may be taken while it is held."""
    found: dict[str, set[str]] = {}
    for line in PAGE.partition("\n### Locks\n")[2].partition("\n### ")[0].splitlines():
        if line.startswith("| `"):
            cells = line.strip("| ").split(" | ")
            found |= {name: set(names_in(cells[2])) for name in names_in(cells[0])}
    return found


TABLE = table()


def made_in(path: Path) -> set[str]:
    """Return the locks that a module makes, by the names that they get."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        calls = {
            call.func.attr
            for call in ast.walk(node.value)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        }
        if calls & MAKES:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            target = target.value if isinstance(target, ast.Subscript) else target
            found.add(target.attr if isinstance(target, ast.Attribute) else target.id)
    return found


def test_the_table_has_every_lock_and_no_other():
    made = {
        f"{path.relative_to(ROOT / 'watcher')}:{name}"
        for path in (ROOT / "watcher").rglob("*.py")
        for name in made_in(path)
    }
    assert set(TABLE) == made, "docs/architecture.md, Locks"
    assert len(made) > 20


def test_the_order_of_locks_has_no_cycle():
    assert all(inner in TABLE for inners in TABLE.values() for inner in inners)
    list(TopologicalSorter(TABLE).static_order())


def may_be_taken(outer: str) -> set[str]:
    """Return all that may be taken while a lock is held, also by way of others."""
    found, edge = set(), TABLE[outer]
    while edge:
        found |= edge
        edge = set().union(*(TABLE[each] for each in edge)) - found
    return found


CONFIGURATION = """
[queues.retries]
path = "retries"
handler = {{ exec = ["sh", "-c", "test $WATCHER_ATTEMPT != 1"] }}
concurrency = 3
retry = {{ initial = "300ms", max = "1s", max_attempts = {attempts} }}

[queues.pairs]
path = "pairs"
handler = {{ exec = ["sh", "-c", "test -e ${{WATCHER_PATH%/*}}/../works || exit 78"] }}
legacy = true
grace_age = "1s"
sweep_every = "1s"
concurrency = 2
retry = {{ initial = "300ms", max = "1s", max_attempts = {attempts} }}

[queues.drop]
path = "drop"
handler = {{ python = "traced_handler:read" }}
format = "raw"
suffix = ".csv"
grace_age = "1s"
sweep_every = "1s"
concurrency = 2
"""
HANDLER = "def read(entry):\n    return entry.message, entry.key, entry.path, entry.metadata\n"


@pytest.fixture
def watcher_command(tmp_path):
    """Have the daemon write down, when it ends, the pairs of locks that it took."""
    return [sys.executable, "-P", str(ROOT / "tests/threads/traced_locks.py"), f"{tmp_path}/seen"]


@pytest.fixture
def environment(tmp_path, environment):
    """Have the daemon find the handler of the configuration."""
    (tmp_path / "traced_handler.py").write_text(HANDLER)
    return environment | {"PYTHONPATH": str(tmp_path)}


@pytest.fixture
def traced(tmp_path, start_daemon):
    """Start a daemon of three queues whose locks are traced."""
    for name in ("retries", "pairs", "drop"):
        (tmp_path / name).mkdir()
    (tmp_path / "w.toml").write_text(CONFIGURATION.format(attempts=3))
    return start_daemon(None, "--config", f"{tmp_path}/w.toml")


def put(directory: Path, number: int) -> None:
    """Put an entry into each queue: by enqueue, as a pair and as half of one, by rename."""
    enqueue(directory / "retries", b"message %d" % number)
    (directory / "pairs" / f"{number}.msg").write_bytes(b"message")
    (directory / "pairs" / f"{number}.db").write_bytes(b"{0")
    (directory / "pairs" / f"half{number}.db").write_bytes(b"{0")
    (directory / "drop" / "part.tmp").write_bytes(b"line %d\n" % number)
    (directory / "drop" / "part.tmp").rename(directory / "drop" / f"{number % 3}.csv")
    (directory / "drop" / f"in-place{number}.csv").write_bytes(b"line\n")


def test_a_daemon_takes_its_locks_in_the_order_of_the_table(tmp_path, traced):
    traced.wait_for("ready", 3)
    for number in range(8):
        put(tmp_path, number)
    traced.wait_for("defer", 8, queue="retries")
    traced.wait_for("unhealthy", queue="pairs")
    (tmp_path / "w.toml").write_text(CONFIGURATION.format(attempts=4))
    traced.send(signal.SIGHUP)
    traced.wait_for("reloaded")
    (tmp_path / "works").touch()
    (tmp_path / "retries/.watcher").rename(tmp_path / "retries/.moved")
    for number in range(8, 16):
        put(tmp_path, number)
    traced.send(signal.SIGUSR2)
    traced.wait_for("abandon", queue="pairs")
    traced.wait_for("finish", 16, queue="pairs")
    traced.wait_for("finish", 8, queue="retries")
    assert traced.end() == os.EX_OK, traced.log()
    pairs = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(pairs) > 15
    against = [(outer, inner) for outer, inner in pairs if inner not in may_be_taken(outer)]
    assert not against, "docs/architecture.md, Locks"
