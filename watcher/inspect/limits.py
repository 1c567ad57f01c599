"""The kernel's limits of inotify, and how close this user is to them (proc(5)).

Guarantees: only /proc is read; a process that may not be looked at is left out.
Fails: OSError from `watching` if /proc cannot be listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from watcher.inspect.daemon_user import user
from watcher.rules.finding import OK, WARNING, Check

NEARLY = 0.8  # of a limit


def check_machine() -> Iterator[Check]:
    """Compare each limit with its use; other users' processes have limits of their own."""
    instances, watches = _used()
    whose = f"user {user(os.geteuid())}"
    for name, used in (("max_user_instances", instances), ("max_user_watches", watches)):
        limit = _limit(name)
        if limit is None:
            yield Check(WARNING, name, "no inotify on this machine: queues are polled")
            continue
        near = used >= limit * NEARLY
        advice = f": raise fs.inotify.{name} (sysctl)" if near else ""
        yield Check(WARNING if near else OK, name, f"{used} of {limit} in use by {whose}{advice}")
    queued = _limit("max_queued_events")
    if queued is not None:
        yield Check(OK, "max_queued_events", f"{queued}; a storm of more is found by scanning")


def _limit(name: str) -> int | None:
    try:
        with open(f"/proc/sys/fs/inotify/{name}", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _used() -> tuple[int, int]:
    """Count this user's inotify instances and watches, as far as /proc shows them."""
    instances = watches = 0
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return 0, 0
    for pid in pids:
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                continue
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for fd in descriptors:
            found = _watches(pid, fd)
            instances += found is not None
            watches += found or 0
    return instances, watches


def _watches(pid: str, fd: str) -> int | None:
    """Return the watches of one descriptor; None if it is no inotify instance."""
    try:
        if os.readlink(f"/proc/{pid}/fd/{fd}") != "anon_inode:inotify":
            return None
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as info:
            return sum(line.startswith("inotify ") for line in info)
    except OSError:
        return None


def watching(directory: os.stat_result) -> Iterator[int]:
    """Yield the daemons, as far as /proc shows them, that watch a directory by inotify."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as words:
                if b"watcher" not in words.read() or int(pid) == os.getpid():
                    continue
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        if any(_watches_it(pid, fd, directory) for fd in descriptors):
            yield int(pid)


def _watches_it(pid: str, fd: str, directory: os.stat_result) -> bool:
    try:
        if os.readlink(f"/proc/{pid}/fd/{fd}") != "anon_inode:inotify":
            return False
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as info:
            return any(f" ino:{directory.st_ino:x} " in line for line in info)
    except OSError:
        return False
