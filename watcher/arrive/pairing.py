"""Which halves of which pairs were seen complete: closed, or renamed in. PURE.

Guarantees: bounded memory. A mark that is forgotten costs a pair its grace age, never the pair;
a mark that is stale proves nothing by itself: both files must be there and without a writer when
the pair is taken (`claim.take`).
"""

from __future__ import annotations

import threading

from watcher.spool.layout import Kind, Layout

MAX_MARKS = 65_536
_METADATA, _MESSAGE, _PCK = 1, 2, 4


class Marks:
    """The halves seen complete, by stem."""

    def __init__(self, layout: Layout, limit: int = MAX_MARKS) -> None:
        self._layout = layout
        self._limit = limit
        self._seen: dict[bytes, int] = {}
        self._lock = threading.Lock()  # the watcher marks, the workers forget

    def __len__(self) -> int:
        return len(self._seen)

    def mark(self, name: bytes, kind: Kind) -> bytes | None:
        """Note that the half `name` is complete; return the entry's name if the other is too."""
        stem = self._layout.stem(name)
        bit = {Kind.METADATA_HALF: _METADATA, Kind.MESSAGE_HALF: _MESSAGE}.get(kind, _PCK)
        with self._lock:
            bits = self._seen.pop(stem, 0) | bit
            while len(self._seen) >= self._limit:
                del self._seen[next(iter(self._seen))]
            self._seen[stem] = bits
        if bits & _METADATA:
            message, pck = self._layout.message_halves(name)
            if bits & _MESSAGE:
                return message
            if bits & _PCK:
                return pck
        return None

    def complete(self, name: bytes, kind: Kind) -> bool:
        """Whether the message called `name` and its `.db` have both been seen complete."""
        both = _METADATA | (_PCK if kind is Kind.ENTRY else _MESSAGE)
        return self._seen.get(self._layout.stem(name), 0) & both == both

    def forget(self, name: bytes) -> None:
        """Drop what was seen of the entry `name`: it is settled."""
        if not self._seen:
            return
        with self._lock:
            self._seen.pop(self._layout.stem(name), None)
