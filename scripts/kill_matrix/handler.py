r"""The handlers of the kill matrix: each call appends a line to the record, with one write.

    PHASE \t ENTRY \t ATTEMPT \t WORD \t SHA-256 \t KEY \t METADATA

The entry's name determines the result: `retry-...` is a retry while the attempt is below the number
at the end of the name, `reject...` is rejected, all others are done. The line is written before the
result is returned: if the process is killed between the two, the entry was handled without a
result.

These variables of the environment make the handler do more. LEFT: it leaves a child running, which
inherits its descriptors, and records the child in that file. OVER: it renames a new file from that
directory over the entry's file, as a writer may. RELOAD: it has its daemon reload, with the
configuration for this entry in that directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from watcher.handle.handler import Reject, Retry

if TYPE_CHECKING:
    from watcher.handle.entry import Entry

RECORD, PHASE = "KILL_MATRIX_RECORD", "KILL_MATRIX_PHASE"
LEFT, OVER, RELOAD = "KILL_MATRIX_LEFT", "KILL_MATRIX_OVER", "KILL_MATRIX_RELOAD"
VICTIM, RECOVERY = "victim", "recovery"
RELOADING = 0.02  # seconds for which the handler keeps the entry while its daemon reloads

# The same as `handle`, as a shell script: no second Python has to start.
SHELL = """#!/bin/sh
sum=$(sha256sum) && sum=${sum%% *} && word=done status=0
entry=${WATCHER_ENTRY%.csv}
case "$entry" in
reject*) word=reject status=65 ;;
retry-*) [ "$WATCHER_ATTEMPT" -lt "${entry##*-}" ] && word=retry status=75 ;;
esac
if [ -n "$KILL_MATRIX_LEFT" ]; then
    sleep 600 &
    printf '%s %s\\n' $! "$entry" >>"$KILL_MATRIX_LEFT"
fi
printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' "$KILL_MATRIX_PHASE" "$entry" \\
    "$WATCHER_ATTEMPT" "$word" "$sum" "$WATCHER_KEY" "$WATCHER_METADATA" >>"$KILL_MATRIX_RECORD"
new=$KILL_MATRIX_OVER/$entry.csv
[ -n "$KILL_MATRIX_OVER" ] && [ -e "$new" ] && mv "$new" "$KILL_MATRIX_OVER/../queue/"
exit $status
"""

# The same for many entries in one call: a line of JSON for each on standard input, and a word for
# each on descriptor 3.
BATCH = """import hashlib, json, os, sys
record = os.open(os.environ["KILL_MATRIX_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
for line, path in zip(sys.stdin, sys.argv[1:], strict=True):
    told = json.loads(line)
    name, attempt, word = told["entry"], told["attempt"], "done"
    if name.startswith("reject"):
        word = "reject"
    elif name.startswith("retry-") and attempt < int(name.rpartition("-")[2]):
        word = "retry"
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    fields = os.environ["KILL_MATRIX_PHASE"], name, str(attempt), word, digest, told["key"]
    os.write(record, "\\t".join((*fields, json.dumps(told["metadata"]))).encode() + b"\\n")
    said = {"entry": name, "result": word, "reason": "its name says so"}
    os.write(3, json.dumps(said).encode() + b"\\n")
"""

# The same for a command that stays: a line of JSON on standard input, an answer on standard output.
WORKER = """import hashlib, json, os, sys
record = os.open(os.environ["KILL_MATRIX_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
for line in iter(sys.stdin.readline, ""):
    told = json.loads(line)
    name, attempt, word = told["entry"], told["attempt"], "done"
    if name.startswith("reject"):
        word = "reject"
    elif name.startswith("retry-") and attempt < int(name.rpartition("-")[2]):
        word = "retry"
    with open(told["file"], "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    fields = os.environ["KILL_MATRIX_PHASE"], name, str(attempt), word, digest, told["key"]
    os.write(record, "\\t".join((*fields, json.dumps(told["metadata"]))).encode() + b"\\n")
    print(word if word == "done" else word + " its name says so", flush=True)
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
    """Append a line, then return the result for the entry's name."""
    name = entry.name.removesuffix(".csv")  # of a raw entry
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
    _be_a_writer(name)
    _reload(name)
    if word == "reject":
        raise Reject("its name says so")
    if word == "retry":
        raise Retry("its name says so")


def _be_a_writer(name: str) -> None:
    """Rename a new file over the entry's file, if there is one for it."""
    directory = os.environ.get(OVER, "")
    new = os.path.join(directory, f"{name}.csv")
    while directory:
        try:
            os.rename(new, os.path.join(directory, "..", "queue", f"{name}.csv"))
        except FileNotFoundError:
            break
        except OSError:
            continue  # the matrix may refuse this call, several times in a row at most


def _reload(name: str) -> None:
    """Have the daemon reload, if there is a configuration for this entry."""
    directory = os.environ.get(RELOAD, "")
    new = os.path.join(directory, f"{name}.toml")
    if directory and os.environ[PHASE] == VICTIM and os.path.exists(new):
        os.rename(new, os.path.join(directory, "..", "run.toml"))
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(RELOADING)


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
