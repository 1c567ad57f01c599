"""The life of one entry, for the page: what `watcher history --json` tells.

The journal may have gigabytes. One request at a time reads it, and for `LONGEST` seconds at most.

Guarantees: at most `MOST_STEPS` steps are returned, and `truncated` says if there were more.
Fails: Refused, with the reason.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from typing import Any

from watcher.config.open_queue import open_spool
from watcher.config.queue_settings import Queue
from watcher.errors import TryAgain, WatcherError, one_line
from watcher.inspect.entry_history import history
from watcher.inspect.history_json import record

LONGEST = 5.0  # seconds
MOST_STEPS = 500
LONGEST_NAME = 1024  # characters


class Refused(Exception):
    """There is no life to tell; `busy`: the same question may be answered later."""

    def __init__(self, text: str, *, busy: bool = False) -> None:
        super().__init__(text)
        self.busy = busy


class EntryLives:
    """Reads lives, one at a time."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def life(self, settings: Queue, entry: str) -> dict[str, Any]:
        """Return the life of an entry as JSON knows it; raise Refused."""
        if len(entry) > LONGEST_NAME:
            raise Refused("the name is too long")
        if not self._one.acquire(blocking=False):
            raise Refused("another entry is looked for", busy=True)
        try:
            until = time.monotonic() + LONGEST
            found = history(open_spool(settings), os.fsencode(entry), settings.max_size, until)
        except TryAgain as error:
            command = f"watcher history {shlex.quote(settings.path)} {shlex.quote(entry)}"
            words = f"{error}; on the daemon's machine this command takes its time: {command}"
            raise Refused(one_line(words), busy=True) from None
        except WatcherError as error:
            raise Refused(str(error)) from None
        except (OSError, ValueError) as error:
            raise Refused(f"it cannot be looked for: {error}") from None
        finally:
            self._one.release()
        return _shortened(record(found))


def _shortened(life: dict[str, Any]) -> dict[str, Any]:
    """Keep the newest steps. PURE."""
    left = MOST_STEPS
    truncated = False
    for each in reversed(life["lives"]):
        truncated = truncated or len(each["steps"]) > left
        each["steps"] = each["steps"][-left:] if left else []
        left -= len(each["steps"])
    return {**life, "truncated": truncated}
