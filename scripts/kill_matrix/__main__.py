"""Kill each command of watcher at every system call, or refuse each call; count the losses.

    python scripts/kill_matrix [--only CASE] [--errors] [--every K] [--looking K] [--resume FILE]

For each command, one undisturbed run records its calls. Then there is one run for each call: strace
kills the command at that call (with --errors: strace makes that call fail, once, and then several
in a row). After each run a plain sweep recovers; then every entry must be done, or be in the right
place with all its bytes. Ends with 1 if an entry was lost, early, doubled or unexplained, or if a
run hung or ended with a wrong status; with 75 if strace cannot trace.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import IO, NamedTuple

_SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if _SCRIPTS not in sys.path:  # this file is run as a directory
    sys.path.insert(0, _SCRIPTS)

from kill_matrix import plan, trial, victim  # noqa: E402 - sys.path is set first
from kill_matrix.cases import CASES  # noqa: E402 - the same
from kill_matrix.trial import Point, Result  # noqa: E402 - the same
from kill_matrix.victim import Call  # noqa: E402 - the same

WORK = "work"  # its messages are in a stream, and not in a queue directory
KINDS = ("lost", "early", "doubled", "unexplained", "hung", "exit")


class Task(NamedTuple):
    """One run to make."""

    case: str
    point: Point
    base: str
    keep: str


class Row(NamedTuple):
    """One finished run, as it is written to the file of --resume."""

    case: str
    point: Point
    struck: bool
    killed: bool
    unhealthy: bool
    last: str
    findings: list[tuple[str, str]]


def warm() -> None:
    """Import all modules of watcher, so that imports are not among the counted calls."""
    import contextlib
    import email.parser
    import smtplib
    import tomllib

    import watcher
    from watcher.settle.moves import prepare

    for module in pkgutil.walk_packages(watcher.__path__, "watcher."):
        if not module.name.endswith(".__main__"):
            with contextlib.suppress(ModuleNotFoundError):  # an extra that is not installed
                importlib.import_module(module.name)
    del email, smtplib, tomllib
    prepare()
    victim.be_reaper()


def names() -> list[str]:
    """Return the commands that can be tried here."""
    return [*CASES, *([WORK] if find_spec("nats") else [])]


def attempt(name: str, point: Point | None, base: str, keep: str = "") -> Result:
    """Make one run of a command."""
    if name == WORK:
        from kill_matrix import work  # nats-py may not be installed

        return work.attempt(point, base, keep)
    return trial.attempt(CASES[name], point, base, keep)


def make(task: Task) -> Row:
    """Make one run."""
    result = attempt(task.case, task.point, task.base, task.keep)
    ended = result.ended
    return Row(
        task.case,
        task.point,
        ended.injected,
        ended.status == -signal.SIGKILL,
        result.unhealthy,
        ended.last,
        [(finding.kind, finding.text) for finding in result.findings],
    )


def main() -> int:
    """Make the matrix; return the exit code."""
    options = _options()
    warm()
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kill-matrix-", dir=options.dir) as base:
        try:
            calls = {name: _clean(name, base) for name in options.only or names()}
        except victim.NoTracing as error:
            print(f"kill_matrix: nothing can be traced here: {error}", file=sys.stderr)
            return os.EX_TEMPFAIL
        tasks = [
            Task(name, point, base, options.keep)
            for name, counts in calls.items()
            for point in _points(counts, options)
        ]
        began = time.monotonic()
        rows = list(_made(tasks, options))
    print_matrix(rows, calls, errors=options.errors)
    print(f"{len(rows)} runs in {time.monotonic() - began:.0f} s")
    return 1 if any(row.findings for row in rows) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kill_matrix")
    parser.add_argument("--only", action="append", choices=names(), help="this command")
    parser.add_argument("--errors", action="store_true", help="refuse calls instead of killing")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="every Kth run only")
    parser.add_argument("--looking", type=int, default=4, metavar="K", help="see plan.py [4]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--resume", metavar="FILE", help="keep the results there; skip those made")
    parser.add_argument(
        "--keep", metavar="DIR", default="", help="copy the directories of findings there"
    )
    parser.add_argument("--dir", metavar="DIR", help="make the queues there")
    return parser.parse_args()


def _clean(name: str, base: str) -> list[Call]:
    """Run a command undisturbed; return its calls."""
    result = attempt(name, None, base)
    if result.findings:
        sys.exit(f"kill_matrix: {name}, undisturbed: {result.findings}")
    return result.ended.calls


def _points(calls: list[Call], options: argparse.Namespace) -> list[Point]:
    points = list(plan.refusals(calls) if options.errors else plan.deaths(calls, options.looking))
    return points[options.every // 2 :: options.every] or points[:1]


def _made(tasks: list[Task], options: argparse.Namespace) -> Iterator[Row]:
    """Make the runs that are not in the file of --resume; yield all rows."""
    known: dict[tuple[str, Point], Row] = {}
    if options.resume and os.path.exists(options.resume):
        with open(options.resume, encoding="utf-8") as lines:
            known = {(row.case, row.point): row for row in map(_row, lines)}
    wanted = [task for task in tasks if (task.case, task.point) not in known]
    yield from (known[task.case, task.point] for task in tasks if task not in wanted)
    log = open(options.resume, "a", encoding="utf-8") if options.resume else None  # noqa: SIM115
    with multiprocessing.get_context("fork").Pool(options.jobs, victim.be_reaper) as pool:
        for number, row in enumerate(pool.imap_unordered(make, wanted), 1):
            _tell(row, number, len(wanted))
            _write(row, log)
            yield row
    if log is not None:
        log.close()


def _write(row: Row, log: IO[str] | None) -> None:
    if log is not None:
        log.write(json.dumps(row) + "\n")
        log.flush()


def _row(line: str) -> Row:
    case, point, struck, killed, unhealthy, last, findings = json.loads(line)
    pairs = [(kind, text) for kind, text in findings]
    return Row(case, Point(*point), struck, killed, unhealthy, last, pairs)


def _tell(row: Row, number: int, of: int) -> None:
    for kind, text in row.findings:
        print(f"\n{row.case} {row.point.injection()}  {row.last}\n    {kind}: {text}")
    if sys.stderr.isatty():
        print(f"\r{number}/{of}", end="", file=sys.stderr, flush=True)


def print_matrix(rows: Iterable[Row], calls: dict[str, list[Call]], *, errors: bool) -> None:
    """Print a line for each command."""
    rows = list(rows)
    harmed = ("refused", "unhealthy") if errors else ("killed",)
    heads = ("command", "calls", "runs", *harmed, *KINDS)
    print("\n" + "  ".join(f"{head:>11}" if head != "command" else f"{head:<16}" for head in heads))
    for name, made in calls.items():
        of_it = [row for row in rows if row.case == name]
        found = Counter(kind for row in of_it for kind in {kind for kind, _ in row.findings})
        struck = sum(row.struck if errors else row.killed for row in of_it)
        numbers = [len(made), len(of_it), struck]
        if errors:
            numbers.append(sum(row.unhealthy for row in of_it))
        numbers += [found[kind] for kind in KINDS]
        print(f"{name:<16}  " + "  ".join(f"{number:>11}" for number in numbers))


if __name__ == "__main__":
    sys.exit(main())
