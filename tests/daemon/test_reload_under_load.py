"""Reloads under load: 10,000 entries, 16 workers, 50 reloads with other settings each time.

Between two of these reloads comes one that is refused. Each entry is handled once, with its own
content; an entry that fails is deferred, and is handled once more after a later reload.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.daemon.reload_handlers import CALLS, COMMAND, FAILS
from watcher.commit_many import enqueue_many

RELOADS = 50
BETWEEN = {"raw": 124, "mailman": 70, "extra": 6}  # entries between two reloads
WORKERS = 16
FAST = 6  # rounds of entries while reloads come as fast as they can
KEPT = 12  # descriptors that the first entries cost: the process directory and others
MEMORY = 24 << 20  # bytes by which the daemon may grow in 50 reloads

# What a queue's settings may be, one after the other: lists of different lengths, so that they
# come in ever other combinations.
PYTHON = '{ python = "tests.daemon.reload_handlers:handle" }'
EXEC = '{ exec = ["sh", "-c", """COMMAND"""] }'
ISOLATED = '{ python = "tests.daemon.reload_handlers:handle", isolate = true, timeout = "2m" }'
LIMITED = EXEC.replace("] }", '], timeout = "2m" }')
HANDLERS = (PYTHON, EXEC, PYTHON, PYTHON, PYTHON, LIMITED, PYTHON, PYTHON)
# Each worker of an isolated function starts a Python of its own: in the small queue alone.
OF_EXTRA = (PYTHON, ISOLATED, EXEC, PYTHON, ISOLATED.replace(', timeout = "2m"', ""), PYTHON)
CHANGES = {
    "concurrency": (WORKERS, WORKERS - 3),
    "sweep_every": ('"600s"', '"2s"', '"90s"'),
    "exclusive": ("false", "true"),
    "breaker": ("20", "0", "50"),
    "archive": ("", "", '"done/"'),
    "warn_after": ('"10m"', '"0s"'),
    "journal_keep": ('"128M"', '"64M"', '"90d"'),
    "grace_age": ('"5m"', '"1m"', '"3m"', '"2m"'),
    "retry": ('{ initial = "50ms", jitter = 0 }', '{ initial = "20ms", max = "9s", jitter = 0 }'),
}
OF_RAW = {
    "writers": ('"any"', '"rename"', '"any"'),
    "match": ('["*"]', '["*"]', '["*"]', '["raw-*", "extra-*"]'),
}
OF_MAILMAN = {"legacy": ("false", "false", "true", "true"), "source": ('"auto"', '"inotify"')}

# Files that are refused, in turns: the daemon has to go on as before.
TYPING_ERRORS = (
    "concurrency = 999\n",
    'handler = { python = "tests.daemon.reload_handlers:not_there" }\n',
    "sweep_evry = 3\n",
    '[queues.another]\npath = "/var/spool"\nhandler = { exec = ["/not/there"] }\n',
    "]]",
    'state_dir = "/elsewhere"\n',
)


class Place(NamedTuple):
    """Where the test's files are: the configuration, the queues, what the handlers recorded."""

    file: Path
    queues: dict[str, Path]
    calls: Path


@pytest.fixture
def place(tmp_path: Path, environment: dict[str, str]) -> Place:
    queues = {name: tmp_path / name for name in BETWEEN}
    for queue in queues.values():
        queue.mkdir()
    environment[CALLS] = str(tmp_path / "calls")
    root = str(Path(__file__).parent.parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [root, environment.get("PYTHONPATH", "")])
    )
    (tmp_path / "calls").touch()
    return Place(tmp_path / "watcher.toml", queues, tmp_path / "calls")


def configuration(place: Place, number: int, wrong: str = "") -> str:
    """Return the settings of one reload; every third time without the queue `extra`."""
    tables = []
    for shift, (name, path) in enumerate(place.queues.items()):
        if name == "extra" and number % 3 == 2:
            continue
        lists = CHANGES | (OF_MAILMAN if name == "mailman" else OF_RAW)
        lines = [f"[queues.{name}]", f'path = "{path}"']
        if name != "mailman":
            lines.append('format = "raw"')
        for key, values in lists.items():
            value = values[(number + shift) % len(values)]
            if value:
                lines.append(f"{key} = {value}")
        handlers = OF_EXTRA if name == "extra" else HANDLERS
        handler = handlers[(number + shift) % len(handlers)]
        if wrong.startswith("handler") and name == "raw":
            handler = wrong.partition("= ")[2].strip()
        lines.append("handler = " + handler.replace("COMMAND", COMMAND.replace("\\", "\\\\")))
        tables.append("\n".join(lines))
    return "\n".join(tables) + "\n" + ("" if wrong.startswith("handler") else wrong)


def write(place: Place, text: str) -> None:
    new = place.file.with_suffix(".new")
    new.write_text(text)
    new.replace(place.file)


