"""The race of 2002, replayed: the reported rule loses accepted messages, this program none.

    python scripts/replay_seed_race.py [--messages 3000] [--writers 4] [--pause 0-0.015]

Real writer processes (`writers.py 2.0.8`, half of them closing `.db` last) commit pairs in a tight
loop with a pause between the halves, twice: first against the rule that the report describes
(`reported_rule.py`), then against `watcher run --legacy` with `watcher sweep` again and again
beside it. Each time what the writers accepted is compared with what was handled. In the second
part some writers die between the halves: their halves must end in orphans/, each of them.
Ends with 1 if this program lost, doubled, changed or misplaced anything.
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
WALK_EVERY = 0.05  # seconds: cron's minute, shortened with everything else
GRACE_AGE = 1.0  # seconds: far above any pause, far below a person's patience
ABANDONED = 5  # writers that die between the halves, in the second part
PATIENCE = 60.0  # seconds for the second part to come to rest


class Score(NamedTuple):
    """What one part came to."""

    rule: str
    accepted: int
    handled: int
    lost: int
    doubled: int
    changed: int
    abandoned: int
    orphans: int
    failed: int  # processes of ours that ended badly

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled or changed, each half was kept, and nothing failed."""
        faults = self.lost + self.doubled + self.changed + self.failed
        return not faults and self.abandoned == self.orphans


class Writers:
    """Several writer processes in a tight loop, and what they accepted."""

    def __init__(self, queue: str, options: argparse.Namespace, abandoned: int) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self.digests: set[str] = set()
        for share, order in _shares(options.messages, options.writers):
            process = _writer(queue, "--count", str(share), "--pause", options.pause, *order)
            self._processes.append(process)
            letters = (writers.letter(number, process.pid) for number in range(share))
            self.digests |= {hashlib.sha256(letter.message).hexdigest() for letter in letters}
        self._processes += [_writer(queue, "--abandon") for _ in range(abandoned)]

    @property
    def running(self) -> bool:
        """Whether any of them still writes."""
        return any(process.poll() is None for process in self._processes)

    def said(self) -> tuple[set[str], set[str]]:
        """Wait for all; return the names committed and the names abandoned."""
        lines = [line for each in self._processes for line in each.communicate()[0].splitlines()]
        split = [line.split(" ", 1) for line in lines]
        return (
            {name for what, name in split if what == "committed"},
            {name for what, name in split if what == "abandoned"},
        )


def _shares(messages: int, writers: int) -> list[tuple[int, tuple[str, ...]]]:
    """Share the messages out; every second writer closes `.db` last."""
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
    """Let the old rule walk while the writers write."""
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
    """Let the daemon and sweeps by hand work while the writers write."""
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
    argv = [sys.executable, "-m", "watcher", command, queue, "--legacy", *options]
    argv += ["--grace-age", f"{GRACE_AGE:g}s", "--", os.path.join(HERE, "count_handler")]
    return subprocess.Popen(argv, env=environment, stdout=log, stderr=log)


def _waiting(queue: str) -> bool:
    """Whether the directory still holds any file of a pair."""
    return any(name.endswith((".db", ".msg")) for name in os.listdir(queue))


def _score(queue: str, record: str, busy: Writers, failed: int) -> Score:
    """Compare what was accepted with what the handler wrote down and what was set aside."""
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
