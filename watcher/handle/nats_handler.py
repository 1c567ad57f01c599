"""The handler `nats`: hand each entry over to a stream of NATS JetStream.

The entries of a batch are published one after the other without a wait, and then all answers are
waited for. An entry is done once the server says that it stored it, or that it knows it already by
its key. So a crash between that answer and the unlink makes no second message, as long as the
server remembers the key (the stream's duplicate window).

Guarantees: those of `watcher.jetstream.publish`. If the server cannot be reached, or can store
nothing, no attempt counts: the queue is held. An entry that no message can hold is rejected.
Fails: `run` and `run_batch` never raise.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import NamedTuple

from watcher import mailman
from watcher.errors import BadConfiguration, Undecodable
from watcher.handle.batch_handler import BatchResult
from watcher.handle.entry import Entry
from watcher.jetstream.connection import Access, Connection
from watcher.jetstream.messages import Message, headers_of
from watcher.jetstream.publish import Answer, Publisher
from watcher.rules.form import Form
from watcher.rules.nats_answers import held, refused, too_large
from watcher.rules.nats_subject import SubjectTemplate
from watcher.rules.results import HANDLED, SHORT, HandlerResult, Verdict, shortened

MOST_BYTES = 32 << 20  # of messages that are published before their answers are waited for
_STOPPED = HandlerResult(Verdict.STOPPED, "stopped at once", ran=False)


class StreamTarget(NamedTuple):
    """Where entries go. `access` returns how a connection is made: it reads files of secrets."""

    access: Callable[[], Access]
    stream: str
    subject: SubjectTemplate
    timeout: float


class NatsHandler:
    """Publishes entries, up to `most` in one call."""

    def __init__(self, target: StreamTarget, most: int, wait: float) -> None:
        self.most = most
        self.wait = wait
        self._target = target
        self._publisher = Publisher(Connection(target.access), target.stream)
        self._terminated = False

    def run(self, entry: Entry) -> HandlerResult:
        """Publish one entry; never raises."""
        result = self.run_batch([entry])
        return result.words.get(0, result.whole)

    def run_batch(self, entries: Sequence[Entry]) -> BatchResult:
        """Publish some entries; never raises. Each has its own result."""
        words: dict[int, HandlerResult] = {}
        messages: dict[int, Message] = {}
        size = 0
        for number, entry in enumerate(entries):
            if (wrong := self._too_large(entry)) is not None:
                words[number] = wrong
                continue
            try:
                messages[number] = message = self._message(entry)
            except Undecodable as error:
                words[number] = HandlerResult(Verdict.REJECT, str(error), ran=False)
            except (OSError, MemoryError) as error:
                words[number] = _unread(error)
            else:
                size += message.size
                if size > MOST_BYTES:
                    words |= self._publish(messages)
                    for published in messages:
                        entries[published].give_up_message()
                    messages, size = {}, 0
        words |= self._publish(messages)
        return BatchResult(HANDLED, words)

    def terminate(self) -> None:
        """End the wait for answers: the entries stay where they are."""
        self._terminated = True
        self._publisher.cut()

    def _too_large(self, entry: Entry) -> HandlerResult | None:
        """Return the result for an entry whose file need not be read: the server takes no such."""
        largest, size = self._publisher.largest, entry.parts[0].size
        if largest is None or not entry.plain or size <= largest:
            return None
        return too_large(size, largest)

    def _publish(self, messages: dict[int, Message]) -> dict[int, HandlerResult]:
        if not messages:
            return {}
        try:
            answers = self._publisher.publish(list(messages.values()), self._target.timeout)
        except concurrent.futures.CancelledError:
            return dict.fromkeys(messages, _STOPPED)
        except BadConfiguration as error:
            return dict.fromkeys(messages, held(str(error)))
        found = {}
        for (number, message), answer in zip(messages.items(), answers, strict=True):
            result = _result(message, answer)
            stopped = self._terminated and result.verdict is not Verdict.DONE
            found[number] = _STOPPED if stopped else result
        return found

    def _message(self, entry: Entry) -> Message:
        """Return what is published of an entry; raises Undecodable or OSError."""
        target = self._target
        needs = {} if entry.form is Form.RAW else entry.metadata
        return Message(
            target.subject.fill(entry.queue, needs),
            entry.message,
            headers_of(
                key=entry.key,
                queue=entry.queue,
                name=entry.name,
                attempt=entry.attempt,
                metadata=mailman.to_json(needs) if needs else "",
                stream=target.stream,
            ),
        )


def _result(message: Message, answer: Answer) -> HandlerResult:
    if answer.stored:
        return HANDLED
    if answer.too_large:
        return too_large(message.size, answer.too_large)
    if answer.code:
        return refused(answer.code, answer.why, message.subject)
    return held(answer.why)


def _unread(error: OSError | MemoryError) -> HandlerResult:
    short = getattr(error, "errno", None) in SHORT or isinstance(error, MemoryError)
    why = getattr(error, "strerror", None) or repr(error)
    return HandlerResult(
        Verdict.RETRY, shortened(f"cannot be read: {why}"), attempted=not short, ran=False
    )
