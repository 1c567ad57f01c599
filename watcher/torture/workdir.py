"""The work directory of a torture: a directory of its own in the user's directory.

    DIR/watcher-torture.RANDOM/     0700
      queue/                        the queue under torture
      logs/                         the event logs: what was accepted and what was handled
      tried/                        files for trying the file system
      torture.toml  log of ...      the queue's settings; the output of the processes

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
from watcher.inspect.check_directory import size
from watcher.torture.event_log import LOGS
from watcher.torture.test_message import number_in

PREFIX = "watcher-torture."
QUEUE, LOGS_DIRECTORY, TRIED, CONFIGURATION = "queue", "logs", "tried", "torture.toml"
ROOM = 32 << 20  # bytes that must be free: killed writers leave files behind for half a minute
_HEAD = 4096  # bytes: the number of a message is among the first of its file
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def make(directory: str) -> str:
    """Make the work directory in the user's directory; return its path."""
    path = os.path.join(os.path.abspath(directory), PREFIX + os.urandom(4).hex())
    try:
        status = os.statvfs(directory)
        free = status.f_bavail * status.f_frsize
        if status.f_blocks and free < ROOM:  # 0: a file system without a size, such as ramfs
            raise TryAgain(f"{directory}: {size(free)} free, a torture needs {size(ROOM)}")
        os.mkdir(path, 0o700)
        for name in (QUEUE, LOGS_DIRECTORY, TRIED):
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
    """Remove the work directory; files that cannot be removed stay."""
    shutil.rmtree(path, ignore_errors=True)


def environment(directory: str) -> dict[str, str]:
    """Return this process's environment for the processes of the torture.

    They run this copy of watcher, and no variable of the user's configures it.
    """
    import watcher

    root = os.path.dirname(os.path.dirname(os.path.abspath(watcher.__file__)))
    before = os.environ.get("PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WATCHER_")}
    path = os.pathsep.join([root, before] if before else [root])
    return {
        **kept,
        "PYTHONPATH": path,
        "PYTHONSAFEPATH": "1",
        LOGS: os.path.join(directory, LOGS_DIRECTORY),
    }


def audit(directory: str) -> str | None:
    """Run `watcher audit` on the queue; return what is wrong, "" if nothing is.

    None if this program has no such command, or if no entry was ever handled.
    """
    import importlib.util

    if importlib.util.find_spec("watcher.cli.audit") is None:
        return None
    if not os.path.isdir(os.path.join(directory, QUEUE, ".watcher")):
        return None
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "watcher", "audit", QUEUE, "--config", CONFIGURATION],
        cwd=directory,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if ended.returncode == os.EX_OK:
        return ""
    if ended.returncode == os.EX_NOINPUT:
        return None
    said = (ended.stderr + ended.stdout).decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else f"ended with {ended.returncode}"


def waiting(directory: str) -> bool:
    """Whether files of entries are left in the queue or in deferred/."""
    queue = os.path.join(directory, QUEUE)
    endings = (".pck", ".msg", ".db")
    for place in (queue, os.path.join(queue, ".watcher", "deferred")):
        with contextlib.suppress(FileNotFoundError):
            if any(name.endswith(endings) for name in os.listdir(place)):
                return True
    return False


def on_disk(directory: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return, by number of the message, the directories it is in and the reason in its note."""
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
    """Return the reason in the note beside a file; "" if there is none."""
    with contextlib.suppress(OSError, ValueError):
        with open(os.path.splitext(path)[0] + ".json", encoding="utf-8") as file:
            note = json.load(file)
        return str(note.get("why", ""))
    return ""
