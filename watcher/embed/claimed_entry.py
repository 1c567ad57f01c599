"""An entry that a program has in hand: what it is, and the four words that the program may give.

    done     it is handled: the entry is removed, or moved to the archive
    retry    try it again: it is deferred, and the attempt counts
    reject   no attempt can succeed: it is moved to dead/, with the reason
    release  not now, not here: it goes back at once, and no attempt counts

Guarantees: the first word counts. What an exception means is what it means for a python handler
(`handle.function`).
Fails: Usage if it has a word, or belongs to the process that forked this one.
"""

from __future__ import annotations

from watcher.daemon.embedded_queue import EmbeddedQueue
from watcher.durations import LONGEST
from watcher.embed import host_process
from watcher.errors import Usage
from watcher.handle.function import failure
from watcher.handle.hand_over import RELEASED, InHand
from watcher.rules.results import HANDLED, AttemptEnd, HandlerResult, Verdict, shortened


class EntryInHand:
    """What the two kinds of `watcher.entries` and `watcher.entries_async` have in common."""

    def __init__(self, queue: EmbeddedQueue, in_hand: InHand) -> None:
        self._queue = queue
        self._in_hand = in_hand
        self._entry = in_hand.entry

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self._entry.queue

    @property
    def name(self) -> str:
        """The entry's name; of a raw entry, the file's whole name."""
        return self._entry.name

    @property
    def message(self) -> bytes:
        """The message's bytes; raises Undecodable, or OSError."""
        return self._entry.message

    @property
    def metadata(self) -> dict[str, object]:
        """The writer's metadata; raises as `message`."""
        return self._entry.metadata

    @property
    def key(self) -> str:
        """The idempotency key: the same at every attempt, and another for each commit."""
        return self._entry.key

    @property
    def path(self) -> str:
        """The absolute path of the message's file."""
        return self._entry.path

    @property
    def attempt(self) -> int:
        """1 for the first attempt at this entry."""
        return self._entry.attempt

    @property
    def crashes(self) -> int:
        """How many processes died with this entry in hand."""
        return self._entry.crashes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} attempt={self.attempt}>"

    @property
    def has_word(self) -> bool:
        """Whether `done`, `retry`, `reject` or `release` was called, or the queue closed."""
        return self._in_hand.has_word

    def release(self) -> None:
        """Give the entry back: it is handed out again at once, and no attempt counts."""
        self._say(RELEASED)

    def _say(self, word: HandlerResult) -> None:
        if not host_process.belongs_here(self._queue):
            raise Usage(f"{self.name}: the process that forked this one has it in hand")
        if not self._queue.hand_over.say(self._in_hand, word):
            raise Usage(f"{self.name}: it has its word already, or its queue was closed before")

    def _leave(self, error: BaseException | None) -> bool:
        """Give the word for how a `with` block ended; return whether the error ends here."""
        caught = isinstance(error, Exception)
        if not self.has_word:
            if error is None:
                self._say(HANDLED)
            else:
                self._say(failure(error) if caught else RELEASED)
        elif caught:
            return False
        return caught


def retried(reason: str, after: float | None) -> HandlerResult:
    """Return the word for a retry; raise Usage."""
    if after is not None and (type(after) not in (int, float) or not 0 <= after <= LONGEST):
        raise Usage(f"after: expected seconds, 0 to {LONGEST:.0f}; got {after!r}")
    text = shortened(reason) or "the program asks for a retry"
    return HandlerResult(Verdict.RETRY, text, None if after is None else float(after))


def rejected(reason: str) -> HandlerResult:
    """Return the word for a reject."""
    return HandlerResult(Verdict.REJECT, shortened(reason) or "rejected by the program")


def is_gone(end: AttemptEnd) -> bool:
    """Whether a handled entry is gone: its file was not written to, and the disk let it go."""
    return end is AttemptEnd.DONE
