"""Tell of other daemons that work on the same queue, and refuse to work beside one if asked.

Several daemons on one queue do no harm: each entry is handled once. But each has its own
`concurrency` and its own breaker, and the queue goes on when an operator stops one of them.
Guarantees: each other daemon is logged once: by the newer one when it starts, by the older one at
its next sweep. With `exclusive`, a daemon works on no queue that another daemon works on, nor does
any other daemon of this version beside it: the kernel decides, by a lock on `inflight/`.
Fails: TryAgain, if this daemon may not work beside another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time

from watcher.claim.holders import described, locked_by
from watcher.errors import TryAgain, WatcherError
from watcher.observe import log
from watcher.rules.names import display
from watcher.spool.daemon_status import read_all
from watcher.spool.process_dir import has_others, join_daemons, leave_daemons
from watcher.spool.spool import Spool


class OtherDaemons:
    """What one queue worker knows of the other daemons of its queue."""

    def __init__(self, queue: str, *, exclusive: bool) -> None:
        self._queue = queue
        self._exclusive = exclusive
        self._told: frozenset[int] = frozenset()  # processes

    def take_over(self, before: OtherDaemons) -> None:
        """Take over which daemons are logged already, from the settings before a reload."""
        self._told = before._told

    def join(self, spool: Spool) -> None:
        """Work on a queue from now on; raises TryAgain if another daemon forbids it."""
        join(spool, exclusive=self._exclusive)

    def look(self, spool: Spool) -> None:
        """Log each daemon that is here too, once.

        Each daemon has a directory in `inflight/`. Without another one's, the locks of the whole
        machine are not read: with many queues that would take most of the daemon's thread's time.
        """
        found = others(spool) if has_others(spool) else {}
        for pid, since in found.items():
            if pid not in self._told:
                words = f"{_words(pid, since)} works here too: stop one of the two"
                log.event(self._queue, "second daemon", words, logging.WARNING)
        self._told = frozenset(found)


def join(spool: Spool, *, exclusive: bool) -> None:
    """Take the daemons' lock of a queue; raises TryAgain that names the daemon in the way."""
    try:
        join_daemons(spool, alone=exclusive)
    except TryAgain:
        found = next(iter(others(spool).items()), None)
        by = "another daemon" if found is None else _words(*found)
        why = "works here, and exclusive is set" if exclusive else "works here with exclusive set"
        raise TryAgain(f"{display(spool.path)}: {by} {why}; stop one of the two") from None


def refuse_second(spool: Spool) -> None:
    """Raise TryAgain if a daemon works on the queue; for a start with `exclusive`."""
    join(spool, exclusive=True)
    leave_daemons(spool)  # the queue's own descriptors take it again


def others(spool: Spool) -> dict[int, float | None]:
    """Return the other daemons at work: the process of each, and since when, if that is known.

    Each has a lock on `inflight/`. What it says of itself is there a moment after its start.
    """
    with contextlib.suppress(OSError, WatcherError):
        here = locked_by(os.fstat(spool.inflight())) - {os.getpid()}
        if here:
            known = {said.process: said.started for _, alive, said in read_all(spool) if alive}
            return {pid: known.get(pid) for pid in sorted(here)}
    return {}


def _words(pid: int, since: float | None) -> str:
    if since is None:
        return described(pid)
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    return f"{described(pid)} (since {shown})"
