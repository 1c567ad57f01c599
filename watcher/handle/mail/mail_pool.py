"""The open connections to one mail server: given to one thread at a time, reused, closed when idle.

Guarantees: a connection that the server closed meanwhile is not given out. What nothing has used
for `IDLE` seconds is closed, by a thread that exists only while a connection is open and idle.
`stop` makes what is in use fail at once.
Fails: `take` raises Trouble.
"""

from __future__ import annotations

import threading
import time

from watcher.handle.mail.mail_connection import Access, MailConnection, Trouble
from watcher.rules.mail_replies import Fate

IDLE = 5.0  # seconds
MOST_TRANSACTIONS = 100  # on one connection


class MailPool:
    """The connections of one handler. Its lock is held for no call of a socket."""

    def __init__(self) -> None:
        self.stopped = False
        self._lock = threading.Lock()
        self._idle: list[MailConnection] = []  # the one that was used last is at the end
        self._used: set[MailConnection] = set()
        self._closer: threading.Timer | None = None

    def take(self, access: Access, deadline: float, limit: float) -> MailConnection:
        """Return an open connection; raise Trouble."""
        while (connection := self._idle_one()) is not None:
            if connection.access == access and connection.is_quiet():
                connection.deadline, connection.limit = deadline, limit
                return connection
            self.drop(connection)
        connection = MailConnection(access)
        with self._lock:
            self._used.add(connection)
        try:
            connection.open(deadline, limit)
            self._check()
        except Trouble:
            self.drop(connection)
            raise
        return connection

    def give_back(self, connection: MailConnection) -> None:
        """Keep a connection for another message if it is good for one; else close it."""
        good = connection.usable and connection.transactions < MOST_TRANSACTIONS
        with self._lock:
            self._used.discard(connection)
            keep = good and not self.stopped and (self._closer or self._start_closer(IDLE))
            if keep:
                connection.idle_since = time.monotonic()
                self._idle.append(connection)
        if not keep:
            connection.leave()

    def drop(self, connection: MailConnection) -> None:
        """Close a connection that is of no use."""
        with self._lock:
            self._used.discard(connection)
        connection.close()

    def stop(self) -> None:
        """End every transaction, and close every connection."""
        with self._lock:
            self.stopped = True
            used, idle = list(self._used), self._idle
            self._idle = []
            if self._closer is not None:
                self._closer.cancel()
        for connection in used:
            connection.interrupt()
        for connection in idle:
            connection.leave()

    def _check(self) -> None:
        """Raise Trouble after `stop`: it may have missed a connection that was being made."""
        if self.stopped:
            raise Trouble(Fate.LATER, "stopped at once")

    def _idle_one(self) -> MailConnection | None:
        with self._lock:
            self._check()
            if not self._idle:
                return None
            connection = self._idle.pop()
            self._used.add(connection)
            return connection

    def _start_closer(self, seconds: float) -> bool:
        """Start the thread that closes; return False if there can be no more threads."""
        closer = threading.Timer(seconds, self._close_idle)
        closer.daemon = True
        try:
            closer.start()
        except RuntimeError:
            return False
        self._closer = closer
        return True

    def _close_idle(self) -> None:
        """Close what has been idle for too long; go on while something is idle."""
        now = time.monotonic()
        with self._lock:
            old = [each for each in self._idle if now - each.idle_since >= IDLE]
            self._idle = [each for each in self._idle if each not in old]
            self._closer = None
            rest = IDLE - (now - self._idle[0].idle_since) if self._idle else 0.0
            if self._idle and not self.stopped and not self._start_closer(rest):
                old, self._idle = old + self._idle, []
        for connection in old:
            connection.leave()
