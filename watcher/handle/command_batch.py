"""An exec handler with `batch`: one run of a command for several entries.

    arguments       the messages' files in order, as /dev/fd/N, after those of the configuration
    WATCHER_FILES   a file with the same names, each followed by a NUL
    standard input  one line of JSON about each entry, in the same order
    descriptor 3    what the command says of single entries (`rules.batch_words`)

Guarantees: as `Command`. A message's file is the claimed file, or a sealed file in memory where the
message is a part of the claimed file. What makes no sense on descriptor 3 is said in the reason,
and no entry is done because of it.
Fails: as `Command`; an entry that cannot be read is left out of the call, and has its own result.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Sequence
from dataclasses import replace

from watcher import mailman
from watcher.errors import Undecodable
from watcher.handle.batch_handler import BatchResult, is_unsplit
from watcher.handle.child_process import Cap, stderr_file
from watcher.handle.command import Command
from watcher.handle.command_process import (
    FIRST,
    Spawned,
    Streams,
    above_standard,
    not_given,
    not_started,
    start,
)
from watcher.handle.entry import Entry
from watcher.handle.message_file import message_file, sealed
from watcher.handle.posix_spawn import strings
from watcher.rules.batch_words import MOST, Named, Words, read_words
from watcher.rules.results import HANDLED, HandlerResult, Verdict, shortened

LEAST = FIRST + 1  # of the descriptors that the command is given: 3 is for its words


class CommandBatch(Command):
    """Runs one command for up to `most` entries."""

    def __init__(
        self, argv: Sequence[str], timeout: float | None, most: int, wait: float = 0.0
    ) -> None:
        super().__init__(argv, timeout)
        self.most = most
        self.wait = wait

    def run(self, entry: Entry) -> HandlerResult:
        """Run the command for one entry; never raises."""
        result = self.run_batch([entry])
        return result.words.get(0, result.whole)

    def run_batch(self, entries: Sequence[Entry]) -> BatchResult:
        """Run the command for some entries; never raises."""
        words: dict[int, HandlerResult] = {}
        try:
            with contextlib.ExitStack() as opened:
                given = _Given()
                for number, entry in enumerate(entries):
                    try:
                        given.add(number, entry, opened)
                    except Undecodable as error:
                        words[number] = HandlerResult(Verdict.REJECT, str(error), ran=False)
                    except (OSError, MemoryError) as error:
                        words[number] = not_given(error)
                if not given.entries:
                    return BatchResult(HANDLED, words)
                whole, said = self._run_for(given, opened)
        except (OSError, MemoryError) as error:
            whole = not_given(error)
            return BatchResult(whole, words, is_unsplit(whole))
        words |= {given.numbers[number]: result for number, result in said.results.items()}
        if not said.unclear:
            return BatchResult(whole, words, is_unsplit(whole))
        verdict = Verdict.RETRY if whole.verdict is Verdict.DONE else whole.verdict
        reason = f"{whole.reason}; {said.unclear}" if whole.reason else said.unclear
        whole = replace(whole, verdict=verdict, reason=shortened(reason))
        return BatchResult(whole, words, unsplit=True)

    def _run_for(self, given: _Given, opened: contextlib.ExitStack) -> tuple[HandlerResult, Words]:
        process, streams = self._begin_for(given, opened)
        if isinstance(process, (OSError, ValueError)):
            whole = not_started(self.argv[0], process)
            if isinstance(process, OSError) and process.errno == errno.E2BIG:
                whole = replace(whole, verdict=Verdict.RETRY)  # fewer entries may be few enough
            return whole, Words({})
        for entry in given.entries:
            entry.process = process.pid
        whole = self._result(process, streams)
        if streams.words is None:
            return whole, Words({})
        Cap(streams.words, -1).look()  # what the command left running says comes too late
        return whole, read_words(os.pread(streams.words, MOST + 1, 0), given.named)

    def _begin_for(
        self, given: _Given, opened: contextlib.ExitStack
    ) -> tuple[Spawned | OSError | ValueError, Streams]:
        files = [os.fsencode(each.file) for each in given.named]
        with self._turn:
            said = stderr_file("words")
            opened.callback(os.close, said)
            about = sealed("entries", b"".join(given.lines), opened)
            streams = self._streams(about, opened)._replace(words=said)
            listed = above_standard(
                sealed("files", b"".join(file + b"\0" for file in files), opened), opened, LEAST
            )
            for entry in given.entries:
                entry.lent = True
            environment = [
                *self._inherited,
                b"WATCHER_QUEUE=" + os.fsencode(given.entries[0].queue),
                b"WATCHER_FILES=/dev/fd/%d" % listed,
            ]
        argv = [*(os.fsencode(argument) for argument in self.argv), *files]
        passed = [*given.passed, listed]
        try:
            return start(strings(argv), strings(environment), streams, passed), streams
        except (OSError, ValueError) as error:
            return error, streams


class _Given:
    """The entries of one call, and what the command gets of them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []  # in the batch
        self.entries: list[Entry] = []
        self.named: list[Named] = []
        self.lines: list[bytes] = []
        self.passed: list[int] = []

    def add(self, number: int, entry: Entry, opened: contextlib.ExitStack) -> None:
        """Add an entry; raise what makes it impossible."""
        metadata = mailman.to_json(entry.metadata)
        key = entry.key
        claimed = [above_standard(part.fd, opened, LEAST) for part in entry.parts]
        message = above_standard(message_file(entry, opened), opened, LEAST)
        if entry.plain:
            message = claimed[0]
        named = Named(entry.name, f"/dev/fd/{message}")
        facts = {
            "index": len(self.entries),
            "entry": named.entry,
            "file": named.file,
            "path": entry.path,
            "key": key,
            "attempt": entry.attempt,
        }
        line = f'{json.dumps(facts)[:-1]}, "metadata": {metadata}}}\n'
        self.lines.append(line.encode("utf-8", "replace"))
        self.numbers.append(number)
        self.entries.append(entry)
        self.named.append(named)
        self.passed += claimed if entry.plain else [*claimed, message]
