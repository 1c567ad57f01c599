r"""The handlers of the kill matrix: each call leaves a line, written at once, in the record.

    PHASE \t ENTRY \t ATTEMPT \t WORD \t SHA-256 \t KEY \t METADATA

What a handler says is in the entry's name: `retry-...` asks for a retry while its attempt is below
the number that the name ends in, `reject...` is rejected, everything else is done. The line is
there before the word is given: whoever is killed between the two has said nothing, yet has worked.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from watcher.handle.outcome import Reject, Retry

if TYPE_CHECKING:
    from watcher.entry import Entry

RECORD, PHASE = "KILL_MATRIX_RECORD", "KILL_MATRIX_PHASE"

# The same as `handle`, for the shell: one program more, and no interpreter to start.
SHELL = """#!/bin/sh
sum=$(sha256sum) && sum=${sum%% *} && word=done status=0
case "$WATCHER_ENTRY" in
reject*) word=reject status=65 ;;
retry-*) [ "$WATCHER_ATTEMPT" -lt "${WATCHER_ENTRY##*-}" ] && word=retry status=75 ;;
esac
printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' "$KILL_MATRIX_PHASE" "$WATCHER_ENTRY" \\
    "$WATCHER_ATTEMPT" "$word" "$sum" "$WATCHER_KEY" "$WATCHER_METADATA" >>"$KILL_MATRIX_RECORD"
exit $status
"""


class Call(NamedTuple):
    """One line of the record."""

    phase: str
    entry: str
    attempt: int
    word: str
    digest: str
    key: str
    metadata: dict[str, object]


def handle(entry: Entry) -> None:
    """Leave a line, then say what the entry's name asks for."""
    name = entry.name
    word = "done"
    if name.startswith("reject"):
        word = "reject"
    elif name.startswith("retry-") and entry.attempt < int(name.rpartition("-")[2]):
        word = "retry"
    digest = hashlib.sha256(entry.message).hexdigest()
    metadata = json.dumps({key: _text(value) for key, value in entry.metadata.items()})
    fields = (os.environ[PHASE], name, str(entry.attempt), word, digest, entry.key, metadata)
    fd = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, "\t".join(fields).encode() + b"\n")
    finally:
        os.close(fd)
    if word == "reject":
        raise Reject("its name says so")
    if word == "retry":
        raise Retry("its name says so")


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def read(path: str) -> list[Call]:
    """Return the record's lines, the oldest first."""
    try:
        with open(path, encoding="utf-8") as lines:
            return [_call(line.rstrip("\n").split("\t")) for line in lines]
    except FileNotFoundError:
        return []


def _call(fields: list[str]) -> Call:
    phase, entry, attempt, word, digest, key, metadata = fields
    return Call(phase, entry, int(attempt), word, digest, key, json.loads(metadata))
