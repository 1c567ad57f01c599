"""Where the page is served: an address of this machine with a port, or a Unix socket. PURE.

    127.0.0.1:9180   [::1]:9180   localhost:9180   0.0.0.0:9180   unix:/run/watcher/page.sock

Guarantees: no name is looked up: a host is a number, or `localhost`, which is 127.0.0.1.
Fails: `parse` raises WrongValue.
"""

from __future__ import annotations

import ipaddress
import os
from typing import NamedTuple

from watcher.rules.option import WrongValue

EXPECTED = '"127.0.0.1:9180", "[::1]:9180" or "unix:/run/watcher.sock"'
LONGEST_PATH = 107  # bytes: sun_path of unix(7) without its final NUL
_UNIX = "unix:"
_HIGHEST_PORT = 65535
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class HttpAddress(NamedTuple):
    """An address: a host (a number) and a port, or the path of a Unix socket and host ""."""

    host: str
    port: int
    path: str = ""

    @property
    def is_private(self) -> bool:
        """Whether only processes of this machine can connect."""
        return bool(self.path) or ipaddress.ip_address(self.host).is_loopback

    @property
    def host_names(self) -> frozenset[str] | None:
        """What a request's header Host may say without its port; None: anything.

        A page of another site, whose name was made to lead to this machine, cannot read the
        answers of a loopback address then (DNS rebinding).
        """
        if self.path or not self.is_private:
            return None
        return _LOCAL_NAMES | {_in_url(self.host)}

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}" if self.path else f"{_in_url(self.host)}:{self.port}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse(text: str) -> HttpAddress:
    """Read an address; raise WrongValue."""
    if text.startswith(_UNIX):
        return _unix(text.removeprefix(_UNIX))
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise WrongValue("it has no host and port")
    if not (port.isascii() and port.isdecimal()) or int(port[:6]) > _HIGHEST_PORT:
        raise WrongValue("the port is a number from 0 to 65535")
    if host.startswith("[") != (":" in host) or host.startswith("[") != host.endswith("]"):
        raise WrongValue("an IPv6 address is in brackets, [::1]:9180")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    if "%" in host:
        raise WrongValue("an address with a zone is none that every client can name")
    try:
        return HttpAddress(str(ipaddress.ip_address(host)), int(port))
    except ValueError:
        raise WrongValue(f"{host!r} is no IP address") from None


def _unix(path: str) -> HttpAddress:
    if not os.path.isabs(path) or "\0" in path:
        raise WrongValue("the path of a Unix socket is absolute")
    try:
        length = len(os.fsencode(path))
    except UnicodeError:
        raise WrongValue("the path cannot be encoded") from None
    if length > LONGEST_PATH:
        raise WrongValue(f"the path of a Unix socket has at most {LONGEST_PATH} bytes")
    return HttpAddress("", 0, os.path.normpath(path))
