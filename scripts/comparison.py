"""Try five ways to act on files in a directory with the same six events; print what came of it.

    python scripts/comparison.py [--only PROGRAM] [--trial TRIAL]

The programs: this one; incron; inoticoming; `inotifywait -m` in a shell loop; a watchdog observer
with the handler in its callback. Each runs its handler for the files of one directory; the handler
writes the name and the size of what it read. A program that is not installed is left out.
The table in docs/comparison.md is what this printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FILES = 20_000  # more than the kernel's event queue holds
START = "start"  # what the files are called that show that a program is at work
WHOLE = 200_000  # bytes of the file that is written slowly
UNTIL = 20.0  # seconds to wait for an effect

HANDLER = """\
#!/bin/sh
# The name, the bytes that were read; the file is removed, as a consumer does.
path=${1:-$WATCHER_FILE}
name=$(basename "${1:-$WATCHER_ENTRY}")
case $name in
*.csv) ;;
*) exit 0 ;;
esac
if [ -e "$ROOM/fail" ]; then
    rm "$ROOM/fail"
    echo "$name failed" >>"$ROOM/log"
    exit 75
fi
[ ! -e "$ROOM/slow" ] || { echo "$name began" >>"$ROOM/log"; sleep 3; }
bytes=$(wc -c <"$path") || exit 75
echo "$name $bytes" >>"$ROOM/log"
[ -z "$1" ] || rm -f "$1"
"""

INCRON = """\
system_table_dir = {room}/tables
user_table_dir = {room}/none
lockfile_dir = {room}
lockfile_name = incrond
"""

WATCHER = """\
[queues.drop]
path = "{room}/drop"
handler = {{ exec = ["{room}/handler"] }}
format = "raw"
suffix = ".csv"
settle = "2s"
retry = {{ initial = "1s" }}
"""

WATCHDOG = """\
import subprocess, sys, time
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

class Call(FileSystemEventHandler):
    def on_closed(self, event):
        subprocess.run([sys.argv[2], event.src_path])
    def on_moved(self, event):
        subprocess.run([sys.argv[2], event.dest_path])
    def on_created(self, event):  # a rename from another directory is this, too
        subprocess.run([sys.argv[2], event.src_path])

observer = Observer()
observer.schedule(Call(), sys.argv[1])
observer.start()
while True:
    time.sleep(60)
"""


class Room:
    """A directory for one trial: the drop folder, the handler, and its log."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.drop = self.path / "drop"
        self.elsewhere = self.path / "elsewhere"
        self.handler = self.path / "handler"
        self.log = self.path / "log"
        for directory in (self.drop, self.elsewhere, self.path / "tables", self.path / "none"):
            directory.mkdir()
        self.handler.write_text(HANDLER)
        self.handler.chmod(0o755)
        (self.path / "observer.py").write_text(WATCHDOG)
        (self.path / "incron.conf").write_text(INCRON.format(room=path))
        (self.path / "watcher.toml").write_text(WATCHER.format(room=path))
        events = "IN_CLOSE_WRITE,IN_MOVED_TO"
        table = f"{self.drop} {events} /usr/bin/env ROOM={path} {self.handler} $@/$#\n"
        (self.path / "tables" / "drop").write_text(table)

    def rename_in(self, name: str, text: str = "hello\n") -> None:
        """Commit a file as a careful writer does."""
        (self.elsewhere / name).write_text(text)
        os.rename(self.elsewhere / name, self.drop / name)

    def lines(self) -> list[str]:
        """Return what the handler wrote of the files of the trial."""
        return [line for line in self.all_lines() if not line.startswith(START)]

    def all_lines(self) -> list[str]:
        """Return what the handler wrote."""
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text().splitlines()
        return []

    def wait(self, wanted: Callable[[list[str]], bool]) -> list[str]:
        """Wait until the log is as wanted, or until nothing comes any more."""
        deadline, size, since = time.monotonic() + UNTIL, -1, time.monotonic()
        while True:
            lines, now = self.lines(), time.monotonic()
            if len(lines) != size:
                size, since, deadline = len(lines), now, now + UNTIL
            if wanted(lines) or now > deadline:
                return lines
            if size > 0 and now - since > UNTIL / 2:
                return lines
            time.sleep(0.05)


def commands(room: Room) -> dict[str, list[str]]:
    """Return how each program is started."""
    loop = (
        f"inotifywait -m -q -e close_write -e moved_to --format %f {room.drop} |"
        f' while IFS= read -r name; do {room.handler} {room.drop}/"$name"; done'
    )
    call = [str(room.handler), f"{room.drop}/{{}}", ";"]
    return {
        "watcher": [
            sys.executable,
            "-P",
            "-m",
            "watcher",
            "run",
            "--config",
            f"{room.path}/watcher.toml",
        ],
        "incron": ["incrond", "-n", "-f", f"{room.path}/incron.conf"],
        "inoticoming": ["inoticoming", "--foreground", str(room.drop), "--suffix", ".csv", *call],
        "inotifywait": ["sh", "-c", loop],
        "watchdog": [
            *(sys.executable, f"{room.path}/observer.py"),
            *(str(room.drop), str(room.handler)),
        ],
    }


