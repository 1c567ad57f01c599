"""The queue runner as the report of 2002 describes it, for `replay_seed_race.py` and tests.

It walks the directory from the top to the end. A `.db` without its `.msg` is an orphan and is
unlinked, a `.msg` without its `.db` likewise; a whole pair is handled (here: its name is written
down) and unlinked. It neither locks nor waits, and that is its fault: what it calls an orphan may
be half of a message that is being written. Written from the report, not from anybody's code.
"""

from __future__ import annotations

import contextlib
import os


def walk(queue: str) -> list[str]:
    """Go through the directory once; return the names of the pairs that were handled."""
    handled = []
    with os.scandir(queue) as entries:
        for entry in entries:
            name, suffix = os.path.splitext(entry.path)
            if suffix == ".db" and not os.path.exists(name + ".msg"):
                _unlink(name + ".db")
            elif suffix == ".msg" and not os.path.exists(name + ".db"):
                _unlink(name + ".msg")
            elif suffix == ".msg":
                handled.append(os.path.basename(name))
                _unlink(name + ".msg")
                _unlink(name + ".db")
    return handled


def _unlink(path: str) -> None:
    """Unlink, or find it gone: the traceback in the report's log."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
