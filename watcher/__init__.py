"""watcher: a queue directory that never loses a message.

The way of an entry through the tree (docs/architecture.md, "The way of an entry"):

    commit_*.py  0  a writer commits: write, sync, rename, sync the directory
    arrive/      1  events and scans say that an entry may be ready
    claim/       2  one process gets the entry: open, lock, check the evidence
    handle/      3  the user's command or function does the work
    settle/      4  the result becomes one move: done, deferred, dead, orphan
    rules/  mailman/  spool/        decisions; Mailman's files; the queue's disk
    attempt.py  daemon/  sweep.py   put the stages together
    embed/       a queue in another program: `entries`, `entries_async`

The public names below are imported at first use, so `import watcher` alone costs nothing else.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watcher.commit_many import enqueue_many
    from watcher.commit_one import enqueue
    from watcher.embed.entries import ClaimedEntry, Entries, entries
    from watcher.embed.entries_async import AsyncClaimedEntry, AsyncEntries, entries_async
    from watcher.handle.entry import Entry
    from watcher.handle.handler import Reject, Retry

__version__ = "0.1.0"  # a constant: importlib.metadata.version() takes 69 ms
__all__ = [
    "AsyncClaimedEntry",
    "AsyncEntries",
    "ClaimedEntry",
    "Entries",
    "Entry",
    "Reject",
    "Retry",
    "enqueue",
    "enqueue_many",
    "entries",
    "entries_async",
]

_HOMES = {
    "AsyncClaimedEntry": "watcher.embed.entries_async",
    "AsyncEntries": "watcher.embed.entries_async",
    "ClaimedEntry": "watcher.embed.entries",
    "Entries": "watcher.embed.entries",
    "Entry": "watcher.handle.entry",
    "Reject": "watcher.handle.handler",
    "Retry": "watcher.handle.handler",
    "enqueue": "watcher.commit_one",
    "enqueue_many": "watcher.commit_many",
    "entries": "watcher.embed.entries",
    "entries_async": "watcher.embed.entries_async",
}


# A child that is forked while another thread imports would wait for that import without end. So a
# fork waits until the imports of this module are complete.
_importing = threading.RLock()
os.register_at_fork(
    before=_importing.acquire,
    after_in_parent=_importing.release,
    after_in_child=_importing.release,
)


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, with all that it will need."""
    if name not in _HOMES:
        raise AttributeError(f"module 'watcher' has no attribute {name!r}")
    import importlib

    with _importing:
        home = importlib.import_module(_HOMES[name])
        if name.startswith("enqueue"):
            importlib.import_module("watcher.commit_one").prepare()
        found: object = getattr(home, name)
        globals()[name] = found  # the next lookup does not come here
    return found
