"""The sources of this process as one: inotify where it sees, polling where it does not.

Guarantees: each is opened at its first use only, so that a process without polled queues has no
polling threads, and one that cannot have an inotify instance yet gets it when there is one.
Fails: `arm` raises WatchFailed, out of descriptors too: not even a module can be opened then.
"""

from __future__ import annotations

from collections.abc import Callable

from watcher.arrive.source import Hint
from watcher.errors import WatchFailed
from watcher.spool import mounts
from watcher.spool.spool import Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watcher.arrive.inotify import Inotify
    from watcher.arrive.polling import Polling


class Sources:
    """What the daemon reads hints from."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._polling: Polling | None = None

    def arm(self, tag: int, spool: Spool, wanted: str) -> str:
        """Watch a queue; return by what. `wanted` is "auto", "inotify" or "polling"."""
        blind = spool.filesystem in mounts.EVENTS_BLIND
        if wanted == "polling" or (wanted == "auto" and blind):
            self.polling().arm(tag, spool)
            return "polling"
        self.inotify().arm(tag, spool)
        return "inotify"

    def arm_deferred(self, tag: int, spool: Spool, directory: int) -> bool:
        """Watch a queue's `deferred/` too, where inotify watches the queue; say whether it does."""
        if self._inotify is None or not self._inotify.watches(tag):
            return False
        self._inotify.arm_deferred(tag, spool, directory)
        return True

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
        """Return the descriptors that become readable when there are hints."""
        return [source.fileno() for source in self._open()]

    def reader(self, fd: int) -> Callable[[], list[Hint]]:
        """Return the function that reads the hints behind one of these descriptors."""
        for source in self._open():
            if source.fileno() == fd:
                return source.read
        return list

    def disarm(self, tag: int) -> None:
        """Stop watching a queue, whatever watches it."""
        for source in self._open():
            source.disarm(tag)

    def close(self) -> None:
        """Give everything back."""
        for source in self._open():
            source.close()
