"""All event sources of this process: inotify, and also polling where inotify does not see all.

On a network or user-space file system the kernel reports only what processes of this machine do;
polling finds the rest, later. Both are used there: `Ready` takes a rename that both report as one
entry. If inotify is not available there, polling alone is used.
Guarantees: each source is opened at its first use. So a process without polled queues has no
polling threads, and a process that gets no inotify instance now tries again at the next `arm`.
Fails: `arm` raises WatchFailed, also without free descriptors: then not even a module can be
imported.
"""

from __future__ import annotations

from collections.abc import Callable

from watcher.arrive.source import Event
from watcher.errors import WatchFailed
from watcher.spool import mounts
from watcher.spool.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watcher.arrive.inotify import Inotify
    from watcher.arrive.parents import Parents
    from watcher.arrive.polling import Polling


class Sources:
    """The event sources that the daemon reads."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._polling: Polling | None = None

    def arm(self, tag: int, spool: Spool, wanted: str, *, renames: bool = False) -> str:
        """Watch a queue; return the sources in words. `wanted`: "auto", "inotify" or "polling".

        `renames` as in `Inotify.arm`.
        """
        blind = spool.filesystem in mounts.EVENTS_BLIND
        if wanted == "polling" or (wanted == "auto" and blind):
            self.polling().arm(tag, spool)
            if wanted == "polling":
                return "polling"
            try:
                self.inotify().arm(tag, spool, renames=renames)
            except WatchFailed as error:
                return f"polling ({error})"
            return "inotify and polling"
        self.inotify().arm(tag, spool, renames=renames)
        return "inotify"

    def arm_deferred(self, tag: int, spool: Spool, directory: int) -> bool:
        """Watch a queue's `deferred/` too, if inotify watches the queue.

        Returns whether every file that arrives there gives an event; False if the queue is polled.
        """
        if self._inotify is None or not self._inotify.watches(tag):
            return False
        self._inotify.arm_deferred(tag, spool, directory)
        return self._polling is None or not self._polling.polls(tag)

    def arm_ours(self, tag: int, spool: Spool, directory: int) -> None:
        """Watch for the loss of a queue's `.watcher/`, if inotify watches the queue."""
        if self._inotify is not None and self._inotify.watches(tag):
            self._inotify.arm_ours(tag, spool, directory)

    @property
    def instance(self) -> Inotify | None:
        """The inotify source, if it is in use."""
        return self._inotify

    @staticmethod
    def parents() -> Parents:
        """Return a new watch for directories that come and go; raise WatchFailed."""
        try:
            from watcher.arrive.parents import Parents
        except ImportError as error:
            raise WatchFailed(f"no inotify here ({error})") from None
        except OSError as error:
            raise WatchFailed(f"inotify cannot be used now: {error.strerror}") from None
        return Parents()

    def inotify(self) -> Inotify:
        """Return the inotify source; raise WatchFailed."""
        if self._inotify is None:
            try:
                from watcher.arrive.inotify import Inotify
            except ImportError as error:
                raise WatchFailed(f"no inotify here ({error}): set source to polling") from None
            except OSError as error:
                raise WatchFailed(f"inotify cannot be used now: {error.strerror}") from None
            self._inotify = Inotify()
        return self._inotify

    def polling(self) -> Polling:
        """Return the polling source; raise WatchFailed."""
        if self._polling is None:
            try:
                from watcher.arrive.polling import Polling

                self._polling = Polling()
            except OSError as error:
                raise WatchFailed(f"polling cannot be begun now: {error.strerror}") from None
        return self._polling

    def _open(self) -> list[Inotify | Polling]:
        return [source for source in (self._inotify, self._polling) if source is not None]

    def filenos(self) -> list[int]:
        """Return the descriptors that become readable when there are events."""
        return [source.fileno() for source in self._open()]

    def reader(self, fd: int) -> Callable[[], list[Event]]:
        """Return the function that reads the events of one of these descriptors."""
        for source in self._open():
            if source.fileno() == fd:
                return source.read
        return list

    def read_all(self) -> list[Event]:
        """Return all events that the kernel has queued now."""
        return [] if self._inotify is None else self._inotify.read_all()

    def disarm(self, tag: int) -> None:
        """Stop watching a queue, by all sources."""
        for source in self._open():
            source.disarm(tag)

    def close(self) -> None:
        """Close all sources."""
        for source in self._open():
            source.close()