class Running:
    """One program at work in a room."""

    def __init__(self, program: str, room: Room) -> None:
        self._argv = commands(room)[program]
        self._room = room
        self.start()

    def start(self) -> None:
        """Start it, and wait until it sees a file."""
        environment = {**os.environ, "ROOM": str(self._room.path)}
        self.process = subprocess.Popen(
            self._argv,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        before, deadline = len(self._room.all_lines()), time.monotonic() + UNTIL
        for number in range(100):
            self._room.rename_in(f"{START}{number}.csv")
            time.sleep(0.1)
            if len(self._room.all_lines()) > before:
                break
        while list(self._room.drop.glob(f"{START}*")) and time.monotonic() < deadline:
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        """Signal it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        """Kill it."""
        self.signal(signal.SIGKILL)
        self.process.wait()


def renamed(_running: Running, room: Room) -> str:
    """Rename a file in."""
    began = time.monotonic()
    room.rename_in("a.csv")
    lines = room.wait(lambda lines: len(lines) >= 1)
    return f"after {1000 * (time.monotonic() - began):.0f} ms" if lines else "never"


def in_place(_running: Running, room: Room) -> str:
    """Write a file in place; open, write and close it twice, as a scanner does."""
    path = room.drop / "a.csv"
    for _ in range(2):
        with path.open("ab") as file:
            file.write(b"x" * (WHOLE // 2))
        time.sleep(1.0)
    lines = room.wait(lambda lines: f"a.csv {WHOLE}" in lines)
    seen = [int(line.split()[1]) for line in lines]
    if seen == [WHOLE]:
        return "whole, once"
    return " and then ".join("whole" if size == WHOLE else "a part" for size in seen) or "never"


def was_down(running: Running, room: Room) -> str:
    """Rename files in while the program does not run."""
    running.end()
    for number in range(3):
        room.rename_in(f"a{number}.csv")
    time.sleep(0.1)
    running.start()
    left = len(list(room.drop.glob("a*.csv")))
    deadline = time.monotonic() + UNTIL
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = len(list(room.drop.glob("a*.csv")))
    return "handled at the start" if left == 0 else f"{left} of 3 never handled"


def fails(_running: Running, room: Room) -> str:
    """Let the handler fail once."""
    (room.path / "fail").touch()
    room.rename_in("a.csv")
    lines = room.wait(lambda lines: "a.csv 6" in lines)
    return "tried again" if "a.csv 6" in lines else "not tried again"


def killed(running: Running, room: Room) -> str:
    """Kill the program while its handler runs, and start it again."""
    (room.path / "slow").touch()
    room.rename_in("a.csv")
    room.wait(lambda lines: "a.csv began" in lines)
    running.end()
    (room.path / "slow").unlink()
    running.start()
    deadline = time.monotonic() + UNTIL
    while (room.drop / "a.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return "tried again" if not (room.drop / "a.csv").exists() else "not tried again"


def paused(running: Running, room: Room) -> str:
    """Rename many files in while the program cannot read its events."""
    running.signal(signal.SIGSTOP)
    for number in range(FILES):
        room.rename_in(f"a{number}.csv", "")
    running.signal(signal.SIGCONT)
    last, since = FILES, time.monotonic()
    while last and time.monotonic() - since < UNTIL:
        left = sum(1 for name in os.listdir(room.drop) if name.endswith(".csv"))
        if left != last:
            last, since = left, time.monotonic()
        time.sleep(0.2)
    return f"{FILES - last:,} of {FILES:,} handled"


TRIALS = {
    "renamed in": renamed,
    "written in place, twice": in_place,
    "came while it was down": was_down,
    "the handler fails once": fails,
    "killed with a file in hand": killed,
    "many while it is stopped": paused,
}


@contextlib.contextmanager
def room_for(program: str) -> Iterator[tuple[Room, Running]]:
    """Yield a new room in which a program is at work."""
    with tempfile.TemporaryDirectory(prefix="comparison-") as path:
        room = Room(path)
        running = Running(program, room)
        try:
            yield room, running
        finally:
            running.end()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="comparison.py")
    parser.add_argument("--only", action="append", metavar="PROGRAM")
    parser.add_argument("--trial", action="append", metavar="TRIAL", choices=list(TRIALS))
    options = parser.parse_args()
    programs = options.only or ["watcher", "incron", "inoticoming", "inotifywait", "watchdog"]
    here = [one for one in programs if one in ("watcher", "watchdog") or shutil.which(BINARY[one])]
    for missing in sorted(set(programs) - set(here)):
        print(f"comparison.py: {missing} is not installed", file=sys.stderr)
    print(f"| what happens | {' | '.join(here)} |\n|{' --- |' * (len(here) + 1)}")
    for name in options.trial or TRIALS:
        row = []
        for program in here:
            with room_for(program) as (room, running):
                row.append(TRIALS[name](running, room))
        print(f"| {name} | {' | '.join(row)} |", flush=True)
    return 0


BINARY = {"incron": "incrond", "inoticoming": "inoticoming", "inotifywait": "inotifywait"}

if __name__ == "__main__":
    sys.exit(main())
