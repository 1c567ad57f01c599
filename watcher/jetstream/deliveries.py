"""The messages that this process has in hand, and how each of them ends.

    done     acknowledged (+ACK), and the answer of the server is waited for
    retry    a record is stored, then the message is given back until a moment (-NAK)
    reject   a dead letter is stored, then the message is ended for good (+TERM)
    release  a record is stored, then the message is given back: no attempt was made. The thread
             that wants it does not wait: it names the message, and `give_back_named` does it

Each end is confirmed by the server. While no server answers, the thread that ends an entry waits,
and tries again: the handler's work is done, and must not be done twice. A process that is told to
end (`leave`) waits until the server has been silent for some seconds.

Guarantees: nothing is acknowledged that the caller did not end. What is stored comes before what
gives the message away, so that a crash between the two repeats it, and loses nothing.
Fails: TryAgain after `leave`; the server then delivers the message again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from watcher.errors import TryAgain, one_line
from watcher.jetstream.connection import Connection, Unreachable
from watcher.jetstream.delivered import Delivery
from watcher.jetstream.letter_headers import DeadLetter, letter_of
from watcher.jetstream.open_client import OpenClient
from watcher.jetstream.stream_setup import CONSUMER, STATE
from watcher.rules.dead_letter import MOST_OF_HEADERS, TOO_LARGE, fitting, size_of
from watcher.rules.delivery import Record, arrived, begins, released

ANSWER = 5.0  # seconds for the server's answers to the steps of one end
PAUSE = 1.0  # seconds between two tries
REMEMBERED = 65_536  # messages that were done
AT_ONCE = 200  # messages that are given back together: each has a record to store
GOODBYE = 5.0  # seconds for what is given back when the process ends
SILENCE = 10.0  # seconds without an answer after which a process that ends waits no longer


class Missing(nats.errors.Error):
    """A stream beside that of the messages is not there."""


class Deliveries:
    """What one process has in hand of one stream; any thread may call what is no coroutine."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self.stream = stream
        # What tells the consumer from a later one of its name; the loop's thread alone uses it.
        self.consumer: object = None
        self.on_trouble: Callable[[str | None], None] = lambda _why: None
        self._connection = connection
        self._lock = threading.Lock()  # for the next two
        self._in_hand: dict[tuple[int, int], Delivery] = {}  # by `Delivery.identity`
        # Likewise: what is to go back without an attempt, its record then, and the delay.
        self._named: dict[tuple[int, int], tuple[Delivery, Record, float]] = {}
        self._giving_back = asyncio.Lock()  # a message is given back once: it has a new worker then
        # Likewise, the oldest first; the loop's thread alone uses it.
        self._done_lately: dict[tuple[int, int], None] = {}
        self._leaving = threading.Event()
        self._left_at = 0.0  # when `leave` was called, of the monotonic clock
        self._silent_since: float | None = None  # when the server gave no answer first, likewise
        self.changed: Callable[[], None] = lambda: None  # called in the loop's thread
        self.ended = asyncio.Event()  # set there when a message is over

    def __len__(self) -> int:
        return len(self._in_hand)

    def all(self) -> list[Delivery]:
        """Return what is in hand."""
        with self._lock:
            return list(self._in_hand.values())

    def leave(self) -> None:
        """Have ends that no server confirms wait only for some seconds: the process will exit."""
        self._left_at = time.monotonic()
        self._leaving.set()

    def _gives_up(self) -> bool:
        """Whether the process is to end and the server is silent for too long."""
        since = self._silent_since
        if since is None or not self._leaving.is_set():
            return False
        return time.monotonic() - max(since, self._left_at) > SILENCE

    # -- how a message comes: in the loop's thread ----------------------------------------------

    async def take(self, client: OpenClient, delivery: Delivery) -> bool:
        """Take a message in hand, with its record; return False if it is in hand already.

        Then the new delivery is the one that is acknowledged. So is that of a message which was
        done: the server lost what it knew of that.
        """
        if delivery.identity in self._done_lately:
            await client.publish(delivery.reply, b"+ACK")
            return False
        with self._lock:
            known = self._in_hand.get(delivery.identity)
            delivery.consumer = self.consumer
            if known is not None:
                known.consumer = delivery.consumer
                if delivery.number > known.number:  # no attempt begins with this delivery
                    known.record = released(known.record)._replace(begun=known.record.begun)
                known.reply, known.number = delivery.reply, delivery.number
                return False
            self._in_hand[delivery.identity] = delivery
            first = len(self._in_hand) == 1
        if first:
            self.changed()
        if delivery.number > 1:
            data = await self._stored(client, delivery.sequence)
            if data is not None:
                delivery.record, delivery.stored = Record.read(data, delivery.stored_us), True
            delivery.record = arrived(delivery.record, delivery.number)
        delivery.known = True
        return True

    def drop(self, delivery: Delivery) -> None:
        """Forget a message: the server delivers it again after its acknowledgement time."""
        self._let_go(delivery)

    def _let_go(self, delivery: Delivery) -> None:
        with self._lock:
            self._in_hand.pop(delivery.identity, None)
            self._named.pop(delivery.identity, None)
        self.changed()

    async def _stored(self, client: OpenClient, sequence: int) -> bytes | None:
        state = self.stream + STATE
        try:
            found = await client.context.get_last_msg(state, f"{state}.{sequence}")
        except NotFoundError:
            return None
        return found.data or b""

    # -- how it ends ----------------------------------------------------------------------------

    def begin(self, delivery: Delivery) -> None:
        """Record that an attempt begins, if it is not a first delivery: its worker may die."""
        if delivery.number > 1:
            record = begins(delivery.record, delivery.number)
            self._insist(delivery, lambda client: self._record(client, delivery, record))

    def done(self, delivery: Delivery) -> None:
        """Acknowledge a message for good."""
        self._insist(delivery, lambda client: self._done(client, [delivery]))

    def done_together(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge some messages, all on their way at once; `done` then waits for what is left.

        That is once: of a message that the server does not confirm now, `done` sends it again.
        """
        with contextlib.suppress(*_TROUBLES, Unreachable, CancelledError):
            self._connection.call(lambda client: self._done(client, deliveries), ANSWER)

    def retry(self, delivery: Delivery, record: Record, seconds: float) -> None:
        """Give a message back: it is delivered again in so many seconds, to any worker."""
        self._insist(delivery, lambda client: self.give_back(client, delivery, record, seconds))

    def reject(self, delivery: Delivery, letter: DeadLetter) -> None:
        """Store a dead letter, and end the message."""
        self._insist(delivery, lambda client: self.bury(client, delivery, letter))

    def release_all(self) -> None:
        """Give back everything that is in hand and not over; for the end of the process.

        A message whose record has not come yet comes again by itself: one without its attempts must
        not be stored in the record's place.
        """
        self.release([delivery for delivery in self.all() if delivery.known])
        if self._in_hand:
            with contextlib.suppress(*_TROUBLES, Unreachable, CancelledError):
                self._connection.call(self.give_back_named, GOODBYE)

    def release(self, deliveries: Sequence[Delivery], seconds: float = 0.0) -> None:
        """Name messages that no attempt is made at: `give_back_named` gives them back."""
        with self._lock:
            for each in deliveries:
                if not each.over:
                    self._named.setdefault(each.identity, (each, released(each.record), seconds))

    def _insist(self, delivery: Delivery, end: Callable[[OpenClient], Awaitable[None]]) -> None:
        """Take a step, however long that takes; raise TryAgain if the process has to end."""
        while not delivery.over:
            try:
                self._connection.call(end, ANSWER)
                break
            except (Unreachable, *_TROUBLES) as error:
                why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                self.on_trouble(one_line(why))
                with contextlib.suppress(Unreachable, CancelledError, *_TROUBLES):
                    self._connection.call(self.look, ANSWER)
                if self._silent_since is None:
                    self._silent_since = time.monotonic()
                if self._gives_up():
                    raise TryAgain(f"the server does not confirm it: {why}") from None
                time.sleep(PAUSE)
            except CancelledError:
                raise TryAgain("the connection is closed") from None
        self._silent_since = None
        self.on_trouble(None)

    # -- in the loop's thread -------------------------------------------------------------------

    async def look(self, client: OpenClient) -> api.ConsumerInfo:
        """Look which consumer there is now; raise NotFoundError if there is none.

        What an earlier one delivered cannot be ended: the later one delivers it again, if it is
        still in the stream. In a stream that was made anew, its number is another message's, and
        that must not be acknowledged.
        """
        try:
            info: api.ConsumerInfo = await client.context.consumer_info(self.stream, CONSUMER)
        except NotFoundError:
            self.consumer = object()  # like no other
            raise
        self.consumer = info.created
        return info

    async def _done(self, client: OpenClient, deliveries: Sequence[Delivery]) -> None:
        answers = [await self._send(client, delivery, b"+ACK") for delivery in deliveries]
        for delivery, answer in zip(deliveries, answers, strict=True):
            await answer
            self._ended(delivery)
            self._done_lately[delivery.identity] = None
            if len(self._done_lately) > REMEMBERED:
                del self._done_lately[next(iter(self._done_lately))]
            if delivery.stored:
                await self._forget_record(client, delivery)

    async def give_back_named(self, client: OpenClient) -> bool:
        """Give back what `release` named; what the server does not confirm stays named.

        Returns whether there was anything. Raises TimeoutError, and what a request raises.
        """
        if not self._named:
            return False
        async with self._giving_back:
            with self._lock:
                named = list(self._named.values())
            for first in range(0, len(named), AT_ONCE):
                some = named[first : first + AT_ONCE]
                async with asyncio.timeout(ANSWER):
                    ends = await asyncio.gather(
                        *(self.give_back(client, *each) for each in some), return_exceptions=True
                    )
                for end in ends:
                    if end is not None:
                        raise end
        return True

    async def give_back(
        self, client: OpenClient, delivery: Delivery, record: Record, seconds: float
    ) -> None:
        """Store a record and give the message back."""
        await self._record(client, delivery, record)
        delay = json.dumps({"delay": round(seconds * 1e9)}).encode() if seconds > 0 else b""
        await self._confirm(client, delivery, b"-NAK " + delay if delay else b"-NAK")

    async def _record(self, client: OpenClient, delivery: Delivery, record: Record) -> None:
        state = self.stream + STATE
        if delivery.consumer == self.consumer:
            await self._store(client, f"{state}.{delivery.sequence}", record.format(), {})
        delivery.record, delivery.stored = record, True

    async def bury(self, client: OpenClient, delivery: Delivery, letter: DeadLetter) -> None:
        """Store a dead letter and end the message."""
        subject, headers = letter_of(delivery, self.stream, letter)
        size = len(delivery.payload)
        try:
            some = fitting(headers, min(MOST_OF_HEADERS, client.max_payload - size))
            await self._store(client, subject, delivery.payload, some)
        except APIError as error:
            if error.err_code not in TOO_LARGE:
                raise
            # The stream of dead letters takes what the stream itself took.
            some = fitting(headers, size_of(delivery.headers))
            await self._store(client, subject, delivery.payload, some)
        await self._confirm(client, delivery, b"+TERM " + one_line(letter.reason).encode()[:200])
        if delivery.stored:
            await self._forget_record(client, delivery)

    async def _store(
        self, client: OpenClient, subject: str, payload: bytes, headers: Mapping[str, str]
    ) -> None:
        """Publish, and wait until it is stored; raises APIError."""
        try:
            data = await (await client.replies.send(subject, payload, headers or None))
        except nats.errors.NoRespondersError:
            stream = subject.partition(".")[0]
            raise Missing(f"no stream {stream}: `watcher nats init` makes it") from None
        answer = json.loads(data)
        if "error" in answer:
            raise APIError.from_error(answer["error"])

    async def _confirm(self, client: OpenClient, delivery: Delivery, word: bytes) -> None:
        """Send the end of a delivery, and wait until the server has taken note of it."""
        await (await self._send(client, delivery, word))
        self._ended(delivery)

    async def _send(
        self, client: OpenClient, delivery: Delivery, word: bytes
    ) -> asyncio.Future[bytes]:
        """Send the end of a delivery, unless an earlier consumer made it; return its answer."""
        if delivery.consumer == self.consumer:
            return await client.replies.send(delivery.reply, word)
        nothing: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        nothing.set_result(b"")
        return nothing

    def _ended(self, delivery: Delivery) -> None:
        """Note that the server has confirmed the end of a message."""
        delivery.over = True
        self.ended.set()
        self._let_go(delivery)

    async def _forget_record(self, client: OpenClient, delivery: Delivery) -> None:
        """Remove the record of a message that is over; what stays goes with its age."""
        state = self.stream + STATE
        with contextlib.suppress(*_TROUBLES):
            await client.context.purge_stream(state, subject=f"{state}.{delivery.sequence}")


_TROUBLES = (OSError, ValueError, nats.errors.Error)


async def heartbeat(client: OpenClient, deliveries: Deliveries) -> None:
    """Tell the server of each message in hand that a worker has it still."""
    for delivery in deliveries.all():
        await client.publish(delivery.reply, b"+WPI")
