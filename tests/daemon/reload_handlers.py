"""The handlers of the tests of reloads: each records what it was given, and fails if told to."""

from __future__ import annotations

import hashlib
import json
import os
import sys

from watcher import Entry, Retry

CALLS = "RELOAD_CALLS"  # the file that the handlers append to
FAILS = ".fails."  # a token with this in it fails at the first attempt

# The same as a command. A shell without another process: thousands of these are run.
COMMAND = f"""\
read -r token
printf '{{"queue": "%s", "entry": "%s", "key": "%s", "attempt": %s, "token": "%s"}}\\n' \
    "$WATCHER_QUEUE" "$WATCHER_ENTRY" "$WATCHER_KEY" "$WATCHER_ATTEMPT" "${{token#Token: }}" \
    >> "${CALLS}"
case $WATCHER_ATTEMPT$token in 1*{FAILS}*) exit 75;; esac
"""


def handle(entry: Entry) -> None:
    """Record one call; fail the first time if the token says so."""
    message = entry.message
    token = message.partition(b"\n")[0].decode().removeprefix("Token: ")
    call = {
        "queue": entry.queue,
        "entry": entry.name,
        "key": entry.key,
        "attempt": entry.attempt,
        "token": token,
        "sha256": hashlib.sha256(message).hexdigest(),
        "isolated": "watcher.daemon.loop" not in sys.modules,
    }
    descriptor = os.open(os.environ[CALLS], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(descriptor, json.dumps(call).encode() + b"\n")
    finally:
        os.close(descriptor)
    if FAILS in token and entry.attempt == 1:
        raise Retry("not yet")
