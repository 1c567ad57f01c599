"""Whether a file system is so full that a queue on it will soon be refused. PURE.

Guarantees: a file system that reports no sizes (some network and FUSE file systems) is never full.
Fails: never.
"""

from __future__ import annotations

VERY_LITTLE = 0.01  # of a file system ...
ENOUGH = 1 << 30  # ... that still are so many bytes are no trouble


def nearly_full(free: int, total: int, free_files: int, files: int) -> str:
    """Say what there is too little of, and how much is left; "" if there is enough.

    `free` and `total` in bytes; `free_files` and `files` are inodes.
    """
    if total and free < ENOUGH and free < VERY_LITTLE * total:
        return f"the disk is nearly full: {free >> 10} KiB are free ({free / total:.1%}); free some"
    if files and free_files < VERY_LITTLE * files and free_files < ENOUGH >> 10:
        return (
            f"the disk has {free_files} inodes left ({free_files / files:.1%}); remove some files"
        )
    return ""
