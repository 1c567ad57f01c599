"""A signal handler ends the calls to a server, wherever it finds the thread that makes them."""

from __future__ import annotations

import concurrent.futures
import signal
from typing import Any

import pytest

pytest.importorskip("nats")

from watcher.jetstream.connection import Access, Connection


@pytest.mark.parametrize("place", ["before the call is known", "when it has ended"])
def test_a_signal_handler_that_cuts_does_not_wait_for_its_own_thread(place):
    """`watcher attempt` hung at TERM: the handler waited for a lock that its own thread had."""
    connection = Connection(lambda: Access(("nats://127.0.0.1:9",)))

    class Raises(set[Any]):
        def add(self, one: Any) -> None:
            if place == "before the call is known":
                signal.raise_signal(signal.SIGUSR1)
            super().add(one)

        def discard(self, one: Any) -> None:
            if place == "when it has ended":
                signal.raise_signal(signal.SIGUSR1)
            super().discard(one)

    async def work(_client: Any) -> None:
        """Never comes here: nothing listens there."""

    connection._running = Raises()
    before = signal.signal(signal.SIGUSR1, lambda *_: connection.cut())
    try:
        with pytest.raises(Exception):  # noqa: B017, PT011 - it ends, whatever it raises
            connection.call(work, 5.0)
        with pytest.raises(concurrent.futures.CancelledError):
            connection.call(work, 5.0)
    finally:
        signal.signal(signal.SIGUSR1, before)
        connection.close()
