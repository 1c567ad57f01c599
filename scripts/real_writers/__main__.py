"""Have each installed writer write into a watched raw folder; print what happened as a table.

    python scripts/real_writers [--only TEXT] [--grace 12] [--settle 2] [--settings NAME]
                                [--page FILE] [--dir DIR] [--all-installed]

For each writer: how it commits, by the kernel's events; how long after its last byte the handler
got the file; whether the handler got it early (with how many bytes), twice, or got another file.
Each writer runs into a queue with the default settings, into one with `settle`, and, where a marker
or a companion file can tell more, into one with that. The grace age is shorter than its default.
Servers (OpenSSH, vsftpd, Samba, rsync, lighttpd) run on loopback, on free ports, with a
configuration of this program, which also ends them. A writer that is not installed is named and
skipped; with --all-installed that is an error. Ends with 1 if a row is not as it should be.
--page writes the table into a page as well: `--page docs/writers.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [path for path in (ROOT, os.path.join(ROOT, "scripts")) if path not in sys.path]

from real_writers.case import MARKER, Case, Expected, Place, WriterFailed  # noqa: E402
from real_writers.cases import CASES  # noqa: E402
from real_writers.handler import RECORD  # noqa: E402
from real_writers.observer import Observer, how  # noqa: E402
from real_writers.queues import SWEEP, Queue, queues  # noqa: E402
from real_writers.servers import CannotServe, Servers, ftp_user, has  # noqa: E402
from real_writers.table import Row, as_markdown, as_text, on_page, summary  # noqa: E402
from real_writers.verdict import Handled, Setting, Times, judge, named  # noqa: E402

AT_ONCE = 24  # writers
PATIENCE = 60.0  # seconds to wait for a file that must be handled
ELSEWHERE = "/dev/shm"  # noqa: S108 - another file system


class Table:
    """One run: a daemon, a folder for each writer and setting, and the results."""

    def __init__(self, directory: str, queues: list[Queue]) -> None:
        self._directory, self._queues = directory, queues
        self._patience = max(queue.times.grace for queue in queues) + 2 * SWEEP
        self._record = os.path.join(directory, "record")
        self._served = os.path.join(directory, "queues")
        os.chmod(directory, 0o755)  # noqa: S103 - servers work here as other users
        os.mkdir(self._served, 0o755)
        with open(self._record, "xb"):
            pass
        for queue in queues:
            os.mkdir(self._path(queue), 0o755)
            os.mkdir(os.path.join(directory, queue.name), 0o755)
            if {"vsftpd", "proftpd"} & set(queue.case.needs) and os.geteuid() == 0:
                os.chown(self._path(queue), ftp_user(), -1)

    def _path(self, queue: Queue) -> str:
        return os.path.join(self._served, queue.name)

    def rows(self) -> list[Row]:
        """Have every writer write; return a row for each."""
        with contextlib.ExitStack() as undo:
            far = undo.enter_context(_elsewhere(self._directory))
            servers = undo.enter_context(Servers(self._directory, self._served))
            undo.enter_context(self._daemon())
            observer = undo.enter_context(Observer(map(self._path, self._queues)))
            with ThreadPoolExecutor(AT_ONCE) as pool:
                runs = {
                    queue.name: pool.submit(self._write, queue, servers, far)
                    for queue in self._queues
                }
            found = {queue: run.result() for queue, run in runs.items()}
            self._await({name: each for name, each in found.items() if not isinstance(each, str)})
            time.sleep(self._patience)  # time for files that should not be handled
            rows: dict[str, Row] = {}
            for queue in self._queues:
                row = rows.setdefault(queue.case.name, Row(queue.case, {}))
                rows[queue.case.name] = self._judged(row, queue, found[queue.name], observer)
            return list(rows.values())

    def _judged(self, row: Row, queue: Queue, result: Expected | str, observer: Observer) -> Row:
        if isinstance(result, str):
            return row._replace(failed=result)
        handled = [one for one in self._handled() if one.queue == queue.name]
        events = [event for event in observer.events if event.directory == self._path(queue)]
        outcome = judge(queue.case, queue.setting, result, handled, events, queue.times)
        names = named(result, handled, events)
        told = how(events, next(iter(names))) if names else "nothing to take"
        return row._replace(how=row.how or told, outcomes={**row.outcomes, queue.setting: outcome})

    def _write(self, queue: Queue, servers: Servers, far: str) -> Expected | str:
        """Have a writer write; return what the handler must get, or why there is nothing."""

        def at_work(name: str) -> None:
            _wait(lambda: name in {one.name for one in self._handled(queue.name, at_work=True)})

        elsewhere = os.path.join(far, queue.name) if far else ""
        if elsewhere:
            os.mkdir(elsewhere)
        beside = os.path.join(self._directory, queue.name)
        place = Place(self._path(queue), beside, elsewhere, queue.name, servers, at_work)
        try:
            expected = queue.case.write(place)
            if queue.setting is Setting.MARKER and queue.case.marked_by_us:
                for name in expected:
                    with open(place.path(MARKER.format(name=name)), "xb"):
                        pass
        except CannotServe as error:
            return f"{'wrong' if os.geteuid() == 0 else 'skipped'}: {error}"
        except (WriterFailed, OSError) as error:
            return f"wrong: {queue.setting.value}: {error}"
        return expected

    def _await(self, expected: dict[str, Expected]) -> None:
        def all_there() -> bool:
            there = {(one.queue, one.size) for one in self._handled()}
            return all(
                (queue, len(each[-1])) in there
                for queue, files in expected.items()
                for each in files.values()
            )

        with contextlib.suppress(WriterFailed):  # the rows show what is missing
            _wait(all_there, self._patience + 15.0)

    def _handled(self, queue: str | None = None, *, at_work: bool = False) -> list[Handled]:
        found = []
        with open(self._record, encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                if bool(told.pop("at_work", False)) == at_work and queue in {None, told["queue"]}:
                    found.append(Handled(**told))
        return found

    @contextlib.contextmanager
    def _daemon(self) -> Iterator[None]:
        config, log = (os.path.join(self._directory, name) for name in ("watcher.toml", "log"))
        with open(config, "w", encoding="utf-8") as file:
            for queue in self._queues:
                file.write(f'[queues.{queue.name}]\npath = "{self._path(queue)}"\n')
                file.write('handler = { python = "real_writers.handler:handle" }\n')
                file.writelines(
                    f"{option} = {json.dumps(value)}\n" for option, value in queue.options().items()
                )
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WATCHER_")},
            "PYTHONPATH": os.pathsep.join((ROOT, os.path.join(ROOT, "scripts"))),
            RECORD: self._record,
        }
        run = [sys.executable, "-P", "-m", "watcher", "run", "--config", config]
        with open(log, "wb") as output:
            daemon = subprocess.Popen(
                [*run, "--log-format", "json"], env=environment, stdout=output, stderr=output
            )
        try:
            _wait(lambda: _lines(log, "ready") == len(self._queues) or daemon.poll() is not None)
            if daemon.poll() is not None:
                with open(log, encoding="utf-8") as lines:
                    sys.exit(f"real_writers: the daemon ended: {lines.read()[-500:]}")
            for rounds in (1, 2):  # what it does once for each of hundreds of queues is done then
                daemon.send_signal(signal.SIGUSR1)
                self._wait_for_status(log, rounds * len(self._queues))
            yield
        finally:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    @staticmethod
    def _wait_for_status(log: str, wanted: int) -> None:
        _wait(lambda: _lines(log, "status") >= wanted)


def _lines(log: str, event: str) -> int:
    """Return how many lines of the log have this event."""
    with open(log, "rb") as lines:
        return lines.read().count(f'"event": "{event}"'.encode())


def _wait(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise WriterFailed("waited in vain for the daemon")
        time.sleep(0.05)


@contextlib.contextmanager
def _elsewhere(directory: str) -> Iterator[str]:
    """Make a directory on another file system; "" if there is none."""
    there = os.path.isdir(ELSEWHERE) and os.access(ELSEWHERE, os.W_OK)
    if not there or os.stat(ELSEWHERE).st_dev == os.stat(directory).st_dev:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="real-writers-", dir=ELSEWHERE) as far:
        yield far


def main() -> int:
    """Print the table; return the exit code."""
    options = _options()
    settings = [Setting(name) for name in options.settings or [each.value for each in Setting]]
    chosen = [case for case in CASES if _chosen(case, options.only)]
    missing = {case.name: [p for p in case.needs if not has(p)] for case in chosen}
    cases = [case for case in chosen if not missing[case.name]]
    times = Times(options.grace, options.settle)
    began = time.monotonic()
    directory = tempfile.mkdtemp(prefix="real-writers-", dir=options.dir)
    try:
        rows = Table(directory, queues(cases, settings, times)).rows()
    finally:
        if options.keep:
            os.rename(directory, options.keep)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    rows += [
        Row(case, {}, failed=f"skipped: not installed: {', '.join(missing[case.name])}")
        for case in chosen
        if missing[case.name]
    ]
    print(_told(rows, times, settings))
    if options.page:
        with open(options.page, "r+", encoding="utf-8") as page:
            written = on_page(page.read(), _told(rows, times, settings, markdown=True))
            page.seek(0)
            page.truncate()
            page.write(written)
    wrong, skipped = (sum(getattr(row, what) for row in rows) for what in ("wrong", "skipped"))
    print(
        f"\n{len(rows)} writers: {len(rows) - wrong - skipped} as they should be,"
        f" {wrong} wrong, {skipped} skipped; {time.monotonic() - began:.0f} s"
    )
    return 1 if wrong or (options.all_installed and skipped) else 0


def _chosen(case: Case, only: list[str]) -> bool:
    return not only or any(text in case.name for text in only)


def _told(rows: list[Row], times: Times, settings: list[Setting], *, markdown: bool = False) -> str:
    """Return the table and the lines that count it."""
    counted = "\n".join(
        f"* {each.value}: {summary(rows, each)}"
        if markdown
        else f"{each.value:<8}  {summary(rows, each)}"
        for each in settings
    )
    return (
        f"Grace age {times.grace:g} s, a sweep each {SWEEP:g} s, settle {times.settle:g} s.\n\n"
        f"{as_markdown(rows) if markdown else as_text(rows)}\n\n{counted}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="real_writers")
    parser.add_argument(
        "--only", metavar="TEXT", action="append", help="only writers with TEXT in their name"
    )
    parser.add_argument("--grace", type=float, default=12.0, help="grace age, seconds [12]")
    parser.add_argument("--settle", type=float, default=2.0, help="settle, seconds [2]")
    parser.add_argument(
        "--settings",
        action="append",
        choices=[each.value for each in Setting],
        help="only this column; may be repeated",
    )
    parser.add_argument("--page", metavar="FILE", help="write the table into this page as well")
    parser.add_argument("--dir", help="make the folders there")
    parser.add_argument("--keep", metavar="DIR", help="leave everything there, same file system")
    parser.add_argument("--all-installed", action="store_true", help="none may be skipped")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
