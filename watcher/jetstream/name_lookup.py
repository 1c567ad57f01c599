"""An event loop that looks names up in threads for which no exit of the process waits.

A name server that is away keeps getaddrinfo(3) for half a minute, and nothing ends that call. The
loops of asyncio make it in an executor, whose threads Python joins when the process exits.

Guarantees: a cancelled lookup ends at once for its caller; its thread ends with the call.
Fails: `getaddrinfo` raises what the call does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any


class LookupLoop(asyncio.SelectorEventLoop):
    """The event loop of a connection."""

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> list[Any]:
        """Look a name up, in a thread of its own."""
        future: asyncio.Future[list[Any]] = self.create_future()

        def end(found: list[Any] | OSError) -> None:
            if future.done():
                return  # the caller has gone
            if isinstance(found, OSError):
                future.set_exception(found)
            else:
                future.set_result(found)

        def look_up() -> None:
            found: list[Any] | OSError
            try:
                found = socket.getaddrinfo(host, port, **options)
            except OSError as error:
                found = error
            except (UnicodeError, OverflowError) as error:  # no name, no port
                found = OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.call_soon_threadsafe(end, found)

        threading.Thread(target=look_up, name="nats lookup", daemon=True).start()
        return await future
