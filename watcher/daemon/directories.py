"""The queues whose `path` is a pattern: directories that match are found, and watched for.

Guarantees: the directories in which others may appear are watched before they are listed, and
listed again with each sweep. A directory that cannot be read now keeps its queues. While the names
in such a directory change all the time, looking takes a twentieth of the daemon's thread at most.
Fails: never; the `Health` of the pattern says what is wrong.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from watcher.arrive.sources import Sources
from watcher.config.expand import (
    entries_left_behind,
    identities,
    of_template,
    without_archives,
)
from watcher.config.queue_settings import Queue
from watcher.errors import WatchFailed, counted
from watcher.observe import log
from watcher.observe.health import Health
from watcher.rules.age import SECOND, Clock
from watcher.rules.path_pattern import PathPattern
from watcher.spool.matching import Found, find_directories

if TYPE_CHECKING:
    from watcher.arrive.parents import Change, Parents

RETRY_AFTER = 10.0  # seconds between looks while something is wrong, at most
PAUSE = 20  # times as long as a look took, until the next one
ROUNDS = 4  # looks one after the other, while new directories have to be watched

_NOTHING = Found({}, [], [], "")


class Template:
    """One pattern, and what matched it last."""

    def __init__(self, settings: Queue) -> None:
        self.settings = settings
        self.health = Health(settings.name)
        self.found = _NOTHING
        self.next_look = 0.0
        self._count = -1  # as it was logged

    def look(self) -> None:
        """List the directories that match."""
        before, self.found = self.found, find_directories(PathPattern.parse(self.settings.path))
        if self.found.unreadable:  # what was there before is not gone
            places = tuple(f"{directory}/" for directory in self.found.unreadable)
            for path, identity in before.directories.items():
                if path.startswith(places):
                    self.found.directories.setdefault(path, identity)

    def looked(self, now: float) -> None:
        """Say how many directories match, if that changed; set the moment of the next look."""
        self.health.trouble("directories", self.found.trouble or None)
        left = entries_left_behind(self.settings, self.found)
        self.health.trouble("entries left behind", left or None)
        wait = self.settings.sweep_every
        self.next_look = now + (wait if self.health else min(wait, RETRY_AFTER))
        if len(self.found.directories) != self._count:
            self._count = len(self.found.directories)
            log.event(self.settings.name, "directories", str(self))

    def __str__(self) -> str:
        count = counted(len(self.found.directories), "directory matches", "directories match")
        return f"{count} {self.settings.path}"

    def concerns(self, change: Change) -> bool:
        """Whether a change may add a directory, or take one away."""
        if change.directory not in self.found.parents:
            return False
        path = os.path.join(change.directory, os.fsdecode(change.name))
        return change.is_directory or path in self.found.directories or os.path.islink(path)


class Directories:
    """All patterns of a daemon. The daemon's thread uses it."""

    def __init__(self, sources: Sources, clock: Clock) -> None:
        self._sources = sources
        self._clock = clock
        self._templates: dict[str, Template] = {}
        self._plain: Mapping[str, Queue] = {}
        self._parents: Parents | None = None
        self._earliest = 0.0  # no look before this moment

    def configure(self, queues: Mapping[str, Queue]) -> None:
        """Take the queues of the configuration; the next `look` finds their directories."""
        self._plain = {name: queue for name, queue in queues.items() if not queue.many}
        before, self._templates = self._templates, {}
        for name, settings in queues.items():
            if settings.many:
                kept = before.get(name)
                same = kept is not None and kept.settings == settings
                self._templates[name] = kept if kept is not None and same else Template(settings)
        self.look_soon(self._templates)
        self._earliest = 0.0

    def look_soon(self, names: Iterable[str]) -> None:
        """Look at the directories of these patterns as soon as possible."""
        for name in names:
            if name in self._templates:
                self._templates[name].next_look = 0.0

    def filenos(self) -> list[int]:
        """Return the descriptors that become readable when directories come or go."""
        return [] if self._parents is None else [self._parents.fileno()]

    def read(self) -> None:
        """Read what came and went; the next `look` finds it."""
        for change in [] if self._parents is None else self._parents.read():
            for template in self._templates.values():
                if template.next_look and template.concerns(change):
                    template.next_look = 0.0

    def due(self) -> float:
        """Return the moment of the next look."""
        moments = (template.next_look for template in self._templates.values())
        return max(self._earliest, min(moments, default=math.inf))

    def look(self) -> dict[str, Queue]:
        """Look where it is due; return one queue for each directory, the plain ones included."""
        began = self._now()
        due = [one for one in self._templates.values() if one.next_look <= began]
        for _ in range(ROUNDS):
            for template in due:
                template.look()
            if not due or not self._watch(due):
                break
        for template in due:
            template.looked(began)
        taken, queues = identities(self._plain), dict(self._plain)
        for template in self._templates.values():
            matching = of_template(template.settings, template.found, taken)
            queues |= {name: queue for name, queue in matching.items() if name not in queues}
        self._earliest = self._now() + PAUSE * (self._now() - began)
        return without_archives(queues)

    def _watch(self, looked: Iterable[Template]) -> bool:
        """Watch the parents; return whether one is new: it must be listed again."""
        wanted = {
            parent
            for template in self._templates.values()
            if template.settings.source != "polling"
            for parent in template.found.parents
        }
        failed: dict[str, str] = {}
        new = False
        try:
            if wanted and self._parents is None:
                self._parents = self._sources.parents()
            if self._parents is not None:
                before = {parent for parent in wanted if self._parents.watches(parent)}
                failed = self._parents.watch(wanted)
                new = bool(wanted - before - failed.keys())
        except WatchFailed as error:
            failed = dict.fromkeys(wanted, str(error))
        for template in looked:
            why = next((failed[one] for one in template.found.parents if one in failed), None)
            late = f"{why}; new directories are found by sweeps only" if why else None
            template.health.trouble("watch", late)
        return new

    def _now(self) -> float:
        return self._clock.mono() / SECOND

    def log_status(self) -> None:
        """Log the health of each pattern, and how many directories match."""
        for name, template in self._templates.items():
            log.event(name, "status", f"{template.health}; {template}")

    def close(self) -> None:
        """Close the watch."""
        if self._parents is not None:
            self._parents.close()
