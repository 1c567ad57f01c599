"""What an open queue means for the process of the program that embeds it, and for its children.

    SIGIO          ignored, if its action is the default one, which kills: the kernel sends it when
                   a writer opens a file whose lease this process has (`spool.lease`)
    faulthandler   writes to the process directory, unless the program has enabled it
    logging        lines go to the logger "watcher", which has a handler that does nothing
    exit           an open queue is closed: entries in hand go back, and no attempt counts
    fork           the child gets no claim: its copies of the queue's descriptors lead to /dev/null

Guarantees: nothing else of the process changes: no other signal, no limit, no working directory, no
umask. A descriptor that the program itself opened stays open in a forked child, unless it opened a
path in the queue with O_NOFOLLOW. After a fork the child uses no queue of its parent; it may open
its own.
Fails: never.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import signal
import threading

from watcher.daemon.embedded_queue import EmbeddedQueue
from watcher.observe import log
from watcher.spool import last_words, libc

_open: set[EmbeddedQueue] = set()
_of_parent: list[EmbeddedQueue] = []  # kept: their objects would close numbers that are reused


def prepare() -> None:
    """Make the process ready for an open queue; any thread may call it, each time."""
    if signal.getsignal(signal.SIGIO) is signal.SIG_DFL:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGIO, lambda _number, _frame: None)
        else:  # Python sets an action in the main thread alone
            libc.ignore_signal(signal.SIGIO)
    last_words.forgo()
    log.to_logger()


def add(queue: EmbeddedQueue) -> None:
    """Take note of an open queue."""
    _open.add(queue)


def discard(queue: EmbeddedQueue) -> None:
    """Forget a queue: it is closed."""
    _open.discard(queue)


def belongs_here(queue: EmbeddedQueue) -> bool:
    """Whether this process opened the queue, and not the one that forked it."""
    return queue not in _of_parent


def _close_all() -> None:
    """Close what is open: the interpreter ends."""
    for queue in list(_open):
        queue.close()


atexit.register(_close_all)


def _in_child() -> None:
    """Let go of the parent's queues."""
    if not _open:
        return
    _of_parent.extend(_open)
    _open.clear()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for fd in set().union(*map(_descriptors, _of_parent)):
            # The number stays taken, so that an object which closes it later closes nothing else.
            with contextlib.suppress(OSError):
                os.dup2(null, fd, inheritable=False)
    finally:
        os.close(null)
    for queue in _of_parent:
        for in_hand in queue.hand_over.in_hand:
            in_hand.entry.forbid()


os.register_at_fork(after_in_child=_in_child)


def _descriptors(queue: EmbeddedQueue) -> set[int]:
    """Return the descriptors of a queue: also of a claim that a thread was making at the fork."""
    found = set(queue.descriptors())
    spool, places = queue.worker.detector.spool, [queue.settings.path]
    if spool is not None:
        found.add(spool.fd)
        with contextlib.suppress(OSError):  # it may have another path by now
            places.append(os.readlink(f"/proc/self/fd/{spool.fd}"))
    settings = queue.settings
    places += [path for path in (settings.state_dir, settings.journal_dir) if path]
    inside = tuple(os.path.join(os.path.realpath(place), "") for place in places)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            path = os.path.join(os.readlink(f"/proc/self/fd/{name}"), "")
            if path.startswith(inside):
                flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
                if flags & os.O_NOFOLLOW:
                    found.add(int(name))
    return found
