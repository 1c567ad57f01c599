"""A queue worker whose entries are copies of messages of a stream: `watcher work`.

    the server  ->  Puller  ->  Copies (a file in the directory)  ->  the worker of any queue
    the server  <-  Deliveries  <-  MessageFinisher  <-  the handler's result

Guarantees: those of `QueueWorker` and `Deliveries`. While the queue is paused, and from the moment
when the worker drains, it gives back what it has not begun, and no attempt counts; while something
holds the queue, it keeps a few messages to try. So does a message come again whose copy another
program removed.
Fails: never; the health of the queue says what is wrong with the server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import Future

from watcher.attempt import Attempt
from watcher.config.queue_settings import Queue
from watcher.config.work_settings import MARK
from watcher.daemon.message_attempt import MessageAttempt
from watcher.daemon.message_copies import Copies, clear, described, prepare
from watcher.daemon.queue_worker import QueueWorker
from watcher.daemon.returning import Returning
from watcher.daemon.worker_loop import Context
from watcher.errors import WatcherError
from watcher.handle.batch_handler import BatchHandler
from watcher.handle.handler import Handler
from watcher.jetstream.connection import Connection
from watcher.jetstream.delivered import Delivery
from watcher.jetstream.deliveries import Deliveries
from watcher.jetstream.letter_headers import DeadLetter
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.pull import Puller
from watcher.jetstream.purge import Purger
from watcher.jetstream.stream_setup import DEAD
from watcher.observe import log
from watcher.rules import delivery as rules
from watcher.rules.age import Clock
from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import Move, State, Transition
from watcher.rules.results import AttemptResult
from watcher.rules.stamp import Schedule
from watcher.settle.finish import Finisher
from watcher.settle.finish_delivery import MessageFinisher
from watcher.settle.refused import DiskRetry
from watcher.spool.claimed import ClaimOptions

LOOK = 0.5  # seconds between two looks whether a worker of earlier settings has drained
AHEAD = 2  # messages in hand for each thread: while one is handled, the next one comes
LATER = 30.0  # seconds until a message comes again that could not be written down
GONE = 1.0  # seconds until a message comes again whose copy another program removed
EACH = 10.0  # seconds between two looks whether the copies are there
LAST_WORDS = 1.0  # seconds for giving messages back when the process stops at once
HELD = 8  # messages in hand while something holds the queue: one is tried after the other


class NeverReturns(Returning):
    """Knows that a name which comes again is another message's, and no loop."""

    def ended(self, name: bytes, report: AttemptResult, reasons: Container[str]) -> None:
        """Remember nothing."""


def _listener(stream: str) -> Callable[[Transition], None]:
    """Return what logs transitions: what is rejected goes to the stream of dead letters."""

    def listen(record: Transition) -> None:
        if record.move is Move.REJECT:
            record = record._replace(place=f"{stream}{DEAD}")
        log.transition(record)

    return listen


