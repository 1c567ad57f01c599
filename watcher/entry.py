"""What a handler is given: one claimed entry, decoded only when asked for.

Guarantees: everything is read through the claim's own descriptors, so what a handler sees is the
file that was claimed, whatever happens to its name meanwhile; nothing found in a file is executed
(the decoders are `watcher.contents`).
Fails: `message` and `metadata` raise Undecodable when the contents are not what the format allows
or larger than `limit`, and OSError when the disk cannot be read.
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

from watcher import contents
from watcher.errors import Undecodable

CHUNK = 1 << 20


class Part(NamedTuple):
    """One file of a claimed entry: its name where it lies, the claim's descriptor, its identity."""

    name: bytes
    fd: int
    ino: int
    size: int
    ctime_ns: int
    mtime_ns: int = -1  # -1: not known
    directory: int = -1  # the directory of ours that it lies in; -1: the queue's own
    own: bytes = b""  # its name in the queue, where `name` has a stamp in front; "": the same

    @property
    def called(self) -> bytes:
        """Its name in the queue."""
        return self.own or self.name


class Entry:
    """One claimed entry. `parts[0]` is the message half; a legacy pair has its `.db` as `parts[1]`.

    Attributes
    ----------
    queue:    the queue's name
    attempt:  1 for the first time a handler sees this entry
    crashes:  how often it was in the hands of a process that died
    damage:   why the contents could not be decoded, once somebody asked for them; else None
    """

    __slots__ = (
        "_directory",
        "_key",
        "_message",
        "_metadata",
        "_stem",
        "attempt",
        "crashes",
        "damage",
        "kind",
        "limit",
        "parts",
        "queue",
    )

    def __init__(  # noqa: PLR0913 - a record: each is one fact of the entry, all keyword-only
        self,
        *,
        queue: str,
        name: bytes,
        directory: bytes,
        parts: tuple[Part, ...],
        kind: str,
        attempt: int = 1,
        crashes: int = 0,
        limit: int = contents.MAX_SIZE,
    ) -> None:
        self.queue = queue
        self._stem = name
        self._directory = directory
        self.parts = parts
        self.kind = kind  # "pck", "pair" (.msg and .db), "pck+db", or "raw"
        self.attempt = attempt
        self.crashes = crashes
        self.limit = limit
        self._message: bytes | None = None
        self._metadata: dict[str, object] | None = {} if kind == "raw" else None
        self._key: str | None = None
        self.damage: str | None = None

    @property
    def name(self) -> str:
        """The entry's name (undecodable bytes as surrogate escapes: os.fsencode undoes them)."""
        return os.fsdecode(self._stem)

    @property
    def path(self) -> str:
        """The absolute path of the message's file."""
        return os.fsdecode(os.path.join(self._directory, self.parts[0].name))

    @property
    def message(self) -> bytes:
        """The message's bytes; raises Undecodable or OSError."""
        return self._decode()[0] if self._message is None else self._message

    @property
    def metadata(self) -> dict[str, object]:
        """The metadata the writer gave (empty for raw); raises Undecodable or OSError."""
        return self._decode()[1] if self._metadata is None else self._metadata

    @property
    def key(self) -> str:
        """The idempotency key: the same for every attempt, process and host (64 hex digits).

        It is the SHA-256 of the entry's name and of its message file's bytes: a drop folder's
        `report.csv` of today is another entry than yesterday's, and a `.db` that a foreign runner
        rewrites beside the same message is not.
        """
        if self._key is None:
            digest = hashlib.sha256(self._stem + b"\0")
            message, offset, asked = self.parts[0], 0, min(CHUNK, self.parts[0].size + 1)
            while chunk := os.pread(message.fd, asked, offset):
                digest.update(chunk)
                offset += len(chunk)
                if len(chunk) < asked and offset >= message.size:
                    break  # its end: nothing more need be asked for
                asked = CHUNK
            self._key = digest.hexdigest()
        return self._key

    @property
    def plain(self) -> bool:
        """Whether the message's file is the message, byte for byte (raw, or a `.msg` half)."""
        return self.kind in ("raw", "pair")

    def _decode(self) -> contents.Contents:
        try:
            decoded = self._read()
        except Undecodable as error:
            self.damage = str(error)
            raise
        self._message, self._metadata = decoded
        return decoded

    def _read(self) -> contents.Contents:
        head = read_part(self.parts[0], self.limit)
        if self.kind == "raw":
            return contents.Contents(head, {})
        if self.kind == "pck":
            return contents.read_pck(head)
        metadata = contents.read_db(read_part(self.parts[1], self.limit))
        message = contents.read_pck_message(head) if self.kind == "pck+db" else head
        return contents.Contents(message, metadata)


def read_part(part: Part, limit: int) -> bytes:
    """Read one part whole; raise Undecodable if it is larger than `limit` bytes."""
    if part.size > limit:
        raise Undecodable(f"{part.size} bytes is more than the {limit} allowed (max_size)")
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
