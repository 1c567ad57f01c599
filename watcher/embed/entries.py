"""`watcher.entries`: the entries of one queue, for the threads of a program.

    with watcher.entries("/srv/in", format="raw") as queue:
        for entry in queue:
            with entry:
                import_file(entry.message)

Guarantees: those of the daemon, which serves the queue in threads of this process. An entry is
claimed when a thread asks for it, so at most `concurrency` entries are in hand. When `done` has
returned True, the entry is removed, and a crash afterwards does not bring it back.
Leaving the `with` block closes the queue. An entry without a word then goes back; if an exception
leaves the block, the entry that this thread took gets the word that the exception means.
Fails: NoSuch, NotPermitted, Unavailable, TryAgain or BadConfiguration for the directory and the
options; Usage for a program's mistake. What goes wrong later is `trouble`, and no exception.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING

from watcher.config.open_queue import open_spool
from watcher.daemon.embedded_queue import EmbeddedQueue
from watcher.daemon.other_daemons import refuse_second
from watcher.embed import host_process
from watcher.embed.claimed_entry import EntryInHand, is_gone, rejected, retried
from watcher.embed.settings import embedded_settings
from watcher.errors import Unavailable, Usage
from watcher.handle.function import failure
from watcher.handle.hand_over import InHand
from watcher.rules.results import HANDLED, HandlerResult

if TYPE_CHECKING:
    from typing import Self, Unpack

    from watcher.config.queue_settings import Queue
    from watcher.embed.settings import Options


class ClaimedEntry(EntryInHand):
    """One entry in the hands of a thread. As a context: `done` at its end, or what was raised."""

    def done(self) -> bool:
        """Say that it is handled; return when it is settled.

        True: it is removed. False: it will come again, because a writer changed its file meanwhile,
        or the disk refuses; `Entries.trouble` says if it does.
        """
        return self._settle(HANDLED)

    def retry(self, reason: str = "", *, after: float | None = None) -> None:
        """Say that it has to be tried again, in `after` seconds or by the queue's retry policy."""
        self._settle(retried(reason, after))

    def reject(self, reason: str) -> None:
        """Say that no attempt can succeed: it goes to dead/ with the reason."""
        self._settle(rejected(reason))

    def _settle(self, word: HandlerResult) -> bool:
        self._say(word)
        return is_gone(self._in_hand.wait_end())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        had = self.has_word
        caught = self._leave(error)
        if not had and (error is None or caught):
            self._in_hand.wait_end()
        return caught


class _Thread:
    """A thread that waits for an entry."""

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self._given: SimpleQueue[InHand | None] = SimpleQueue()

    def give(self, in_hand: InHand | None) -> bool:
        """Give it an entry, or None."""
        self._given.put(in_hand)
        return True

    def wait(self, seconds: float | None) -> InHand | None:
        """Return what it is given; raises Empty."""
        return self._given.get(timeout=seconds)


class Entries:
    """The entries of one queue: an iterator for any number of threads, and a context."""

    def __init__(
        self, path: str | bytes | os.PathLike[str], *, wait: bool = True, **options: Unpack[Options]
    ) -> None:
        """Read the settings; nothing is opened yet.

        `wait`: whether an iteration waits for entries that are still to come. `options` are those
        of docs/configuration.md, as a configuration has them.
        """
        self._settings = embedded_settings(path, options)
        self._wait = wait
        self._queue: EmbeddedQueue | None = None
        self._closed = False

    def __enter__(self) -> Self:
        host_process.prepare()
        self._queue = opened(self._settings, self._queue, wait=self._wait)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and self._queue is not None:
            give_word(self._queue, threading.get_ident(), failure(error))
        self.close()

    def __iter__(self) -> Iterator[ClaimedEntry]:
        return self

    def __next__(self) -> ClaimedEntry:
        entry = self.take()
        if entry is None:
            raise StopIteration
        return entry

    def take(self, timeout: float | None = None) -> ClaimedEntry | None:
        """Return the next entry; None if there is none any more, or within `timeout` seconds."""
        queue = usable(self._queue)
        taker = _Thread()
        check_first(queue, taker.owner)
        queue.hand_over.ask(taker)
        queue.look_for_takers()
        try:
            in_hand = taker.wait(timeout)
        except Empty:
            in_hand = None if queue.hand_over.leave(taker) else taker.wait(None)
        except BaseException:  # a signal handler raised
            if not queue.hand_over.leave(taker) and (came := taker.wait(None)) is not None:
                queue.hand_over.give_back(came)
            raise
        if in_hand is not None and not in_hand.has_word:
            return ClaimedEntry(queue, in_hand)
        check_scanned(queue)
        return None

    @property
    def trouble(self) -> str:
        """What is wrong with the queue now, in one line; "" if nothing is."""
        return "" if self._queue is None else self._queue.trouble

    def stop(self) -> None:
        """End the iterations; entries in hand keep. Any thread and a signal handler may call it."""
        if self._queue is not None:
            self._queue.stop()

    def close(self) -> None:
        """Stop, give back the entries without a word, and wait until all others are settled."""
        close(self._queue)


entries = Entries  # as a program calls it


def opened(settings: Queue, before: EmbeddedQueue | None, *, wait: bool) -> EmbeddedQueue:
    """Open a queue and start its threads; raises what is wrong with the directory."""
    if before is not None:
        raise Usage(f"{settings.path}: was opened before: call watcher.entries again")
    spool = open_spool(settings)
    if settings.exclusive:
        refuse_second(spool)
    del spool  # the queue's threads open it for themselves
    queue = EmbeddedQueue(settings, wait=wait)
    host_process.add(queue)
    try:
        queue.start()
    except RuntimeError as error:
        host_process.discard(queue)
        raise Unavailable(f"{settings.path}: no thread could be started: {error}") from None
    return queue


def usable(queue: EmbeddedQueue | None) -> EmbeddedQueue:
    """Return an open queue of this process; raise Usage."""
    if queue is None:
        raise Usage("the queue is not open: use `with watcher.entries(...) as queue:`")
    if not host_process.belongs_here(queue):
        raise Usage(f"{queue.settings.path}: was opened by the process that forked this one")
    return queue


def check_first(queue: EmbeddedQueue, owner: object) -> None:
    """Raise Usage if a thread or task would wait for an entry that only it can make room for."""
    if queue.settings.concurrency > 1:
        return
    if (one := queue.hand_over.waits_for(owner)) is not None:
        raise Usage(
            f"{one.entry.name}: it has no word yet, and this queue has one entry in hand at a time:"
            " use `with entry:`, or call done, retry, reject or release; or set concurrency"
        )


def check_scanned(queue: EmbeddedQueue) -> None:
    """Raise Unavailable if an iteration that does not wait ended as the directory is unreadable."""
    if not queue.waits and not queue.hand_over.ended and queue.cannot_scan():
        raise Unavailable(queue.trouble)


def give_word(queue: EmbeddedQueue, owner: object, word: HandlerResult) -> None:
    """Give a word for the entries that a thread or task has in hand, and wait for the end."""
    while (one := queue.hand_over.waits_for(owner)) is not None:
        if queue.hand_over.say(one, word):
            one.wait_end()


def close(queue: EmbeddedQueue | None) -> None:
    """Close a queue, unless another process opened it."""
    if queue is not None and host_process.belongs_here(queue):
        queue.close()
        host_process.discard(queue)
