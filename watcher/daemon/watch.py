"""The watch on one queue's directory: opened, armed, checked, and armed again when it is lost.

Guarantees: the path is compared with the open directory every second in which the daemon wakes. A
watch that cannot be armed is tried again at growing intervals, and `Health` says why. A scan begins
after the watch is armed, or after that has failed.
Fails: never.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable

from watcher.arrive.sources import Sources
from watcher.config.queue_settings import Queue
from watcher.config.recorded import record_of
from watcher.daemon.custody import Custody
from watcher.daemon.other_daemons import OtherDaemons
from watcher.daemon.pause import Pause
from watcher.errors import NoSuch, NotPermitted, TryAgain, WatcherError, WatchFailed
from watcher.observe import log
from watcher.observe.health import Health
from watcher.rules.backoff import delay
from watcher.rules.lifecycle import State
from watcher.rules.names import display
from watcher.rules.space import nearly_full
from watcher.spool import inode_numbers, paused, queue_file
from watcher.spool.journal import Journal
from watcher.spool.spool import Spool

ARM_LONGEST = 10.0  # seconds between tries to watch a directory, or to read it
CHECK_PATH = 1.0  # seconds between looks at whether the path still leads to the directory


class Watch:
    """The open directory of one queue, and whether it is watched."""

    def __init__(
        self,
        tag: int,
        settings: Queue,
        sources: Sources,
        health: Health,
        before_disarm: Callable[[], None],
        pause: Pause,
    ) -> None:
        self.tag = tag
        self.settings = settings
        self.spool: Spool | None = None
        self.armed = False
        self.by = ""  # the sources that watch it, in words
        self.next_try = 0.0
        self.check_due: float | None = None  # when `.watcher` is looked at after an event of it
        self.missing = False  # one directory of many is not there, which is no trouble
        self._layout = settings.layout
        self._record = record_of(settings)
        self._sources = sources
        self._before_disarm = before_disarm  # called before events are lost
        self._health = health
        self._failures = 0
        self._next_check = 0.0
        self._lost: Journal | None = None  # the journal of the directory that was given up
        # A spool of this directory that a worker of the settings before a reload still uses.
        self.beside: Callable[[], Spool | None] = _no_spool
        self.custody = Custody(settings.name, health)
        self._other_daemons = OtherDaemons(settings.name, exclusive=settings.exclusive)
        self.pause = pause

    def tick(self, now: float) -> bool:
        """Do what is due; return True if the directory was opened or armed, and must be scanned."""
        if now >= self.next_try and (self.spool is None or not self.armed):
            return self._arm(now)
        if self.spool is not None and now >= self._next_check:
            return self.check_path(now)
        return False

    def _arm(self, now: float) -> bool:
        before = self.spool
        try:
            spool = self.spool or self._open()
            self.pause.look(spool)  # first: once `self.spool` is set, a worker may begin an attempt
            self.spool = spool
            by = self._listen(spool)
        except WatcherError as error:
            if self.settings.template and isinstance(error, NoSuch):
                self._failures += 1
                self.missing, self.next_try = True, now + delay(self._failures, longest=ARM_LONGEST)
                return False
            about = "watch" if isinstance(error, WatchFailed) else "directory"
            self.next_try = self.fail(about, str(error), now)
            return self.spool is not before
        self.armed, self._failures, self.next_try, self.missing = True, 0, 0.0, False
        self._health.trouble("watch", None)
        self._health.trouble("directory", None)
        self.custody.look(spool)
        self.arm_deferred()
        self.pause.look(spool)  # again: no event tells of what was done before the watch
        log.event(self.settings.name, "armed", f"{display(spool.path)} ({by})")
        return True

    def _listen(self, spool: Spool) -> str:
        """Begin to watch; return the sources in words."""
        renames = self.settings.writers == "rename"
        self.by = self._sources.arm(self.tag, spool, self.settings.source, renames=renames)
        return self.by

    def _open(self) -> Spool:
        spool = Spool(os.fsencode(self.settings.path), self._layout, outside=self.settings.outside)
        if (beside := self.beside()) is not None:
            spool.share_inflight(beside)
        self._use_journal(spool)
        spool.use_archive(self.settings.archived, self.settings.target)
        if not spool.writable():
            raise NotPermitted(self._not_writable())
        queue_file.check_version(spool)
        if self.settings.state_dir:
            spool.state_root()  # now, and not when the first entry has to be moved there
        inode_numbers.check(spool)
        spool.check_archives()
        self._other_daemons.join(spool)
        self._other_daemons.look(spool)
        if self._lost is not None:
            spool.journal.inherit(self._lost, "the queue directory was removed or replaced")
            self._lost = None
        return spool

    def _use_journal(self, spool: Spool) -> None:
        settings = self.settings
        spool.use_journal(settings.journal, settings.journal_outside, settings.kept)
        queue_file.prepare_journal(spool, self._record)

    def _not_writable(self) -> str:
        return (
            f"{self.settings.path}: the queue directory is not writable for us, so that entries"
            " could not be removed when done; check its owner and mode"
        )

    def check_writable(self) -> None:
        """Check whether entries can still be removed: a disk with errors becomes read-only."""
        if self.spool is not None:
            writable = self.spool.writable()
            self._health.trouble("mode", None if writable else self._not_writable())
            self._health.trouble("space", self._little_space(self.spool))
            self._check_archive(self.spool)

    def look_for_daemons(self) -> None:
        """Log the daemons that work here too; take the lock anew if `.watcher/` was replaced."""
        if self.spool is None:
            return
        try:
            self._other_daemons.join(self.spool)
        except TryAgain as error:
            self._health.trouble("second daemon", str(error))
        else:
            self._health.trouble("second daemon", None)
        self._other_daemons.look(self.spool)

    def _little_space(self, spool: Spool) -> str | None:
        """Say that the disk is nearly full, before it is."""
        try:
            disk = os.fstatvfs(spool.fd)
        except OSError:
            return None
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        wrong = nearly_full(free, total, disk.f_favail, disk.f_files)
        return f"{self.settings.path}: {wrong}" if wrong else None

    def on_disk(self, refused: str | None) -> None:
        """Take what the disk said to the last step of an entry; None: it is well again.

        A worker calls this. If the directory is not writable, that is the cause; the sweep finds it
        too, but later.
        """
        spool = self.spool
        if refused is None:
            self._health.trouble("disk", None)
            self._health.trouble("mode", None)
        elif spool is not None and not spool.writable():
            self._health.trouble("mode", self._not_writable())
        else:
            self._health.trouble("disk", f"{self.settings.path}: {refused}")

    def on_note(self, error: str) -> None:
        """Take that a note could not be written; the next sweep looks whether it is over."""
        words = f"{self.settings.path}: the note that says why an attempt failed cannot be written"
        if not self._health.has("space"):
            self._health.trouble("space", f"{words}: {error}")

    def _check_archive(self, spool: Spool) -> None:
        """Check whether done entries can be moved to the archive, if there is one."""
        wrong = None
        try:
            spool.check_archives()
        except WatcherError as error:
            wrong = str(error)
        self._health.trouble("archive", wrong)

    def arm_deferred(self) -> bool:
        """Watch `deferred/` too, so that a requeue is seen at once and not by the next sweep.

        And watch `.watcher` itself, which another program may take away. Returns whether every file
        that arrives in `deferred/` gives an event.
        """
        if self.spool is None or not self.armed:
            return False
        try:
            directory = self.spool.make_state_dir(State.DEFERRED)
            seen = self._sources.arm_deferred(self.tag, self.spool, directory)
            self._sources.arm_ours(self.tag, self.spool, self.spool.state_root())
        except (OSError, WatcherError) as error:
            self._health.trouble("deferred", f"deferred/ is looked at by sweeps only: {error}")
            return False
        self._health.trouble("deferred", None)
        self._keep_record(self.spool)
        return seen

    def _keep_record(self, spool: Spool) -> None:
        """Write what the queue is into it, for the commands that look at it."""
        try:
            words = queue_file.keep(spool, self._record)
        except (OSError, WatcherError) as error:
            words = f"queue.json cannot be written: {error}"
        if words:
            log.event(self.settings.name, "settings", words, logging.WARNING)

    def fail(self, about: str, why: str, now: float) -> float:
        """Note a failure; return the moment to try again at."""
        self._failures += 1
        self._health.trouble(about, why)
        return now + delay(self._failures, longest=ARM_LONGEST)

    def works(self) -> None:
        """Note that the directory could be read."""
        if self.armed:
            self._failures = 0

    def check_path(self, now: float, *, thoroughly: bool = False) -> bool:
        """Check whether the path still leads to the open directory, and `.watcher` is the same.

        Returns True if `.watcher` is another directory: what is in it must be listed.
        """
        self._next_check, self.check_due = now + CHECK_PATH, None
        if self.spool is None:
            return False
        if not self.spool.is_current():
            self.lose("the directory was removed or replaced")
        elif self.custody.look(self.spool, thoroughly=thoroughly):
            self.pause.keep(self.spool)
            self.arm_deferred()
            return True
        else:
            self.pause.look(self.spool)
        return False

    def look_at_pause(self) -> None:
        """Look whether the queue is paused: this may have changed."""
        if self.spool is not None:
            self.pause.look(self.spool)

    def on_ours(self, name: bytes, now: float) -> bool:
        """Take an event of `name` in `.watcher`, or of itself; return whether a tick is due."""
        if name == paused.NAME:
            self.look_at_pause()
        elif self.custody.suspect(name):
            self.check_soon(now)
            return True
        return False

    def arm_anew(self) -> None:
        """Have the next `tick` watch the directory anew; it must be scanned then."""
        self._disarm()
        self.armed, self.next_try = False, 0.0

    def check_soon(self, now: float) -> None:
        """Check the path at the next tick; one of many directories a second later.

        Such a directory may be removed at any time, by a program that begins with what is in it:
        a new `.watcher` would be in its way.
        """
        self._next_check = self.check_due = now + CHECK_PATH if self.settings.template else 0.0

    def lose(self, why: str) -> None:
        """Give up the open directory; the next `tick` opens the one that the path leads to."""
        self._disarm()
        self._lost = self._lost if self.spool is None else self.spool.journal
        self.spool, self.armed = None, False
        self._health.trouble("mode", None)
        if not self.settings.template:
            self._health.trouble("directory", f"{self.settings.path}: {why}")

    def take_over(self, before: Watch) -> None:
        """Take the open directory over from the settings before a reload; no event is missed.

        The watch gets this tag before the other tag is given up. If that fails, the next `tick`
        tries again.
        """
        self.custody.take_over(before.custody)
        self._other_daemons.take_over(before._other_daemons)
        self._lost = before._lost
        if before.spool is None:
            return
        self.spool = before.spool
        self.pause.take_over(before.pause)
        if before.settings.exclusive != self.settings.exclusive:
            self.look_for_daemons()
        self._use_journal(self.spool)
        self.spool.use_archive(self.settings.archived, self.settings.target)
        self._check_archive(self.spool)
        if before.armed:
            try:
                self._listen(self.spool)
            except WatcherError as error:
                self.next_try = self.fail("watch", str(error), 0.0)
            else:
                self.armed = True
                self.arm_deferred()

    def follow(self, before: Watch, now: float) -> None:
        """Watch the directory of the settings before a reload, with other rules for names.

        The spool is another one. It is watched before the other tag is given up, so that no event
        is missed.
        """
        self.custody.take_over(before.custody)
        self._other_daemons.take_over(before._other_daemons)
        self._lost = before._lost
        if before.spool is not None:
            self.beside = weakref.ref(before.spool)
            self.tick(now)

    def stop(self) -> None:
        """Stop watching."""
        self._disarm()

    def _disarm(self) -> None:
        """Stop watching; first have it known that events are lost from now on."""
        self._before_disarm()
        self._sources.disarm(self.tag)

    def close(self) -> None:
        """Drop the directory: it is closed with the last claim, so that it keeps no mount busy."""
        self.spool = None


def _no_spool() -> None:
    """Return no spool."""
