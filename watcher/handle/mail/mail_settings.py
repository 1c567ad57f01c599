"""What `lmtp` and `smtp` have in common in a configuration, and how their server is tried.

Fails: as `HandlerSettings`; a file that is named and cannot be read is BadConfiguration.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from watcher import durations
from watcher.errors import BadConfiguration
from watcher.handle.handler_settings import HandlerSettings
from watcher.rules import server_address
from watcher.rules.finding import BAD, OK, Check
from watcher.rules.mail_address import HEADERS, NO_SENDER, wrong_with
from watcher.rules.option import Option, WrongValue, one_of, period
from watcher.rules.server_address import ServerAddress

if TYPE_CHECKING:
    from watcher.handle.handler import Handler
    from watcher.handle.mail.mail_delivery import MailDelivery

TRIAL = 5.0  # seconds that `watcher check` waits for a server
_OTHERS = stat.S_IROTH | stat.S_IWOTH
_WORDS = ("starttls", "implicit", "none")


def _sender(value: object) -> str:
    if value not in (HEADERS, NO_SENDER):
        return _address(value)
    return str(value)


def _recipients(value: object) -> str | tuple[str, ...]:
    if isinstance(value, list):
        found = tuple(map(_address, value))
        if not found:
            raise WrongValue("it is empty")
        return found
    return HEADERS if value == HEADERS else _address(value)


def _address(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if why := wrong_with(text):
        raise WrongValue(why)
    return text


def absolute_path(value: object) -> str:
    """Read the absolute path of a file; raise ValueError."""
    if isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return value
    raise ValueError


class MailSettings(
    HandlerSettings,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"sender": "from"},
):
    """The options of both kinds; `rename`, because `from` is a word of Python."""

    sender: str | None = None
    to: str | tuple[str, ...] | None = None
    tls: str | None = None
    ca_file: str | None = None
    timeout: float = 300.0  # seconds

    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "from": Option(
            _sender,
            f'an address, "{HEADERS}", or "{NO_SENDER}" for none',
            "the metadata",
            "the envelope sender, to which the servers report what they cannot deliver",
        ),
        "to": Option(
            _recipients,
            f'an address, a list of addresses, or "{HEADERS}"',
            "the metadata",
            "the recipients",
        ),
        "tls": Option(
            one_of(*_WORDS),
            '"starttls", "implicit" or "none"',
            '"none" to this machine, else "starttls"',
            "how the connection is encrypted; the server's certificate must be valid for its name",
        ),
        "ca_file": Option(
            absolute_path,
            "the absolute path of a file",
            "those of the system",
            "the certificates (PEM) by which that of the server is checked",
        ),
        "timeout": Option(
            period, durations.EXPECTED, "5m", "time for one entry, with all its recipients"
        ),
    }

    @property
    def address(self) -> ServerAddress:
        """Where the server is; raises WrongValue."""
        raise NotImplementedError

    @property
    def login(self) -> tuple[str | None, str | None]:
        """The user, and the file with the password."""
        return None, None

    @property
    def tls_used(self) -> str:
        """How the connection is encrypted."""
        return self.tls or ("none" if self.address.is_local else "starttls")

    def mistake(self) -> tuple[str, str] | None:
        """Return the key of a wrong value and what was expected; None if all values are right."""
        kind = self.__struct_fields__[0]
        try:
            address = self.address
        except (WrongValue, UnicodeError) as error:
            return kind, f"{server_address.EXPECTED} ({error})"
        if address.path and self.tls_used != "none":
            return "tls", '"none": a Unix socket needs none'
        if self.ca_file is not None and self.tls_used == "none":
            return "ca_file", "tls beside it: nothing is checked without it"
        return None

    def load(self) -> Handler:
        """Return the handler; raise BadConfiguration if a file cannot be used."""
        return self._delivery()

    def _delivery(self) -> MailDelivery:
        from watcher.handle.mail.mail_delivery import MailDelivery, MailTerms

        user, password_file = self.login
        if password_file is not None:
            _check_secret(password_file)
        terms = MailTerms(
            self.address,
            self.__struct_fields__[0] == "lmtp",
            self.tls_used,
            self.timeout,
            self.sender,
            self.to,
            user,
            password_file,
            self.ca_file,
        )
        try:
            return MailDelivery(terms)
        except OSError as error:
            raise BadConfiguration(
                f"handler.ca_file: {self.ca_file}: expected a file of certificates (PEM);"
                f" {error.strerror or error}"
            ) from None

    def endless(self) -> str:
        """Return "": an attempt ends at its timeout."""
        return ""

    def try_target(self) -> Iterator[Check]:
        """Connect, greet, begin TLS, log in, and leave: no message is sent."""
        import time

        from watcher.handle.mail.mail_connection import MailConnection, Trouble
        from watcher.rules.mail_replies import Fate

        seconds = min(self.timeout, TRIAL)
        try:
            connection = MailConnection(self._delivery().access())
            connection.open(time.monotonic() + seconds, seconds)
        except Trouble as trouble:
            operator = trouble.outcome.fate is Fate.OPERATOR
            code = os.EX_CONFIG if operator else os.EX_UNAVAILABLE
            yield Check(BAD, "handler", f"{self.address}: {trouble}", code)
            return
        connection.leave()
        words = f"{self.address} greets" + (
            "" if self.tls_used == "none" else f" over TLS ({self.tls_used})"
        )
        yield Check(OK, "handler", words + (", and takes the password" if self.login[0] else ""))


def _check_secret(path: str) -> None:
    """Raise BadConfiguration for a password that cannot be read, or that others can."""
    from watcher.handle.mail.mail_delivery import read_password

    try:
        mode = os.stat(path).st_mode
        read_password(path)
    except OSError as error:
        raise BadConfiguration(f"handler.password_file: {path}: {error.strerror}") from None
    if mode & _OTHERS:
        raise BadConfiguration(
            f"handler.password_file: {path}: every user may read or write it; chmod 600 {path}"
        )
