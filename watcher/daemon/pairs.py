"""Which halves of which pairs were seen complete: closed, or renamed in. No I/O.

Guarantees: bounded memory. If a mark is forgotten, the pair waits for its grace age and is not
lost. A stale mark proves nothing by itself: when the pair is claimed, both files must be there and
without a writer (`claim.take`).
Fails: never.
"""

from __future__ import annotations

import threading

from watcher.rules.kinds import Kind
from watcher.rules.names import Layout
from watcher.rules.pair_names import message_names

MAX_MARKS = 65_536
_METADATA, _MESSAGE, _PCK = 1, 2, 4


class Pairs:
    """The halves seen complete, by stem."""

    def __init__(self, layout: Layout, limit: int = MAX_MARKS) -> None:
        self._layout = layout
        self._limit = limit
        self._seen: dict[bytes, int] = {}
        self._lock = threading.Lock()  # the reader of events marks, the workers forget

    def __len__(self) -> int:
        return len(self._seen)

    def mark(self, name: bytes, kind: Kind) -> bytes | None:
        """Note that the half `name` is complete; return the entry's name if the other is too."""
        stem = self._layout.stem(name)
        with self._lock:
            bits = self._seen.pop(stem, 0) | _bit_of(kind)
            while len(self._seen) >= self._limit:
                del self._seen[next(iter(self._seen))]
            self._seen[stem] = bits
        if bits & _METADATA:
            message, pck = message_names(name)
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
        """Drop the marks of the entry `name`, whose attempt ended."""
        if not self._seen:
            return
        with self._lock:
            self._seen.pop(self._layout.stem(name), None)


def _bit_of(kind: Kind) -> int:
    """Return the mark of a file of this kind; 0 for a file that is no part of an entry."""
    match kind:
        case Kind.METADATA_HALF:
            return _METADATA
        case Kind.MESSAGE_HALF:
            return _MESSAGE
        case Kind.ENTRY:
            return _PCK
        case Kind.TEMPORARY | Kind.IGNORED | Kind.LEFTOVER | Kind.FOREIGN:
            return 0
        case Kind.MARKER | Kind.COMPANION:
            return 0