class Writer:
    """Commits the entries of one round, and knows what each of them holds."""

    def __init__(self, place: Place, rounds: int) -> None:
        self._place = place
        self.contents: dict[str, bytes] = {}  # by token
        self.names: dict[str, str] = {}  # by token
        # Mailman's entries are made before, so that no sync makes the storm a drizzle.
        self._drafts = place.file.parent / "drafts"
        self._drafts.mkdir()
        for number in range(1, rounds + 1):
            messages = list(self._messages("mailman", number))
            made = enqueue_many(self._drafts, [(message, {}) for _, message in messages])
            self.names |= {token: name for (token, _), name in zip(messages, made, strict=True)}

    def commit(self, number: int) -> None:
        for token, _ in self._messages("mailman", number):
            file = f"{self.names[token]}.pck"
            (self._drafts / file).rename(self._place.queues["mailman"] / file)
        for queue in ("raw", "extra"):
            path = self._place.queues[queue]
            for token, message in self._messages(queue, number):
                self.names[token] = f"{queue}-{token}"
                scratch = path / f".{token}.tmp"
                scratch.write_bytes(message)
                if queue == "extra":  # which is not always served: a scan, too, sees the rename
                    os.utime(scratch, (0, 0))
                scratch.rename(path / self.names[token])

    def _messages(self, queue: str, number: int) -> Iterator[tuple[str, bytes]]:
        for entry in range(BETWEEN[queue]):
            token = f"{queue}.{number}{FAILS if entry % 23 == 7 else '.'}{entry}"
            body = hashlib.sha256(token.encode()).hexdigest() * (1 + entry % 40)
            self.contents[token] = f"Token: {token}\n\n{body}\n".encode()
            yield token, self.contents[token]


class Use(NamedTuple):
    """What a process has open, and its memory."""

    descriptors: int
    watches: int
    threads: int
    children: int
    memory: int


def use_of(pid: int) -> Use:
    here, watches, children = Path(f"/proc/{pid}"), 0, 0
    descriptors, tasks = list((here / "fdinfo").iterdir()), list((here / "task").iterdir())
    for info in descriptors:
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            watches += info.read_text().count("inotify wd:")
    for task in tasks:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            children += len((task / "children").read_text().split())
    memory = int(re.search(r"VmRSS:\s+(\d+)", (here / "status").read_text())[1]) << 10
    return Use(len(descriptors), watches, len(tasks), children, memory)


def calls_of(place: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.calls.read_bytes().splitlines()]


def waiting(place: Place) -> list[str]:
    """Return the entries that are not handled yet."""
    found = []
    for queue in place.queues.values():
        for directory in (queue, queue / ".watcher/deferred"):
            if directory.exists():
                found += [one.name for one in directory.iterdir() if not one.name.startswith(".")]
    return [name for name in found if name != "done"]


@pytest.mark.slow
def test_each_of_10000_entries_is_handled_once_with_its_content_across_50_reloads(
    start_daemon, place, eventually, run
):
    writer = Writer(place, RELOADS)
    write(place, configuration(place, 0))
    daemon = start_daemon(None, "--config", str(place.file), ready=False)
    daemon.wait_for("ready", 3)
    before = use_of(daemon.process.pid)
    for number in range(1, RELOADS + 1):
        writer.commit(number)
        wrong = TYPING_ERRORS[number % len(TYPING_ERRORS)]
        write(place, configuration(place, number, wrong))
        daemon.send(signal.SIGHUP)
        daemon.wait_for("not reloaded", number)
        write(place, configuration(place, number))
        daemon.send(signal.SIGHUP)
        daemon.wait_for("reloaded", number)
    write(place, configuration(place, 0))
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded", RELOADS + 1)
    assert daemon.wait(lambda: not waiting(place))
    eventually(lambda: is_as_before(before, use_of(daemon.process.pid)))
    assert daemon.end() == 0
    check_calls(place, writer)
    assert not daemon.events("bug")
    for queue in place.queues.values():
        run("audit", queue)


def is_as_before(before: Use, now: Use) -> bool:
    """Whether a daemon that has nothing to do leaked nothing."""
    kept = now.descriptors - before.descriptors  # the queues have deferred/ and an archive now
    same = (now.watches, now.threads, now.children) == (before[1:4])
    return same and kept <= KEPT and now.memory - before.memory <= MEMORY


def check_calls(place: Place, writer: Writer) -> None:
    calls = calls_of(place)
    attempts = collections.Counter((call["token"], call["attempt"]) for call in calls)
    wanted = {(token, 1): 1 for token in writer.contents}
    wanted |= {(token, 2): 1 for token in writer.contents if FAILS in token}
    assert attempts == wanted
    keys: dict[str, str] = {}
    for call in calls:
        token = call["token"]
        assert keys.setdefault(call["key"], token) == token
        assert call["entry"] == writer.names[token]
        if "sha256" in call and call["queue"] != "mailman":
            assert call["sha256"] == hashlib.sha256(writer.contents[token]).hexdigest()
    assert len(keys) == len(writer.contents)


@pytest.mark.slow
def test_reloads_as_fast_as_signals_come_lose_nothing_and_neither_does_a_term_among_them(
    start_daemon, place, eventually
):
    write(place, configuration(place, 0))
    daemon = start_daemon(None, "--config", str(place.file), ready=False)
    daemon.wait_for("ready", 3)
    writer, over = Writer(place, FAST), threading.Event()

    def reload() -> None:
        for number in itertools.cycle(range(1, 37)):
            write(place, configuration(place, number))
            daemon.send(signal.SIGHUP)
            if over.is_set():
                return

    reloading = threading.Thread(target=reload)
    reloading.start()
    for number in range(1, FAST + 1):
        writer.commit(number)
    daemon.wait_for("reloaded", FAST)
    daemon.send(signal.SIGTERM)
    daemon.wait_for("draining")
    over.set()
    reloading.join()
    assert daemon.process.wait(30) == 0
    write(place, configuration(place, 0))
    last = start_daemon(None, "--config", str(place.file), ready=False)
    last.wait_for("ready", 3)
    assert eventually(lambda: not waiting(place))
    assert last.end() == 0
    check_calls(place, writer)
