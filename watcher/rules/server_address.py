"""Where a server listens to which a handler connects: host and port, or a Unix socket. PURE.

    mx.example.org:25   127.0.0.1:24   [::1]:24   /run/dovecot/lmtp

Fails: `parse` raises WrongValue.
"""

from __future__ import annotations

import ipaddress
import os
from typing import NamedTuple

from watcher.rules.option import WrongValue

EXPECTED = '"HOST:PORT", "[::1]:PORT" or the absolute path of a Unix socket'
LONGEST_PATH = 107  # bytes: sun_path of unix(7) without its final NUL
LONGEST_HOST = 253  # characters of a name in the DNS
_HIGHEST_PORT = 65535


class ServerAddress(NamedTuple):
    """A host and its port, or the path of a Unix socket and host ""."""

    host: str
    port: int
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Whether what is sent there never leaves this machine, by the address alone."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


def parse(text: str) -> ServerAddress:
    """Read an address; raise WrongValue."""
    if text.startswith("/"):
        if "\0" in text or len(os.fsencode(text)) > LONGEST_PATH:
            raise WrongValue(f"the path of a Unix socket has at most {LONGEST_PATH} bytes")
        return ServerAddress("", 0, text)
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= _HIGHEST_PORT):
        raise WrongValue("it has no port")
    if host.startswith("[") != (":" in host) or host.startswith("[") != host.endswith("]"):
        raise WrongValue("an IPv6 address is in brackets, [::1]:25")
    host = host.strip("[]")
    plain = host.isascii() and host.isprintable() and " " not in host and "/" not in host
    if not host or not plain or len(host) > LONGEST_HOST:
        raise WrongValue("it has no host")
    return ServerAddress(host, int(port))
