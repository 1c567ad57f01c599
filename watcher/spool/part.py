"""One opened file of an entry, and how it is read.

Guarantees: a file is read through its descriptor, whatever its name leads to by now. At most
`limit` bytes are read; a digest reads at most `WHOLE` bytes.
Fails: Undecodable for a file that is larger than its limit; OSError if the disk cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from watcher import mailman
from watcher.errors import Undecodable
from watcher.spool.birth import birth_ns

CHUNK = 1 << 20
WHOLE = mailman.MAX_SIZE  # bytes: a larger file's key is made of samples
SAMPLES, SAMPLE = 1024, WHOLE // 1024  # how many, from its beginning to its end, and bytes each
_64_BITS = (1 << 64) - 1


class Part(NamedTuple):
    """One file of a claimed entry: its name where it lies, the claim's descriptor, its identity."""

    name: bytes
    fd: int
    ino: int
    size: int
    ctime_ns: int
    mtime_ns: int
    directory: int | None = None  # the state directory that it lies in; None: the queue directory
    unstamped: bytes | None = None  # the name without its stamp; None: `name` has no stamp

    @property
    def queue_name(self) -> bytes:
        """Its name in the queue."""
        return self.unstamped or self.name


def identity_of(part: Part) -> int:
    """Return when the file of a part was made, or else when it was last written to."""
    return (birth_ns(part.fd) or part.mtime_ns) & _64_BITS or 1  # 0 stands for none


def digest_into(update: Callable[[bytes], object], part: Part) -> None:
    """Add a file's bytes to a digest; of a file larger than `WHOLE`, its size and samples.

    So a key costs no more than that many bytes, whatever the size. A later attempt must see that
    the file was written to meanwhile: it grew, or a part that was allocated and empty was filled.
    """
    if part.size > WHOLE:
        size = max(WHOLE, os.fstat(part.fd).st_size)  # it may have grown since it was claimed
        update(b"%d\0" % size)
        for number in range(SAMPLES):
            offset = number * (size - SAMPLE) // (SAMPLES - 1)
            update(os.pread(part.fd, SAMPLE, offset))
        return
    offset, asked = 0, min(CHUNK, part.size + 1)
    while chunk := os.pread(part.fd, asked, offset):
        update(chunk)
        offset += len(chunk)
        if len(chunk) < asked and offset >= part.size:
            break  # the end of the file: one read saved
        asked = CHUNK


def too_large(size: int, limit: int) -> str:
    """Return why an entry is not handled, and what to do about it."""
    return f"{size} bytes is more than the {limit} allowed (max_size); raise that and requeue it"


def read_part(part: Part, limit: int) -> bytes:
    """Read one part whole; raise Undecodable if it is larger than `limit` bytes."""
    if part.size > limit:
        raise Undecodable(too_large(part.size, limit))
    data = os.pread(part.fd, part.size + 1, 0)
    if len(data) > part.size or len(data) < min(part.size, 0x7FFFF000):
        return _read_moving(part.fd, limit)
    return data


def _read_moving(fd: int, limit: int) -> bytes:
    """Read a file whose size changed since fstat, or that one read cannot hold."""
    pieces: list[bytes] = []
    total = 0
    while chunk := os.pread(fd, CHUNK, total):
        pieces.append(chunk)
        total += len(chunk)
        if total > limit:
            raise Undecodable(f"more than the {limit} bytes allowed (max_size)")
    return b"".join(pieces)
