"""watcher: a queue directory that never loses a message.

The way of an entry, and of a reader, through the tree:

    producer   0 PUT     a writer commits: write, sync, rename, sync the directory
    arrive/    1 NOTICE  something may be ready: events, timers, scans  (evidence.py rules)
    claim/     2 TAKE    one holder an entry: open, lock, check
    handle/    3 WORK    run the user's code, learn the outcome
    settle/    4 FINISH  done, dead, orphaned: one move each
    spool/     the names and the only file-system calls;  contents/ reads what is in the files
    notice.py, attempt.py, runner.py, daemon.py, sweep.py  put the stages together

The public names below are imported at first use: `import watcher` costs nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watcher.entry import Entry
    from watcher.groups import enqueue_many
    from watcher.handle.outcome import Reject, Retry
    from watcher.producer import enqueue

__version__ = "0.1.0"  # here, because to ask for the installed one takes 69 ms
__all__ = ["Entry", "Reject", "Retry", "enqueue", "enqueue_many"]

_HOMES = {
    "Entry": "watcher.entry",
    "Reject": "watcher.handle.outcome",
    "Retry": "watcher.handle.outcome",
    "enqueue": "watcher.producer",
    "enqueue_many": "watcher.groups",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'watcher' has no attribute {name!r}")
    import importlib

    found: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found  # the next time it is found without us
    return found
