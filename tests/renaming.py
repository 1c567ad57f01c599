"""How tests commit a file to a queue: they write it elsewhere and rename it in."""

from __future__ import annotations

from pathlib import Path


def rename_in(queue: Path, name: str, data: bytes = b"x\n", *, later: bool = False) -> None:
    """Rename a file into the queue from the directory above it.

    `later`: when the kernel's clock has ticked since its last write. Then a scan that finds it sees
    by its times that it was renamed.
    """
    scratch = queue.parent / "scratch"
    scratch.write_bytes(data)
    tick = queue.parent / "tick"
    while later and (not tick.exists() or tick.stat().st_mtime_ns <= scratch.stat().st_mtime_ns):
        tick.touch()
    scratch.rename(queue / name)


def rename_within(queue: Path, name: str, data: bytes = b"data") -> None:
    """Rename a file within the queue, from a name that ends in .tmp."""
    scratch = queue / f"{name}.tmp"
    scratch.write_bytes(data)
    scratch.rename(queue / name)
