"""Tells the service manager (systemd) what the daemon does: sd_notify(3), written by hand.

`NOTIFY_SOCKET` names a datagram socket; each message is one datagram. Without it every call returns
at once. `WATCHDOG_USEC` asks for a message at least that often, and the manager kills a daemon that
sends none. That message is a proof: before it is sent, the daemon's thread has ticked the queues
and has taken and released the locks that every worker needs (`prove`). A handler that hangs delays
it in no way, because no lock is held while a handler runs. While handlers are loaded, and while the
daemon drains, each step that ends is the proof.
Guarantees: the variables leave the environment, so that no handler can speak for the daemon. At
most one wake-up of the daemon's thread for each half of the watchdog's time, and one for each
`EVERY` in which it woke anyway. The daemon never waits for the manager.
Fails: never. A manager that reads too slowly is told later; one that is gone is logged once.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, MutableMapping

from watcher.observe import log
from watcher.rules.names import display
from watcher.rules.service_messages import EXTENSION, InHand, extends, message

EVERY = 5.0  # seconds between two looks at the status
AGAIN = 1.0  # seconds after which a message that had no room is sent again
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceManager:
    """The manager that started this process, or none; the daemon's thread uses it.

    `address`: the path of its socket, "@NAME" for an abstract one, "" for none.
    `watchdog`: seconds within which it wants to hear of the daemon, None for never.
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        path = os.fsencode(address)
        self._address = b"\0" + path[1:] if path[:1] == b"@" else path
        self._half = (watchdog or 0.0) / 2
        self._next_proof = math.inf if watchdog is None else -math.inf  # when WATCHDOG=1 is due
        self._looked = -math.inf  # when the status was made last
        self._said = ""  # the status that the manager knows
        self._ready = False  # whether it knows that the daemon is ready
        self._extended = -math.inf
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None

    def tick(self, now: float, prove: Callable[[], None], describe: Callable[[], str]) -> float:
        """Say what is due; return the moment of the next call. The daemon has ticked its queues."""
        if not self._address:
            return math.inf
        if not self._ready:
            self._said, self._looked = describe(), now
            self._ready = self._send(READY="1", STATUS=self._said)
            if not self._ready:
                return now + AGAIN
        if now >= self._next_proof:
            prove()
            self._prove(now)
        return min(self._next_proof, self._look(now, describe))

    def step(self, now: float) -> None:
        """Say that the daemon's thread lives, if it is time: a long step has ended."""
        if self._address and now >= self._next_proof:
            self._prove(now)

    def _prove(self, now: float) -> None:
        self._send(WATCHDOG="1")
        self._next_proof = now + self._half

    def _look(self, now: float, describe: Callable[[], str]) -> float:
        """Send the status if it changed; return when to look again, if that is too early now."""
        if self._looked < now < self._looked + EVERY:
            return self._looked + EVERY
        said, self._looked = describe(), now
        if said != self._said and self._send(STATUS=said):
            self._said = said
        return math.inf

    def reloading(self) -> None:
        """Say that a reload begins; the next `tick` says that it has ended."""
        if self._address:
            self._ready = False
            self._send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def stopping(self, status: str) -> None:
        """Say that the daemon drains."""
        if self._address:
            self._send(STOPPING="1", STATUS=status)

    def draining(self, now: float, attempts: Iterable[InHand]) -> None:
        """Keep the manager from ending the drain while a handler may run by its timeout."""
        if not self._address:
            return
        self.step(now)
        if now >= self._extended + EXTENSION / 3 and extends(attempts):
            self._send(EXTEND_TIMEOUT_USEC=str(round(EXTENSION * 1e6)))
            self._extended = now

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket is not None:
            self._socket.close()
        self._address = b""

    def _send(self, **variables: str) -> bool:
        """Send one datagram; return whether it went out."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message(**variables), socket.MSG_DONTWAIT, self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            where = display(self._address.replace(b"\0", b"@"))
            words = f"NOTIFY_SOCKET {where}: {error.strerror or error}; it is told nothing more"
            log.event("", "service manager", words, logging.WARNING)
            self._address = b""
            return False
        return True


def from_environment(environment: MutableMapping[str, str]) -> ServiceManager:
    """Return the manager that the environment names, and take its variables away."""
    address, usec, pid = (environment.pop(name, "") for name in _VARIABLES)
    ours = pid in ("", str(os.getpid()))
    watchdog = int(usec) / 1e6 if ours and usec.isascii() and usec.isdigit() else 0.0
    if address[:1] not in ("/", "@") or address == "@":
        if address:
            words = f"NOTIFY_SOCKET {address!r}: neither a path nor @NAME; it is told nothing"
            log.event("", "service manager", words, logging.WARNING)
        return ServiceManager()
    return ServiceManager(address, watchdog or None)