class MessageWorker(QueueWorker):
    """One stream in this process: its puller, its copies, its worker threads."""

    def __init__(self, tag: int, settings: Queue, handler: Handler, context: Context) -> None:
        source = settings.messages
        assert source is not None  # noqa: S101 - `Daemon` chose this class by it
        self._connection = Connection(lambda: source.server.access(settings.origin.rstrip(".")))
        self._deliveries = Deliveries(self._connection, source.stream)
        layout = settings.layout
        self._copies = Copies(settings.path, lambda name: layout.kind(name) is Kind.ENTRY)
        super().__init__(tag, settings, handler, context)
        most = handler.most if isinstance(handler, BatchHandler) else 1
        self._room = settings.concurrency * most * AHEAD
        self._deliveries.on_trouble = lambda why: self.health.trouble("settle", why)
        self._puller = Puller(self._deliveries, self)
        self._next_look = 0.0  # whether the copies are there, of the monotonic clock
        self.pending.pause_changed = self._puller.look  # no tick need follow a `resume`
        self.loop.returning = NeverReturns(self.detector.now)
        self._purger = Purger(
            source.stream,
            self._deliveries.ended,
            lambda why: self.health.trouble("handled", why),
        )
        self._running: list[Future[None]] = []  # beside the calls
        self._earlier: list[MessageWorker] = []  # of other settings: they have copies there still
        self._closed_stream = False

    def make_finisher(self, terms: ClaimOptions, clock: Clock, disk: DiskRetry) -> Finisher:
        """Return what ends a message and removes its copy."""
        settings = self.settings
        finisher = MessageFinisher(
            settings.name, terms, settings.retry, clock, _listener(self._deliveries.stream), disk
        )
        finisher.messages = self
        return finisher

    def make_attempt(self, handler: Handler, finisher: Finisher) -> Attempt:
        """Return what makes attempts at copies."""
        attempt = MessageAttempt(handler, finisher, self.settings.breaker)
        attempt.copies, attempt.deliveries = self._copies, self._deliveries
        attempt.give_up_copy, attempt.on_gone = self._give_up_copy, self.look
        return attempt

    # -- how a message comes ------------------------------------------------------------------

    def take_over(self, before: QueueWorker) -> None:
        """Wait until the worker of the settings before has drained: it gives its messages back.

        Nothing is shared: the directory, which both would use, is emptied between the two.
        """
        self.stand_beside([before])

    def stand_beside(self, leaving: Iterable[QueueWorker]) -> None:
        """Wait for workers that still have copies in the directory."""
        for other in leaving:
            if isinstance(other, MessageWorker) and other.settings.path == self.settings.path:
                self._earlier.append(other)

    def start(self) -> None:
        """Empty the directory, start the workers, and begin to pull; raises BadConfiguration."""
        if self._earlier:
            return  # a tick does it
        prepare(self.settings.path)
        clear(self.settings.path)
        self.detector.mentions.expect(os.fsencode(MARK))
        super().start()
        self._running = [
            self._connection.spawn(self._puller.run),
            self._connection.spawn(self._purger.run),
        ]

    def tick(self) -> float:
        """Do what is due; let the puller look whether there is room."""
        if self._earlier and not self._starts_now():
            return self.detector.now() + LOOK
        due = super().tick()
        self._puller.look()
        return due

    def _starts_now(self) -> bool:
        """Start if the workers of earlier settings have drained; return whether it has started."""
        earlier = self._earlier
        if not all(one._closed_stream for one in earlier):  # noqa: SLF001 - of this class
            return False
        self._earlier = []
        try:
            self.start()
        except (WatcherError, OSError) as error:
            self._earlier = earlier
            self.health.trouble("copies", str(error))
            return False
        self.health.trouble("copies", None)
        return True

    def limit(self) -> int:
        """Return how many messages may be in hand; called in the loop's thread."""
        if self.loop.stopping.is_set() or self.detector.watch.pause.found is not None:
            return 0
        # While something holds the queue an entry is tried now and then: there has to be one.
        return self._room if self.pending.gives_out() else min(self._room, HELD)

    def withdraw(self, most: int) -> None:
        """Release messages that no attempt was made at; called in the loop's thread."""
        self._deliveries.release(self._copies.withdraw(most))

    def look(self) -> None:
        """Release the messages whose copies another program removed; any thread may call it."""
        now = time.monotonic()
        if now < self._next_look:  # the next report of what is in hand looks again
            return
        self._next_look = now + EACH
        if gone := self._copies.take_gone():
            what = f"{described(gone[0])}{f' and {len(gone) - 1} more' if gone[1:] else ''}"
            why = f"{what}: no copy in {self.settings.path} any more: the message comes again"
            log.event(self.settings.name, "vanished", why, logging.WARNING)
            self._deliveries.release(gone, GONE)
            self._puller.look()

    def trouble(self, why: str | None) -> None:
        """Take note of what is wrong with the stream; called in the loop's thread."""
        self.health.trouble("stream", why)

    async def arrive(self, client: OpenClient, delivery: Delivery) -> None:
        """Write the copy of a message that came, if its attempt is due."""
        now_ms = time.time_ns() // 1_000_000
        record = delivery.record
        if not self.limit():  # it was on its way when this worker was told to stop, or to pause
            await self._deliveries.give_back(client, delivery, rules.released(record), 0.0)
            return
        if (left := rules.early(record, now_ms)) > 0:
            await self._deliveries.give_back(client, delivery, rules.released(record), left)
            return
        if delivery.number > 1 and record.crashes >= self.settings.retry.max_crashes:
            await self._bury_poison(client, delivery)
            return
        try:
            self._copies.add(delivery)
        except OSError as error:
            self.health.trouble("copies", f"{self.settings.path}: {error.strerror}")
            await self._deliveries.give_back(client, delivery, rules.released(record), LATER)
        else:
            self.health.trouble("copies", None)

    def _give_up_copy(self, delivery: Delivery) -> None:
        """Give back a message whose copy cannot be written; called in a worker's thread."""
        self.health.trouble("copies", f"{self.settings.path}: nothing can be put there")
        with contextlib.suppress(WatcherError):  # the process ends: it comes again
            self._deliveries.retry(delivery, rules.released(delivery.record), LATER)

    async def _bury_poison(self, client: OpenClient, delivery: Delivery) -> None:
        record = delivery.record
        times = f"{record.crashes} times" if record.crashes > 1 else "once"
        why = f"poison: it was {times} with a worker that died or lost the server"
        facts = {"queue": self.settings.name, "attempts": record.attempts}
        letter = DeadLetter(why, facts | {"crashes": record.crashes})
        await self._deliveries.bury(client, delivery, letter)
        _listener(self._deliveries.stream)(
            Transition(
                self.settings.name,
                described(delivery).encode(),
                Move.REJECT,
                State.DEAD,
                why,
                key=delivery.key(self._deliveries.stream),
            )
        )

    # -- how it ends: `Messages` --------------------------------------------------------------

    def done(self, name: bytes) -> None:
        """Acknowledge the message of a copy."""
        if (delivery := self._copies.of(name)) is not None:
            self._deliveries.done(delivery)

    def done_together(self, names: Sequence[bytes]) -> None:
        """Acknowledge the messages of some copies, all on their way at once."""
        found = [self._copies.of(name) for name in names]
        self._deliveries.done_together([delivery for delivery in found if delivery is not None])

    def retry(
        self, name: bytes, schedule: Schedule, remembered: Mapping[str, object] | None
    ) -> None:
        """Give the message of a copy back for its next attempt."""
        delivery = self._copies.of(name)
        if delivery is None:
            return
        before = delivery.record
        crashed = schedule.crashes > before.crashes
        now_ms = time.time_ns() // 1_000_000
        record = rules.failed(before, now_ms, schedule.due_ms, crashed=crashed)
        if remembered is not None:
            record = record._replace(remembered=remembered)
        self._deliveries.retry(delivery, record, schedule.delay)

    def reject(self, name: bytes, why: str, facts: Mapping[str, object]) -> None:
        """Move the message of a copy to the dead letters."""
        if (delivery := self._copies.of(name)) is not None:
            self._deliveries.reject(delivery, DeadLetter(why, facts))

    # -- the end ------------------------------------------------------------------------------

    def forget_in_hand(self) -> None:
        """Give everything back at once: this process is told to stop, and its end counts for none.

        A signal handler calls this. A thread of its own does it, as this one may hold a lock.
        """
        super().forget_in_hand()
        self.handler.terminate()  # first: another worker may have the message in a moment
        release = threading.Thread(target=self._deliveries.release_all, daemon=True)
        release.start()
        release.join(LAST_WORDS)

    def drain(self) -> None:
        """Pull no more, and begin no entry any more."""
        super().drain()
        self._puller.look()
        self._deliveries.leave()

    def drained(self) -> bool:
        """Whether every thread has ended; if so, give back what was not begun."""
        ended = super().drained()
        if ended and not self._closed_stream:
            self._closed_stream = True
            for each in self._running:  # until now the puller told the server of what is in hand
                each.cancel()
            self._deliveries.release_all()
            self._connection.close()
            if self._running:  # otherwise the directory is still another worker's
                with contextlib.suppress(OSError):
                    clear(self.settings.path)
        return ended
