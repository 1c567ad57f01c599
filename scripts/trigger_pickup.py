"""Measure how soon Mailman 3 picks up a message: by its own polling, and woken by a trigger.

    python scripts/trigger_pickup.py MAILMAN_BIN [--count N] [--seed N]

MAILMAN_BIN is the `bin` of an environment with the whole of Mailman (`pip install mailman`). Its
own `in` runner serves a list, as on a real installation: with its database, one process. Messages
are committed one at a time by Mailman's Switchboard, each at a random moment after the one before
was picked up: when its `.pck` is gone, because the runner renames it first. Three ways:

    polling   `runner --runner=in`: it looks every second
    woken     the same runner, whose sleep is ended by the trigger's command (`woken_runner`)
    once      `runner --once --runner=in` as the trigger's command: a start of Mailman each time,
              and that takes a second or more; so there are a tenth as many messages

Then a burst of messages is committed at once, and the runs are counted. Each message has to be held
for the list's moderator (by its Message-ID, in Mailman's log), once, and no file may be left over.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
WATCHER = Path(sys.executable).parent / "watcher"
BURST = 100  # messages
FEWER = 10  # times, where each run starts Mailman
GAP = 2.0  # seconds, at most, from one message to the next
LOOK = 0.0005  # seconds between two looks whether a message is gone
PATIENCE = 120.0

CONFIG = """\
[mailman]
layout: here
[paths.here]
var_dir: {var}
bin_dir: {bin}
"""
WOKEN = "[runner.in]\nclass: bench.peers.woken_runner.WokenIncoming\n"
QUEUE = """\
[queues.mailman-in]
path = "{queue}"
handler = {{ trigger = [{command}], timeout = "2m" }}
retry = {{ initial = "5s", max = "1m" }}
"""
COMMIT = """\
import sys
from email import message_from_bytes
from mailman.core.switchboard import Switchboard
from mailman.email.message import Message
switchboard = Switchboard("in", sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    name = line.strip()
    text = (
        f"From: ann@example.org\\nTo: test@example.com\\nSubject: {name}\\n"
        f"Message-ID: <{name}@example.org>\\n\\nhello\\n"
    )
    message = message_from_bytes(text.encode(), Message)
    entry = switchboard.enqueue(message, listid="test.example.com", original_size=len(text))
    print(entry, flush=True)
"""


class Mailman:
    """One installation in a directory of its own, with one list."""

    def __init__(self, binaries: Path, place: Path, *, woken: bool) -> None:
        self.binaries = binaries
        self.place = place
        self.queue = place / "var" / "queue" / "in"
        text = CONFIG.format(var=place / "var", bin=binaries)
        (place / "mailman.cfg").write_text(text + (WOKEN if woken else ""))
        self.environment = {
            **os.environ,
            "MAILMAN_CONFIG_FILE": str(place / "mailman.cfg"),
            "PYTHONPATH": str(HERE),
            "WOKEN_BY": str(place),
        }
        for name in ("wake", "done"):
            os.mkfifo(place / name)
        create: list[str | Path] = [
            binaries / "mailman",
            "--run-as-root",
            "create",
            "test@example.com",
        ]
        subprocess.run(create, env=self.environment, check=True, stdout=subprocess.DEVNULL)
        self.queue.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def running(self, argv: list[str | Path]) -> Iterator[None]:
        """Have a process run that serves the queue; it is ended by TERM."""
        with open(self.place / "log", "ab") as log:
            process = subprocess.Popen(
                argv, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)

    def held(self) -> collections.Counter[str]:
        """Return how often each message was held for the moderator."""
        log = self.place / "var" / "logs" / "mailman.log"
        text = log.read_text() if log.exists() else ""
        return collections.Counter(re.findall(r"HOLD: .*message-id=<(\S+)@example\.org>", text))


def wait_until_gone(file: Path) -> float:
    """Return how many seconds it takes until a file has gone."""
    began = time.monotonic()
    while file.exists():
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError(f"{file} was not picked up")
        time.sleep(LOOK)
    return time.monotonic() - began


class Committer:
    """A process that commits a message for each line that it is given."""

    def __init__(self, mailman: Mailman) -> None:
        argv: list[str | Path] = [mailman.binaries / "python", "-c", COMMIT, mailman.queue]
        self._queue = mailman.queue
        self._process = subprocess.Popen(
            argv,
            env=mailman.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the committer has no pipes")
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._stdout.readline()

    def commit(self, *names: str) -> list[Path]:
        """Commit messages; return their files."""
        self._stdin.write("".join(f"{name}\n" for name in names))
        self._stdin.flush()
        return [self._queue / f"{self._stdout.readline().strip()}.pck" for _ in names]

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def command_for(way: str, mailman: Mailman) -> list[str]:
    """Return the command of the trigger."""
    if way == "once":
        return [str(mailman.binaries / "runner"), "--once", "--runner=in"]
    wake, done = mailman.place / "wake", mailman.place / "done"
    return ["sh", "-c", f"echo >'{wake}' && read line <'{done}'"]


def measure(way: str, binaries: Path, count: int, chance: random.Random) -> None:
    """Measure one way and print a line of the table."""
    place = Path(tempfile.mkdtemp(prefix="pickup-"))
    try:
        mailman = Mailman(binaries, place, woken=way == "woken")
        serving: list[list[str | Path]] = []
        many = BURST if way != "once" else BURST // FEWER
        count = count if way != "once" else max(1, count // FEWER)
        if way != "once":
            serving.append([binaries / "runner", "--runner=in"])
        if way != "polling":
            words = ", ".join(f'"{word}"' for word in command_for(way, mailman))
            (place / "watcher.toml").write_text(QUEUE.format(queue=mailman.queue, command=words))
            serving.append([WATCHER, "run", "--config", place / "watcher.toml"])
        with contextlib.ExitStack() as running:
            for argv in serving:
                running.enter_context(mailman.running(argv))
            committer = Committer(mailman)
            (first,) = committer.commit("first")  # until everything has started
            wait_until_gone(first)
            seconds = []
            for number in range(count):
                time.sleep(chance.uniform(0.5, GAP))
                (file,) = committer.commit(f"single-{number}")
                seconds.append(wait_until_gone(file))
            time.sleep(GAP)
            runs = (place / "log").read_text().count("triggered")
            began = time.monotonic()
            for file in committer.commit(*(f"burst-{number}" for number in range(many))):
                wait_until_gone(file)
            burst = time.monotonic() - began
            time.sleep(GAP)
            runs = (place / "log").read_text().count("triggered") - runs
            committer.end()
        names = [f"single-{number}" for number in range(count)]
        names += [f"burst-{number}" for number in range(many)]
        check(way, mailman, {"first", *names})
        ms = sorted(1000 * second for second in seconds)
        print(
            f"| {way} | {statistics.median(ms):.0f} ms | {ms[-1]:.0f} ms | {len(names) + 1} |"
            f" {many} in {burst:.1f} s | {runs or '-'} |",
            flush=True,
        )
    finally:
        shutil.rmtree(place)


def check(way: str, mailman: Mailman, expected: set[str]) -> None:
    """Raise if a message was lost or handled twice, or if a file is left over."""
    held = mailman.held()
    left = [file.name for file in mailman.queue.iterdir() if file.name != ".watcher"]
    if set(held) != expected or set(held.values()) != {1} or left:
        lost, twice = expected - set(held), [name for name in held if held[name] > 1]
        raise RuntimeError(f"{way}: lost {lost}, twice {twice}, left over {left}")


def main() -> None:
    """Measure each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("binaries", type=Path, metavar="MAILMAN_BIN")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=["polling", "woken", "once"])
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {asked.count} messages, seed {asked.seed}")
    print("| | median | longest | handled once, none lost | a burst | its runs |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for way in asked.ways:
        measure(way, asked.binaries.absolute(), asked.count, random.Random(asked.seed))


if __name__ == "__main__":
    main()
