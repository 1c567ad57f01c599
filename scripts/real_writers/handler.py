"""The handler: records when it got which file. It is slow if the name contains `slow`.

    {"queue": ..., "name": ..., "began": nanoseconds, "size": bytes, "sha": of the contents}

One line when it begins, with `"at_work": true`, and one when it has read everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watcher.handle.entry import Entry

RECORD = "REAL_WRITERS_RECORD"
SLOW = 2.0  # seconds


def handle(entry: Entry) -> None:
    """Record a file."""
    told: dict[str, object] = {
        "queue": entry.queue,
        "name": entry.name,
        "began": time.time_ns(),
        "size": len(entry.message),
        "sha": hashlib.sha256(entry.message).hexdigest(),
    }
    _write(told | {"at_work": True})
    if "slow" in entry.name:
        time.sleep(SLOW)
    _write(told)


def _write(told: dict[str, object]) -> None:
    fd = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, json.dumps(told).encode() + b"\n")
    finally:
        os.close(fd)
