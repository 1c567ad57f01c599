"""Mailman 2.0.13's rule for its queue, so that the explorer has losses to find.

It reads only `.msg` files. One without its `.db` is unlinked at any age; a whole pair is handled
and unlinked. Written from its observed behaviour, not from its code.
"""

from __future__ import annotations

import contextlib
import os


def walk_2_0_13(queue: str) -> list[str]:
    """Go through the directory once; return the names of the pairs that were handled."""
    handled = []
    for file in os.listdir(queue):
        if not file.endswith(".msg"):
            continue
        path = os.path.join(queue, file.removesuffix(".msg"))
        if os.path.exists(path + ".db"):
            handled.append(os.path.basename(path))
            _unlink(path + ".db")
        _unlink(path + ".msg")
    return handled


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
