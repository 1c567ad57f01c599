"""The connections of one `http` handler: those in use, each with a deadline, and those that wait.

Guarantees: a connection is used by one attempt at a time. One that is not given back at its
deadline is cut; so is every one in use at `terminate`. One that waits for longer than `IDLE` is
closed. The thread that sees to this lives while there are connections, and no longer.
Fails: `take` raises RuntimeError if the machine has no thread left.
"""

from __future__ import annotations

import ssl
import threading
import time

from watcher.handle.http_connection import IDLE, HttpConnection


class HttpPool:
    """Gives out connections. `seconds`: how long each may be in use."""

    def __init__(self, context: ssl.SSLContext, seconds: float) -> None:
        self._context = context
        self._seconds = seconds
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # The connections in use, and when each is cut; those that wait, and when each is closed.
        # Both in the order of these moments, because the time is the same for all.
        self._deadlines: dict[HttpConnection, float] = {}
        self._waiting: dict[HttpConnection, float] = {}
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0  # when the thread looks next
        self.terminated = False

    def take(self) -> HttpConnection:
        """Return a connection for one attempt, which begins now."""
        with self._lock:
            if self._waiting:
                connection, _ = self._waiting.popitem()
            else:
                connection = HttpConnection(self._context)
            connection.begin()
            self._deadlines[connection] = moment = time.monotonic() + self._seconds
            try:
                self._look_at(moment)
            except RuntimeError:
                del self._deadlines[connection]
                connection.close()
                raise
            if self.terminated:
                connection.cut()
            return connection

    def give_back(self, connection: HttpConnection) -> bool:
        """Take a connection back; return whether it was in use for too long, and was cut."""
        with self._lock:
            late = self._deadlines.pop(connection, None) is None
            keep = not late and not self.terminated
            if keep:
                self._waiting[connection] = moment = time.monotonic() + IDLE
                self._look_at(moment)
        if not keep:
            connection.close()
        return late and not self.terminated

    def terminate(self) -> None:
        """Cut what is in use, now and later, and close the rest."""
        with self._lock:
            self.terminated = True
            for connection in self._deadlines:
                connection.cut()
            for connection in self._waiting:
                connection.close()
            self._waiting.clear()
            self._changed.notify()

    def _look_at(self, moment: float) -> None:
        """Have the thread look at a moment, or before."""
        if self._thread is None:
            thread = threading.Thread(target=self._watch, name="http-deadline", daemon=True)
            thread.start()
            self._thread = thread
            self._wakes_at = 0.0
        elif moment < self._wakes_at:
            self._changed.notify()

    def _watch(self) -> None:
        """Cut and close each connection when it is time; end when there is none."""
        with self._lock:
            while True:
                now = time.monotonic()
                for connection in _due(self._deadlines, now):
                    connection.cut()
                for connection in _due(self._waiting, now):
                    connection.close()
                moments = [next(iter(each.values())) for each in self._tables() if each]
                if self.terminated or not moments:
                    self._thread = None
                    return
                self._wakes_at = min(moments)
                self._changed.wait(self._wakes_at - now)

    def _tables(self) -> tuple[dict[HttpConnection, float], ...]:
        return self._deadlines, self._waiting


def _due(moments: dict[HttpConnection, float], now: float) -> list[HttpConnection]:
    """Take out the connections whose moment has come."""
    found = [connection for connection, moment in moments.items() if moment <= now]
    for connection in found:
        del moments[connection]
    return found
