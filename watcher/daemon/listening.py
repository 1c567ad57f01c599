"""Opens the socket on which the page is served.

Guarantees: a Unix socket is made with mode `UNIX_MODE` before any process can connect to it. The
socket of a daemon that was killed is replaced; one on which a process answers is not, nor is any
other kind of file.
Fails: Unavailable if the address is in use or not of this machine; NotPermitted; CannotCreate if
the file of a Unix socket cannot be made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import Self

from watcher.errors import CannotCreate, NotPermitted, Unavailable, WatcherError
from watcher.rules.http_address import HttpAddress
from watcher.rules.names import display

BACKLOG = 128
UNIX_MODE = 0o660
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)


class Listening:
    """An open socket, and the address that it has; `close` removes the file of a Unix socket."""

    def __init__(self, address: HttpAddress) -> None:
        self.asked = address
        self.address = address
        self._file: tuple[int, int] | None = None
        family = socket.AF_UNIX if address.path else socket.AF_INET6
        if not address.path and ":" not in address.host:
            family = socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if address.path:
                self._bind_file(os.fsencode(address.path))
            else:
                self._bind_port(address)
            self.socket.listen(BACKLOG)
        except OSError as error:
            self.close()
            raise _as_watcher_error(error, address) from None
        except WatcherError:
            self.close()
            raise

    def _bind_port(self, address: HttpAddress) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.socket.family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind((address.host, address.port))
        self.address = address._replace(port=self.socket.getsockname()[1])

    def _bind_file(self, path: bytes) -> None:
        _remove_stale(path)
        os.fchmod(self.socket.fileno(), UNIX_MODE)  # bind(2) gives the file this mode ...
        self.socket.bind(path)
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if stat.S_ISSOCK(status.st_mode):
                self._file = (status.st_dev, status.st_ino)
                os.chmod(f"/proc/self/fd/{fd}", UNIX_MODE)  # ... but for what the umask forbids
        finally:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, and remove its file if that is still its own."""
        self.socket.close()
        if self._file is not None:
            with contextlib.suppress(OSError):
                status = os.lstat(self.address.path)
                if (status.st_dev, status.st_ino) == self._file:
                    os.unlink(self.address.path)


def _remove_stale(path: bytes) -> None:
    """Remove the socket of a process that has ended; raise WatcherError for anything else."""
    shown = display(path)
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(before.st_mode):
        raise CannotCreate(f"{shown}: a file that is no socket is there: name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        code = client.connect_ex(path)
    if code in _NOT_ALLOWED:
        raise NotPermitted(f"{shown}: a socket of another user is there: name another path")
    if code != errno.ECONNREFUSED:  # connected, or its queue is full: a process has it open
        raise Unavailable(f"{shown}: another process serves there: stop it, or name another path")
    now = os.lstat(path)
    if (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino):
        os.unlink(path)


def _as_watcher_error(error: OSError, address: HttpAddress) -> WatcherError:
    shown = display(os.fsencode(str(address)))
    text = f"{shown}: cannot serve the page there: {error.strerror}"
    if error.errno in _NOT_ALLOWED:
        return NotPermitted(text)
    if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
        return Unavailable(f"{text}: name another address")
    return CannotCreate(text) if address.path else Unavailable(text)
