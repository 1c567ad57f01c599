"""`watcher.entries_async`: the entries of one queue, for the tasks of an asyncio program.

    async with watcher.entries_async("/srv/in", format="raw") as queue:
        async for entry in queue:
            async with entry:
                await import_file(entry.message)

The queue is served in threads of this process; they call the loop with `call_soon_threadsafe`, so
the loop never waits for the disk. (`entry.message` reads the file when it is first asked for.)
Guarantees: as `watcher.entries`, with tasks in place of threads. A task that is cancelled while it
waits takes no entry. An entry in whose `async with` block a task is cancelled goes back, and no
attempt counts. If the loop ends, the entries in hand go back.
Fails: as `watcher.entries`.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from watcher.embed import host_process
from watcher.embed.claimed_entry import EntryInHand, is_gone, rejected, retried
from watcher.embed.entries import check_first, check_scanned, close, opened, usable
from watcher.embed.settings import embedded_settings
from watcher.handle.function import failure
from watcher.handle.hand_over import InHand
from watcher.rules.results import HANDLED, AttemptEnd, HandlerResult

if TYPE_CHECKING:
    from typing import Self, Unpack

    from watcher.daemon.embedded_queue import EmbeddedQueue
    from watcher.embed.settings import Options

Given = TypeVar("Given")


class AsyncClaimedEntry(EntryInHand):
    """One entry in the hands of a task. As a context: `done` at its end, or what was raised."""

    def __init__(self, queue: EmbeddedQueue, in_hand: InHand) -> None:
        super().__init__(queue, in_hand)
        loop = asyncio.get_running_loop()
        self._end: asyncio.Future[AttemptEnd] = loop.create_future()
        in_hand.call_at_end(functools.partial(_soon, loop, self._end))

    async def done(self) -> bool:
        """Say that it is handled; return when it is settled (`ClaimedEntry.done`)."""
        return await self._settle(HANDLED)

    async def retry(self, reason: str = "", *, after: float | None = None) -> None:
        """Say that it has to be tried again, in `after` seconds or by the queue's retry policy."""
        await self._settle(retried(reason, after))

    async def reject(self, reason: str) -> None:
        """Say that no attempt can succeed: it goes to dead/ with the reason."""
        await self._settle(rejected(reason))

    async def _settle(self, word: HandlerResult) -> bool:
        self._say(word)
        return is_gone(await asyncio.shield(self._end))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        had = self.has_word
        caught = self._leave(error)
        if not had and (error is None or caught):
            await asyncio.shield(self._end)
        return caught


class _Task:
    """A task that waits for an entry."""

    def __init__(self) -> None:
        self.owner = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self.given: asyncio.Future[InHand | None] = self._loop.create_future()

    def give(self, in_hand: InHand | None) -> bool:
        """Give it an entry, or None; False if its loop has ended."""
        return _soon(self._loop, self.given, in_hand)


class AsyncEntries:
    """The entries of one queue: an asynchronous iterator for any number of tasks, and a context."""

    def __init__(
        self, path: str | bytes | os.PathLike[str], *, wait: bool = True, **options: Unpack[Options]
    ) -> None:
        """Read the settings; nothing is opened yet. The arguments are those of `Entries`."""
        self._settings = embedded_settings(path, options)
        self._wait = wait
        self._queue: EmbeddedQueue | None = None

    async def __aenter__(self) -> Self:
        host_process.prepare()
        self._queue = await asyncio.to_thread(opened, self._settings, self._queue, wait=self._wait)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and self._queue is not None:
            hand_over, task = self._queue.hand_over, asyncio.current_task()
            while (one := hand_over.waits_for(task)) is not None:
                hand_over.say(one, failure(error))
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[AsyncClaimedEntry]:
        return self

    async def __anext__(self) -> AsyncClaimedEntry:
        entry = await self.take()
        if entry is None:
            raise StopAsyncIteration
        return entry

    async def take(self) -> AsyncClaimedEntry | None:
        """Return the next entry; None if there is none any more.

        For a time limit, use `asyncio.timeout`: a task that is cancelled here takes no entry.
        """
        queue = usable(self._queue)
        taker = _Task()
        check_first(queue, taker.owner)
        queue.hand_over.ask(taker)
        queue.look_for_takers()
        try:
            in_hand = await asyncio.shield(taker.given)
        except BaseException:  # cancelled: give back what comes, or came, all the same
            if not queue.hand_over.leave(taker):
                taker.given.add_done_callback(lambda given: _give_back(queue, given))
            raise
        if in_hand is not None and not in_hand.has_word:
            return AsyncClaimedEntry(queue, in_hand)
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

    async def aclose(self) -> None:
        """Stop, give back the entries without a word, and wait until all others are settled."""
        await asyncio.to_thread(close, self._queue)


entries_async = AsyncEntries  # as a program calls it


def _give_back(queue: EmbeddedQueue, given: asyncio.Future[InHand | None]) -> None:
    if not given.cancelled() and (in_hand := given.result()) is not None:
        queue.hand_over.give_back(in_hand)


def _soon(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Given], value: Given) -> bool:
    """Have the loop set a future's result; return False if the loop has ended. Any thread calls."""

    def set_result() -> None:
        if not future.done():
            future.set_result(value)

    try:
        loop.call_soon_threadsafe(set_result)
    except RuntimeError:  # it is closed
        return False
    return True
