"""Where a NATS server is and how a program is let in: the options that all users of one share.

What the files of secrets hold is read when a connection is configured; the configuration only
names them.
Fails: BadConfiguration that names the option, the file, and what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from watcher.credentials.secret_file import read_secret
from watcher.errors import BadConfiguration
from watcher.rules.option import Option, WrongValue

if TYPE_CHECKING:
    import ssl

    from watcher.jetstream.connection import Access

PORT = 4222
_CREDENTIALS = re.compile(
    r"BEGIN NATS USER JWT-*\n[\w.-]+\n.*BEGIN USER NKEY SEED-*\n(?P<seed>\w+)(\n|$)", re.DOTALL
)
_TLS = "tls"
_SCHEMES = ("nats", _TLS)
EXPECTED = 'servers like "nats://HOST:4222" or "tls://HOST:4222", with commas between them'


def _path(value: object) -> str:
    if isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return value
    raise ValueError


def _file(help_text: str) -> Option:
    return Option(_path, "the absolute path of a file", "", help_text)


def _user(value: object) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise ValueError


SERVER_OPTIONS: Mapping[str, Option] = {
    "credentials_file": _file("a .creds file, with the user's JWT and key"),
    "token_file": _file("a file with a token"),
    "user": Option(_user, "a user's name", "", "the user; goes with password_file"),
    "password_file": _file("a file with the password"),
    "ca_file": _file("certificates to trust instead of the system's (PEM); TLS is used then"),
    "cert_file": _file("a certificate to show to the server (PEM); TLS is used then"),
    "key_file": _file("its key, if that is not in the same file (PEM, without a password)"),
}


class ServerSettings(NamedTuple):
    """The options by their names; `servers` as the configuration has them."""

    servers: str
    credentials_file: str | None = None
    token_file: str | None = None
    user: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers, each with its scheme and its port; raises WrongValue."""
        return tuple(_url(text.strip()) for text in self.servers.split(","))

    @property
    def shown(self) -> str:
        """The servers' hosts and ports, for a message."""
        return ", ".join(url.partition("://")[2] for url in self.urls)

    @property
    def uses_tls(self) -> bool:
        """Whether nothing may be sent without TLS."""
        return any((self.ca_file, self.cert_file)) or self.servers.startswith(f"{_TLS}:")

    def mistake(self) -> tuple[str, str] | None:
        """Return the option that is wrong ("" for the servers) and what was expected, or None."""
        try:
            urls = self.urls
        except WrongValue as error:
            return "", f"{EXPECTED} ({error})"
        if len({url.partition(":")[0] for url in urls}) > 1:
            return "", "either nats:// or tls:// for all servers"
        if (self.user is None) != (self.password_file is None):
            return ("user", "password_file beside it") if self.user else ("password_file", "user")
        ways = [self.credentials_file, self.token_file, self.user]
        if sum(way is not None for way in ways) > 1:
            return "credentials_file", "one of credentials_file, token_file and user"
        if self.key_file is not None and self.cert_file is None:
            return "key_file", "cert_file beside it"
        return None

    def check_package(self, place: str) -> None:
        """Raise BadConfiguration if what speaks with the server is not installed."""
        for package in ("nats", *(("nkeys",) if self.credentials_file else ())):
            if find_spec(package) is None:
                raise BadConfiguration(
                    f"{place}: needs the package {package}: pip install 'spool-watcher[nats]'"
                )

    def access(self, place: str) -> Access:
        """Return how a connection is made; `place` names the options in messages."""
        self.check_package(place)
        from watcher.jetstream.connection import Access

        return Access(
            self.urls,
            self._context(place) if self.uses_tls else None,
            _credentials(self.credentials_file, f"{place}.credentials_file"),
            self.user or "",
            _secret(self.password_file, f"{place}.password_file"),
            _secret(self.token_file, f"{place}.token_file"),
            has_certificate=self.cert_file is not None,
        )

    def _context(self, place: str) -> ssl.SSLContext:
        from watcher.credentials.tls_context import tls_context

        return tls_context(place, self.ca_file, self.cert_file, self.key_file)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise WrongValue(f"{text!r} is no URL") from None
    if parts.scheme not in _SCHEMES:
        raise WrongValue(f"{parts.scheme}:// is neither nats:// nor tls://")
    if "@" in parts.netloc:
        raise WrongValue("a secret does not belong here: see token_file and password_file")
    if not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise WrongValue(f"{text!r} has no host and port alone")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{port or PORT}"


def _secret(path: str | None, option: str) -> str:
    return "" if path is None else read_secret(path, option)


def _credentials(path: str | None, option: str) -> str:
    """Return the text of a .creds file. nats-py reads one without a JWT for ever."""
    text = _secret(path, option)
    if path is not None:
        import nkeys

        try:
            seed = _CREDENTIALS.search(text)
            nkeys.from_seed(bytearray(seed["seed"].encode() if seed else b""))
        except Exception:  # noqa: BLE001 - the library's errors are of many types
            raise BadConfiguration(
                f"{option}: {path}: expected a user's JWT and key, as `nsc` writes them"
            ) from None
    return text
