"""What tests ask of other processes."""

from __future__ import annotations


def gone(pid: int) -> bool:
    """Whether a process has ended; one that its parent has not waited for counts as ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True
