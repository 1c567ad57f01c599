"""The connections of one `http` handler: those in use, each with a deadline, and those that wait.

Guarantees: a connection is used by one attempt at a time. One that is not given back at its
deadline is cut; so is every one in use at `terminate`. The thread that looks at the deadlines lives
while there are attempts, and for one deadline at most after the last one.
Fails: `take` raises RuntimeError if the machine has no thread left.
"""

from __future__ import annotations

import ssl
import threading
import time

from watcher.handle.http_connection import HttpConnection


class HttpPool:
    """Gives out connections. `seconds`: how long each may be in use."""

    def __init__(self, context: ssl.SSLContext, seconds: float) -> None:
        self._context = context
        self._seconds = seconds
        self._lock = threading.Lock()
        self._waiting: list[HttpConnection] = []
        # When each one in use is cut: in the order of their deadlines, because all have the same
        # time.
        self._deadlines: dict[HttpConnection, float] = {}
        self._thread: threading.Thread | None = None
        self.terminated = False
        self._ended = threading.Event()  # by `terminate`: the thread need not wait for a deadline

    def take(self) -> HttpConnection:
        """Return a connection for one attempt, which begins now."""
        with self._lock:
            connection = self._waiting.pop() if self._waiting else HttpConnection(self._context)
            connection.begin()
            self._deadlines[connection] = time.monotonic() + self._seconds
            if self._thread is None:
                self._start_watching(connection)
            if self.terminated:
                connection.cut()
            return connection

    def _start_watching(self, connection: HttpConnection) -> None:
        thread = threading.Thread(target=self._watch, name="http-deadline", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            del self._deadlines[connection]
            self._waiting.append(connection)
            raise
        self._thread = thread

    def give_back(self, connection: HttpConnection) -> bool:
        """Take a connection back; return whether it was in use for too long, and was cut."""
        with self._lock:
            late = self._deadlines.pop(connection, None) is None
            keep = not late and not self.terminated
            if keep:
                self._waiting.append(connection)
        if not keep:
            connection.close()
        return late and not self.terminated

    def terminate(self) -> None:
        """Cut what is in use, now and later, and close the rest."""
        with self._lock:
            self.terminated = True
            in_use, waiting = list(self._deadlines), self._waiting
            self._waiting = []
            for connection in in_use:
                connection.cut()
        self._ended.set()
        for connection in waiting:
            connection.close()

    def _watch(self) -> None:
        """Cut each connection at its deadline; end when none is in use."""
        while True:
            with self._lock:
                now = time.monotonic()
                for connection in [each for each, when in self._deadlines.items() if when <= now]:
                    del self._deadlines[connection]
                    connection.cut()
                if not self._deadlines or self.terminated:
                    self._thread = None
                    return
                wait = next(iter(self._deadlines.values())) - now
            self._ended.wait(wait)
