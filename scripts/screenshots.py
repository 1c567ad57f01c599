"""`make screenshots`: pictures of the page, of a daemon at work on queues of its own.

    python scripts/screenshots.py [--seconds N] DIRECTORY

A real daemon serves three queues for N seconds (90): `invoices` is healthy; `mail` gets more
entries than it handles, some of them fail, some are rejected, and one hangs; `archive` is paused.
Then a headless Chromium takes the pictures: all queues, one queue and one entry; light, dark and
narrow.
Ends with 1 if the daemon does not start or the page complains of an error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse

from browser import Browser, Page

WIDE, NARROW = 1200, 360  # CSS pixels
HEIGHT = 800
HANDLER = """#!/bin/sh
read -r work seconds <"$WATCHER_FILE"
sleep "${seconds:-0}"
case $work in
    refuse) echo "connection to mx1.example.com:25 refused" >&2; exit 75 ;;
    reject) echo "no such list: test" >&2; exit 65 ;;
esac
"""
CONFIGURATION = """\
[queues.invoices]
path = "{root}/invoices"
handler = {{ exec = ["{root}/handler"] }}
format = "raw"
match = ["*.msg"]

[queues.mail]
path = "{root}/mail"
handler = {{ exec = ["{root}/handler"], timeout = "20m" }}
format = "raw"
match = ["*.msg"]
concurrency = 3

[queues.archive]
path = "{root}/archive"
handler = {{ exec = ["{root}/handler"] }}
format = "raw"
match = ["*.msg"]
"""
QUEUES = ("invoices", "mail", "archive")
# What the writer gives each queue: the work, how long it takes, and how often.
WORK: dict[str, list[tuple[str, float, int]]] = {
    "invoices": [("done", 0.05, 1)],
    "mail": [("done", 0.8, 20), ("refuse", 0.2, 3), ("reject", 0.1, 1)],
    "archive": [("done", 0, 1)],
}


def put(queue: str, number: int, work: str, seconds: float) -> str:
    """Commit one entry by a rename; return its name."""
    name = f"{time.time():.0f}-{number:04}.msg"
    path = os.path.join(queue, name)
    with open(path + ".tmp", "w", encoding="ascii") as file:
        file.write(f"{work} {seconds}\n")
    os.rename(path + ".tmp", path)
    return name


def write(root: str, seconds: float) -> None:
    """Commit entries to all queues for some time."""
    chance = random.Random(9)
    ends = time.monotonic() + seconds
    number = 0
    put(os.path.join(root, "mail"), 0, "done", 3600.0)
    while time.monotonic() < ends:
        for queue, kinds in WORK.items():
            if chance.random() < (0.2 if queue == "archive" else 0.9):
                work, took, _ = chance.choices(kinds, [weight for *_, weight in kinds])[0]
                number += 1
                put(os.path.join(root, queue), number, work, took)
        time.sleep(0.2)


def prepare(root: str) -> str:
    """Make the queues, the handler and the configuration; return the configuration's path."""
    for queue in QUEUES:
        os.mkdir(os.path.join(root, queue))
    handler = os.path.join(root, "handler")
    with open(handler, "w", encoding="ascii") as file:
        file.write(HANDLER)
    os.chmod(handler, 0o755)  # noqa: S103 - a program
    configuration = os.path.join(root, "watcher.toml")
    with open(configuration, "w", encoding="utf-8") as file:
        file.write(CONFIGURATION.format(root=root))
    return configuration


def address_of(daemon: subprocess.Popen[bytes], log: str) -> str:
    """Return the address at which the daemon says that it serves the page."""
    while True:
        ended = daemon.poll() is not None
        with open(log, encoding="utf-8") as file:
            lines = file.read()
        found = re.search(r"the page is served at ([\d.:]+)", lines)
        if found:
            return f"http://{found[1]}/"
        if ended:
            sys.exit(f"screenshots: the daemon ended without a page:\n{lines}")
        time.sleep(0.05)


def take(
    page: Page, directory: str, name: str, *, width: int = WIDE, scheme: str = "light"
) -> None:
    """Take one picture of the whole page."""
    page.resize(width, HEIGHT)
    page.prefer(scheme)
    page.wait("document.fonts.ready.then(() => true)")
    page.screenshot(os.path.join(directory, f"{name}.png"))
    print(os.path.join(directory, f"{name}.png"), flush=True)


def go(page: Page, shown: str, **named: str) -> None:
    """Go to a part of the page, and wait until it is shown."""
    page.evaluate(f"location.hash = {json.dumps(urllib.parse.urlencode(named))}")
    page.wait(f"document.querySelector({json.dumps(shown)})")


def take_all(address: str, directory: str, entry: str) -> list[str]:
    """Take the pictures; return what the page complained of."""
    with Browser() as browser:
        page = browser.page()
        page.resize(WIDE, HEIGHT)
        page.open(address)
        page.wait("document.querySelector('table.queues tbody tr .condition')")
        for suffix, width, scheme in (
            ("light", WIDE, "light"),
            ("dark", WIDE, "dark"),
            ("narrow", NARROW, "light"),
        ):
            go(page, "table.queues")
            take(page, directory, f"all-{suffix}", width=width, scheme=scheme)
            go(page, "figure", queue="mail")
            take(page, directory, f"queue-{suffix}", width=width, scheme=scheme)
        go(page, ".steps", queue="mail", entry=entry)
        take(page, directory, "entry-light")
        return page.complaints()


def failed_most(root: str) -> str:
    """Return the name of the deferred entry that was tried most often."""
    names = os.listdir(os.path.join(root, "mail", ".watcher", "deferred"))
    names = [name for name in names if not name.endswith(".json")]
    stems = [re.sub(r"^.*?(\d{10}-\d{4}\.msg)$", r"\1", name) for name in names]
    return min(stems)  # the oldest


def end(daemon: subprocess.Popen[bytes]) -> None:
    """Stop the daemon and the handler that hangs: the second TERM ends it, too."""
    while daemon.poll() is None:
        daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(0.5)


def main() -> int:
    """Run the daemon and the writer, then the browser; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("directory")
    arguments = parser.parse_args()
    os.makedirs(arguments.directory, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spool-") as root:
        watcher = [sys.executable, "-P", "-m", "watcher"]
        configuration = prepare(root)
        run = [*watcher, "run", "--config", configuration, "--http", "127.0.0.1:0"]
        log = os.path.join(root, "log")
        with open(log, "wb") as errors:
            daemon = subprocess.Popen([*run, "--log-format", "json"], stderr=errors)
        try:
            address = address_of(daemon, log)
            subprocess.run([*watcher, "pause", os.path.join(root, "archive")], check=True)
            write(root, arguments.seconds)
            complaints = take_all(address, arguments.directory, failed_most(root))
        finally:
            end(daemon)
    for each in complaints:
        print(f"screenshots: {each}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
