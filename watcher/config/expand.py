"""Turn the configured queues into one queue for each directory.

A queue whose `path` has a pattern is a template: each directory that matches is a queue of its own,
called NAME/DIRECTORY, with the template's settings.
Guarantees: no directory is in two queues: a plain path comes before a pattern, an earlier pattern
before a later one, a directory before a path to it by a symbolic link. So a user's symbolic link
takes no other user's queue. A directory that is, or lies in, the archive of a queue is no queue.
Fails: never; `expand` returns what could not be looked at.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping

from watcher.config.queue_settings import Queue
from watcher.rules.path_pattern import PathPattern
from watcher.spool.left_behind import left_behind
from watcher.spool.matching import Found, Identity, find_directories


def expand(queues: Iterable[Queue]) -> tuple[dict[str, Queue], list[str]]:
    """Return one queue for each directory, and what is wrong."""
    known = list(queues)
    plain = {settings.name: settings for settings in known if not settings.many}
    taken = identities(plain)
    expanded, troubles = dict(plain), []
    for template in known:
        if template.many:
            found = find_directories(PathPattern.parse(template.path))
            expanded |= of_template(template, found, taken)
            both = found.trouble, entries_left_behind(template, found)
            troubles += [f"queue {template.name}: {trouble}" for trouble in both if trouble]
    return without_archives(expanded), troubles


def without_archives(queues: Mapping[str, Queue]) -> dict[str, Queue]:
    """Leave out the directories of a pattern that are, or lie in, the archive of a queue."""
    archives = {
        os.path.join(settings.path, os.fsdecode(archived.directory))
        for settings in queues.values()
        if (archived := settings.archived) is not None
    }
    if not archives:
        return dict(queues)
    return {
        name: settings
        for name, settings in queues.items()
        if not settings.template or archives.isdisjoint(_with_those_above(settings.path))
    }


def _with_those_above(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = os.path.dirname(path)


def identities(queues: Mapping[str, Queue]) -> set[Identity]:
    """Return which directories the plain paths lead to now."""
    taken = set()
    for settings in queues.values():
        try:
            status = os.stat(settings.path)
        except OSError:
            continue
        taken.add((status.st_dev, status.st_ino))
    return taken


def entries_left_behind(template: Queue, found: Found) -> str:
    """Say where entries lie whose queue directory is gone; "" if there are none."""
    if not template.state_dir or found.unreadable:
        return ""
    pattern = PathPattern.parse(template.path)
    known = {os.fsencode(pattern.below(path) or "") for path in found.directories}
    return left_behind(os.fsencode(template.state_dir), len(pattern.parts), known)


def of_template(template: Queue, found: Found, taken: set[Identity]) -> dict[str, Queue]:
    """Return the queues of one template; adds their directories to those that are `taken`."""
    pattern, queues = PathPattern.parse(template.path), {}
    if template.archive is not None and os.path.isabs(template.archive):
        with contextlib.suppress(OSError):  # the archive of these queues is none of them
            status = os.stat(template.archive)
            taken.add((status.st_dev, status.st_ino))
    target = None
    if template.target is not None:
        with contextlib.suppress(OSError):  # nor is the target of their handler
            status = os.stat(template.target)
            target = (status.st_dev, status.st_ino)
    for path, identity in found.directories.items():
        below = pattern.below(path)
        if below is not None and identity not in taken and identity != target:
            taken.add(identity)
            queue = template.of_directory(path, below)
            queues[queue.name] = queue
    return queues
