"""The queue runner as the report of 2002 describes it, for `replay_seed_race.py` and tests.

It walks the directory once. A `.db` without its `.msg` is called an orphan and unlinked, and so is
a `.msg` without its `.db`; a whole pair is handled (here: its name is returned) and unlinked. It
does not lock or wait, which is its fault: the orphan may be the first file of a pair that a writer
is writing. Written from the report, without its code.
"""

from __future__ import annotations

import contextlib
import os


def walk(queue: str) -> list[str]:
    """Walk the directory once; return the names of the pairs that were handled."""
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
    """Unlink a file; if it is gone, that is the traceback in the report's log."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
