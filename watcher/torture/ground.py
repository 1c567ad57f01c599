"""The ground of a torture: a directory of its own in the user's, and nothing beside it.

    DIR/watcher-torture.RANDOM/     0700
      queue/                        what the storm rages over
      books/                        what was accepted and what was handled
      tried/                        what the file system was found out with
      torture.toml  log of ...      the queue's settings; what the processes said

Guarantees: nothing else in DIR is touched. Fails: `make` raises NoSuch, NotPermitted,
CannotCreate or TryAgain.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys

from watcher.errors import CannotCreate, NoSuch, NotPermitted, TryAgain
from watcher.inspect.survey import size
from watcher.torture.handler import BOOKS
from watcher.torture.letter import number_in

PREFIX = "watcher-torture."
QUEUE, BOOKS_DIRECTORY, TRIED, CONFIGURATION = "queue", "books", "tried", "torture.toml"
ROOM = 32 << 20  # bytes free, for half a minute of what killed writers leave behind
_HEAD = 4096  # bytes of a file in which its message says who it is
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def make(directory: str) -> str:
    """Make our directory in the user's; return its path."""
    path = os.path.join(os.path.abspath(directory), PREFIX + os.urandom(4).hex())
    try:
        status = os.statvfs(directory)
        free = status.f_bavail * status.f_frsize
        if status.f_blocks and free < ROOM:  # 0: a file system of no size, as ramfs
            raise TryAgain(f"{directory}: {size(free)} free, a torture needs {size(ROOM)}")
        os.mkdir(path, 0o700)
        for name in (QUEUE, BOOKS_DIRECTORY, TRIED):
            os.mkdir(os.path.join(path, name), 0o700)
    except OSError as error:
        remove(path)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NoSuch(f"{directory}: no such directory") from None
        if error.errno in _DENIED:
            text = f"{directory}: no directory can be made here: {error.strerror}"
            raise NotPermitted(f"{text}; check its owner and mode") from None
        raise CannotCreate(f"{path}: cannot be made: {error.strerror}") from None
    return path


def remove(path: str) -> None:
    """Remove our directory and all that is in it; what cannot be removed stays."""
    shutil.rmtree(path, ignore_errors=True)


def environment(directory: str) -> dict[str, str]:
    """Return our environment without what would configure watcher, so that this one is run."""
    import watcher

    root = os.path.dirname(os.path.dirname(os.path.abspath(watcher.__file__)))
    before = os.environ.get("PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WATCHER_")}
    path = os.pathsep.join([root, before] if before else [root])
    return {
        **kept,
        "PYTHONPATH": path,
        "PYTHONSAFEPATH": "1",
        BOOKS: os.path.join(directory, BOOKS_DIRECTORY),
    }


def audit(directory: str) -> str | None:
    """Have `watcher audit` balance the queue's own journal; return what is wrong, "" for nothing.

    None where this program has no such command, or where no entry was ever handled.
    """
    import importlib.util

    if importlib.util.find_spec("watcher.cli.audit") is None:
        return None
    if not os.path.isdir(os.path.join(directory, QUEUE, ".watcher")):
        return None
    ended = subprocess.run(
        [sys.executable, "-m", "watcher", "audit", QUEUE, "--config", CONFIGURATION],
        cwd=directory,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if ended.returncode == os.EX_OK:
        return ""
    said = (ended.stderr + ended.stdout).decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else f"ended with {ended.returncode}"


def waiting(directory: str) -> bool:
    """Whether anything in the queue or in deferred/ is still to be handled or set aside."""
    queue = os.path.join(directory, QUEUE)
    endings = (".pck", ".msg", ".db")
    for place in (queue, os.path.join(queue, ".watcher", "deferred")):
        with contextlib.suppress(FileNotFoundError):
            if any(name.endswith(endings) for name in os.listdir(place)):
                return True
    return False


def on_disk(directory: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return where each message lies, and why: the directories, and what notes say, by number."""
    queue = os.path.join(directory, QUEUE)
    found: dict[str, list[str]] = {}
    whys: dict[str, str] = {}
    for place, _directories, names in os.walk(queue):
        for name in names:
            if name.endswith((".tmp", ".json")):
                continue
            path = os.path.join(place, name)
            with contextlib.suppress(OSError), open(path, "rb") as file:
                number = number_in(file.read(_HEAD))
                if number is not None:
                    found.setdefault(number, []).append(os.path.relpath(place, queue))
                    whys[number] = _why(path)
    return found, whys


def _why(path: str) -> str:
    """Return what the note beside a file says; "" without one."""
    with contextlib.suppress(OSError, ValueError):
        with open(os.path.splitext(path)[0] + ".json", encoding="utf-8") as file:
            note = json.load(file)
        return str(note.get("why", ""))
    return ""
