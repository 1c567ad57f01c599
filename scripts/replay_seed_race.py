"""The race of 2002, replayed: the reported rule loses accepted messages, watcher loses none.

    python scripts/replay_seed_race.py [--messages 3000] [--writers 4] [--pause 0-0.015]

Writer processes (`writers.py 2.0.8`, half of them closing `.db` last) commit pairs in a tight loop
with a pause between the two files. They run twice: first beside the rule that the report describes
(`reported_rule.py`), then beside `watcher run --legacy` and repeated `watcher sweep`. Each time the
committed messages are compared with the handled ones. In the second part some writers die between
the two files: each such file must end in orphans/.
Ends with 1 if watcher lost, doubled, changed or misplaced a message.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import IO, NamedTuple

import reported_rule
import writers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
WALK_EVERY = 0.05  # seconds: the minute of cron, shortened like all other times
GRACE_AGE = 1.0  # seconds: much longer than any pause
ABANDONED = 5  # writers that die between the two files, in the second part
PATIENCE = 60.0  # seconds to wait until the second part is finished


class Score(NamedTuple):
    """The result of one part."""

    rule: str
    accepted: int
    handled: int
    lost: int
    doubled: int
    changed: int
    abandoned: int
    orphans: int
    failed: int  # processes that failed

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled or changed, each half was kept, and nothing failed."""
        faults = self.lost + self.doubled + self.changed + self.failed
        return not faults and self.abandoned == self.orphans


class Writers:
    """Several writer processes in a tight loop, and what they committed."""

    def __init__(self, queue: str, options: argparse.Namespace, abandoned: int) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self.digests: set[str] = set()
        for seed, (share, order) in enumerate(_shares(options.messages, options.writers)):
            pauses = ("--pause", options.pause, "--seed", str(seed))
            process = _writer(queue, "--count", str(share), *pauses, *order)
            self._processes.append(process)
            messages = (writers.message_for(number, process.pid) for number in range(share))
            self.digests |= {hashlib.sha256(each.message).hexdigest() for each in messages}
        self._processes += [_writer(queue, "--abandon") for _ in range(abandoned)]

    @property
    def running(self) -> bool:
        """Whether any writer still runs."""
        return any(process.poll() is None for process in self._processes)

    def said(self) -> tuple[set[str], set[str]]:
        """Wait for all writers; return the names committed and the names abandoned."""
        lines = [line for each in self._processes for line in each.communicate()[0].splitlines()]
        split = [line.split(" ", 1) for line in lines]
        return (
            {name for what, name in split if what == "committed"},
            {name for what, name in split if what == "abandoned"},
        )


def _shares(messages: int, writers: int) -> list[tuple[int, tuple[str, ...]]]:
    """Divide the messages among the writers; every second writer closes `.db` last."""
    return [
        (messages // writers + (index < messages % writers), ("--db-closed-last",) * (index % 2))
        for index in range(writers)
    ]


def _writer(queue: str, *options: str) -> subprocess.Popen[str]:
    program = os.path.join(HERE, "writers.py")
    return subprocess.Popen(
        [sys.executable, program, "2.0.8", queue, *options], stdout=subprocess.PIPE, text=True
    )


def against_the_reported_rule(options: argparse.Namespace) -> Score:
    """Run the old rule again and again while the writers write."""
    with tempfile.TemporaryDirectory(prefix="race-") as queue:
        busy = Writers(queue, options, abandoned=0)
        handled: list[str] = []
        while busy.running:
            handled += reported_rule.walk(queue)
            time.sleep(WALK_EVERY)
        handled += reported_rule.walk(queue)
        accepted, _ = busy.said()
    doubled = len(handled) - len(set(handled))
    lost = len(accepted - set(handled))
    return Score("as reported in 2002", len(accepted), len(set(handled)), lost, doubled, 0, 0, 0, 0)


def against_this_program(options: argparse.Namespace) -> Score:
    """Run the daemon and sweeps while the writers write."""
    with tempfile.TemporaryDirectory(prefix="race-") as directory:
        queue = os.path.join(directory, "queue")
        record = os.path.join(directory, "record")
        os.mkdir(queue)
        environment = os.environ | {"RACE_RECORD": record, "PYTHONPATH": ROOT}
        with open(os.path.join(directory, "log"), "w+") as log:
            daemon = _watcher("run", queue, "--sweep-every", "1s", log=log, environment=environment)
            busy = Writers(queue, options, ABANDONED)
            deadline = time.monotonic() + PATIENCE
            statuses = []
            while (busy.running or _waiting(queue)) and time.monotonic() < deadline:
                sweep = _watcher("sweep", queue, log=log, environment=environment)
                statuses.append(sweep.wait())
            daemon.terminate()
            statuses.append(daemon.wait())
            log.seek(0)
            failed = len(statuses) - statuses.count(0)
            if failed:
                print(log.read(), f"processes of ours ended with {statuses}", sep="\n")
        return _score(queue, record, busy, failed)


def _watcher(
    command: str, queue: str, *options: str, log: IO[str], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start `watcher run` or `watcher sweep` on the queue with the counting handler."""
    argv = [sys.executable, "-P", "-m", "watcher", command, queue, "--legacy", *options]
    argv += ["--grace-age", f"{GRACE_AGE:g}s", "--", os.path.join(HERE, "count_handler")]
    return subprocess.Popen(argv, env=environment, stdout=log, stderr=log)


def _waiting(queue: str) -> bool:
    """Whether the directory still holds any file of a pair."""
    return any(name.endswith((".db", ".msg")) for name in os.listdir(queue))


def _score(queue: str, record: str, busy: Writers, failed: int) -> Score:
    """Compare the committed messages with the handler's record and with orphans/."""
    accepted, abandoned = busy.said()
    calls: list[list[str]] = []
    with contextlib.suppress(FileNotFoundError), open(record) as lines:
        calls = [line.split() for line in lines]
    times = Counter(name for name, _ in calls)
    orphans = {os.path.splitext(name)[0] for name in _listed(queue, ".watcher", "orphans")}
    return Score(
        rule="this program",
        accepted=len(accepted),
        handled=len(times),
        lost=len(accepted - times.keys()),
        doubled=sum(count - 1 for count in times.values()),
        changed=sum(digest not in busy.digests for _, digest in calls),
        abandoned=len(abandoned),
        orphans=len(orphans & abandoned) - len(orphans - abandoned),
        failed=failed,
    )


def _listed(*path: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(os.path.join(*path))
    return []


def _table(scores: list[Score]) -> None:
    """Print one line for each part."""
    heads = ("accepted", "handled", "lost", "doubled", "changed", "abandoned", "orphans", "failed")
    print(f"{'rule':<22}" + "".join(f"{head:>11}" for head in heads))
    for score in scores:
        print(f"{score.rule:<22}" + "".join(f"{value:>11}" for value in score[1:]))


def main(argv: list[str]) -> int:
    """Run both parts, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description="Replay the race of 2002 against both rules.")
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--pause", default="0-0.015", help="seconds between the halves")
    options = parser.parse_args(argv)
    print(
        f"{options.writers} writers, {options.messages} messages,"
        f" {options.pause} s between the halves\n",
        flush=True,
    )
    theirs = against_the_reported_rule(options)
    ours = against_this_program(options)
    _table([theirs, ours])
    return 0 if ours.clean and ours.accepted == options.messages else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
