"""Names of which IN_CREATE told, and whether a writer has closed the file since. No I/O.

Guarantees: `closed` is False only if every event of the name since its last IN_CREATE was noted
here, and none is IN_CLOSE_WRITE. Memory for `MAX_CREATED` names; if one is dropped, its file waits
as one that was written in place.
Fails: never.
"""

from __future__ import annotations

import threading

MAX_CREATED = 131_072  # names: as many as can be ready or have a timer


class Created:
    """The files that may have been linked in, by name."""

    def __init__(self, limit: int = MAX_CREATED) -> None:
        self._limit = limit
        self._created: dict[bytes, bool] = {}  # whether no event was lost since IN_CREATE
        self._lock = threading.Lock()  # the thread that reads events notes, workers forget
        self._sure = False  # whether a name in the table may be True
        self._ended = False  # whether no event is noted any more

    def __len__(self) -> int:
        return len(self._created)

    def take_over(self, before: Created, *, heard: bool) -> None:
        """Know what `before` knows; `heard`: no event was left out from then to now."""
        with before._lock:
            self._created, self._sure = dict(before._created), before._sure
        if not heard:
            self.lose_events()

    def on_create(self, name: bytes) -> None:
        """Note IN_CREATE."""
        with self._lock:
            self._created.pop(name, None)
            while len(self._created) >= self._limit:
                del self._created[next(iter(self._created))]
            self._created[name] = self._sure = True

    def on_close(self, name: bytes) -> bool:
        """Note IN_CLOSE_WRITE; return whether IN_CREATE told of the name before."""
        if name not in self._created:
            return False
        with self._lock:
            return self._created.pop(name, None) is not None

    def lose_events(self) -> None:
        """Note that events were lost: of no file is it known that it was not closed."""
        if self._sure:
            with self._lock:
                self._created, self._sure = dict.fromkeys(self._created, False), False

    def end(self) -> None:
        """Note that no event will be noted any more: the queue is not watched from now on."""
        self._ended = True
        self.lose_events()

    def closed(self, name: bytes) -> bool | None:
        """Return whether a writer closed the file since IN_CREATE; None: events were lost."""
        if self._ended:
            return None
        sure = self._created.get(name)
        return True if sure is None else (False if sure else None)

    def forget(self, name: bytes) -> None:
        """Drop a name of which nothing more is asked."""
        with self._lock:
            self._created.pop(name, None)
